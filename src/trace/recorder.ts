import { limits, systemClock, type Clock } from '../base/index.js';
import type { Trace, TraceEntry, VersionNumber } from '../repo/index.js';

export interface TraceRecorderOptions {
  /** That is resumed. */
  readonly version: VersionNumber;
  /** The repository's. */
  readonly chunkBytes: number;
  readonly clock?: Clock;
  /** Milliseconds that no change of the host's clock disturbs. */
  readonly monotonicMs?: () => number;
}

/** The bit of `TraceEntry.seenIn` that stands for the newest resume. */
const newestResume = 1;

/**
 * Notes which chunks one resume touches, and when; time counts from its making. What is beyond the bounds of a trace
 * (`limits.traceTouches`, `traceFiles`, `traceDurationMs`) is not noted.
 *
 * Memory: about 100 bytes a touch.
 */
export class TraceRecorder {
  readonly #version: VersionNumber;
  readonly #chunkBytes: number;
  readonly #startedAt: Date;
  readonly #monotonicMs: () => number;
  readonly #startedMs: number;
  readonly #touched = new Map<string, Set<number>>();
  readonly #entries: TraceEntry[] = [];

  constructor(options: TraceRecorderOptions) {
    this.#version = options.version;
    this.#chunkBytes = options.chunkBytes;
    this.#startedAt = new Date((options.clock ?? systemClock).wallMs());
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
    this.#startedMs = this.#monotonicMs();
  }

  /** Touches that were noted. */
  get count(): number {
    return this.#entries.length;
  }

  /** A demand for a chunk of a file. For the thread that answers the kernel: a repeated touch costs two look-ups. */
  touched(path: string, chunkIndex: number): void {
    if (this.#entries.length >= limits.traceTouches) return;
    let chunks = this.#touched.get(path);
    if (chunks === undefined) {
      if (this.#touched.size >= limits.traceFiles) return;
      chunks = new Set();
      this.#touched.set(path, chunks);
    }
    if (chunks.has(chunkIndex)) return;
    const atMs = Math.round(this.#monotonicMs() - this.#startedMs);
    if (atMs > limits.traceDurationMs) return;
    chunks.add(chunkIndex);
    this.#entries.push({ path, chunkIndex, atMs, seenIn: newestResume });
  }

  /** What was noted until now. */
  recording(): Trace {
    return {
      version: this.#version,
      recordedAt: this.#startedAt,
      chunkBytes: this.#chunkBytes,
      resumes: 1,
      entries: [...this.#entries],
    };
  }
}
