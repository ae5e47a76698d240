import * as v from 'valibot';
import type { RepositoryHeader } from '../repo/index.js';
import { readFileIfPresent, replaceFile } from './atomic-file.js';

const schema = v.object({
  repositoryId: v.pipe(v.string(), v.regex(/^[0-9a-z-]+$/)),
  version: v.number(),
  chunkBytes: v.number(),
});

/** A hint, not a promise: one that is absent or damaged means that the store must be asked. */
export async function readRepositoryRecord(path: string): Promise<RepositoryHeader | undefined> {
  try {
    const content = await readFileIfPresent(path);
    return content === undefined ? undefined : v.parse(schema, JSON.parse(content));
  } catch {
    return undefined;
  }
}

export async function writeRepositoryRecord(path: string, header: RepositoryHeader): Promise<void> {
  const { repositoryId, version, chunkBytes } = header;
  const content = `${JSON.stringify({ repositoryId, version, chunkBytes })}\n`;
  if ((await readFileIfPresent(path)) === content) return;
  await replaceFile(path, content);
}
