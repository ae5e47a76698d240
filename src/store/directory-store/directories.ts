import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemErrorCode } from '../../base/index.js';

/** More directories than a repository has; beyond it we only ask the file system again. */
const rememberedMax = 4096;

/** The directories below a root, made when needed and durable before anything is put in them. */
export class DurableDirectories {
  readonly #root: string;
  readonly #durable = new Set<string>();

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * Makes `path` and its parents up to the root, but never the root: where that is gone, a disk is not mounted.
   * When it resolves, their entries survive power loss, whoever made them.
   */
  async ensure(path: string): Promise<void> {
    if (path === this.#root || this.#durable.has(path)) return;
    const parent = dirname(path);
    await this.ensure(parent);
    await mkdir(path).catch((error: unknown) => {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    });
    await syncDirectory(parent);
    if (this.#durable.size === rememberedMax) this.#durable.clear();
    this.#durable.add(path);
  }

  /** To be called when a directory turned out to be gone. */
  forget(): void {
    this.#durable.clear();
  }
}

/** Makes a directory and its missing parents, durably. */
export async function makeDurableDirectory(path: string): Promise<void> {
  const topmostMade = await mkdir(path, { recursive: true });
  if (topmostMade === undefined) return;
  for (let made = path; ; made = dirname(made)) {
    await syncDirectory(dirname(made));
    if (made === topmostMade) return;
  }
}

/** Makes the entries of a directory survive power loss, as far as its file system can. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some network file systems cannot sync directories; they make entries durable by themselves.
    const code = systemErrorCode(error);
    if (code !== 'EINVAL' && code !== 'ENOTSUP') throw error;
  } finally {
    await handle.close();
  }
}
