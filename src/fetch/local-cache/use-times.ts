import type { utimes } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { limits, type Clock } from '../../base/index.js';

/**
 * When entries were used last, written to their files so that eviction spares them: now and then, and some time after the
 * use, when whoever waits for the entry has long got it. Nothing depends on it: what cannot be written, and what a killed
 * process did not write, is lost.
 */
export class UseTimes implements AsyncDisposable {
  readonly #utimes: typeof utimes;
  readonly #clock: Clock;
  /** When an entry's time was noted last. */
  readonly #noted = new LRUCache<string, number>({ max: limits.localCacheUsesRemembered });
  /** Seconds since 1970, by the path of the entry. */
  readonly #unwritten = new Map<string, number>();
  readonly #closing = new AbortController();
  #writing: Promise<void> | undefined;

  constructor(clock: Clock, write: typeof utimes) {
    this.#clock = clock;
    this.#utimes = write;
  }

  /** The entry was just made, so that its file knows. */
  made(path: string): void {
    this.#noted.set(path, this.#clock.now());
  }

  used(path: string): void {
    const now = this.#clock.now();
    if (now - (this.#noted.get(path) ?? -Infinity) < limits.localCacheUseMs) return;
    this.#noted.set(path, now);
    if (this.#unwritten.size >= limits.localCacheUsesRemembered) return;
    this.#unwritten.set(path, this.#clock.wallMs() / 1000);
    this.#writing ??= this.#writeLater().finally(() => (this.#writing = undefined));
  }

  /** Writes what was noted until now. */
  async write(): Promise<void> {
    const entries = [...this.#unwritten];
    this.#unwritten.clear();
    for (let at = 0; at < entries.length; at += limits.localWritesInFlight) {
      const some = entries.slice(at, at + limits.localWritesInFlight);
      await Promise.all(
        some.map(([path, seconds]) => this.#utimes(path, seconds, seconds).catch(() => undefined)),
      );
    }
  }

  /** Writes what was noted. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#writing;
  }

  async #writeLater(): Promise<void> {
    // Closing cuts the delay short.
    await this.#clock.delay(limits.localCacheUseDelayMs, this.#closing.signal).catch(() => undefined);
    await this.write();
  }
}
