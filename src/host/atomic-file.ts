import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemErrorCode } from '../base/index.js';

/** Replaces a file (mode 0600): a reader sees the old or the new content, and the new one survives power loss. */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  await withTemporaryFile(path, content, (temporary) => rename(temporary, path));
}

/** Creates a file (mode 0600) unless it is there. Exactly one of concurrent callers gets `created`; nobody sees half a file. */
export async function createFile(path: string, content: string): Promise<'created' | 'exists'> {
  try {
    await withTemporaryFile(path, content, (temporary) => link(temporary, path));
    return 'created';
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return 'exists';
    throw error;
  }
}

/** The content of a file, or undefined when there is none. */
export async function readFileIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function withTemporaryFile(
  path: string,
  content: string | Uint8Array,
  place: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await place(temporary);
    await syncDirectory(dirname(path));
  } finally {
    await rm(temporary, { force: true });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
