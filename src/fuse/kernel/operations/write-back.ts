import { setTimeout as delay } from 'node:timers/promises';
import type { MaybePromise } from '../../../base/index.js';
import { FileSystemError } from '../../../fs/index.js';
import type { Exchange } from '../exchange.js';

/** How long what is short is left alone: somebody has to make room, which takes longer. */
const retryMs = 1000;

/**
 * Pages that programs changed through mappings. The kernel writes them back when it wants, and forgets that they were
 * changed even if that fails: the program, and later the published VM, would have lost them in silence. So where the
 * local disk is full, or something else is short, they wait until there is room, as a hypervisor stops a guest whose disk is full. Bounded by the
 * kernel, which has so many requests of this kind under way and no more.
 */
export class WriteBack {
  #waiting = 0;
  #since: Date | undefined;

  /** Since when pages wait for room; undefined while none do. */
  get waitingSince(): Date | undefined {
    return this.#since;
  }

  /** Does `write`, again and again while there is no room and the mount is served. */
  run(exchange: Exchange, write: () => MaybePromise<number>): MaybePromise<number> {
    try {
      const written = write();
      if (!(written instanceof Promise)) return written;
      return written.catch((error: unknown) => this.#wait(exchange, write, error));
    } catch (error) {
      return this.#wait(exchange, write, error);
    }
  }

  async #wait(exchange: Exchange, write: () => MaybePromise<number>, error: unknown): Promise<number> {
    if (!isShortage(error)) throw error;
    exchange.abort ??= new AbortController();
    const { signal } = exchange.abort;
    this.#waiting += 1;
    this.#since ??= new Date();
    try {
      for (;;) {
        await delay(retryMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) throw error;
        const written = await attempt(write);
        if (written !== undefined) return written;
      }
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#since = undefined;
    }
  }
}

/** Undefined while there is no room. */
async function attempt(write: () => MaybePromise<number>): Promise<number | undefined> {
  try {
    return await write();
  } catch (error) {
    if (isShortage(error)) return undefined;
    throw error;
  }
}

const shortages: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM']);

function isShortage(error: unknown): boolean {
  return error instanceof FileSystemError && shortages.has(error.errno);
}
