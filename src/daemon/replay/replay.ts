import { freemem } from 'node:os';
import { join } from 'node:path';
import createDebug from 'debug';
import { Cancelled, limits } from '../../base/index.js';
import type { BaseFile, Fetcher } from '../../fetch/index.js';
import type { Engine } from '../../fuse/index.js';
import { manifestPaths, type BlobReference, type Manifest, type Touch } from '../../repo/index.js';
import { chunkKey, TraceEvidence, type Probes } from '../../trace/index.js';
import type { ReplayPlan } from '../explain/index.js';
import type { PulledRange } from './puller-protocol.js';
import type { Puller } from './puller.js';

const debug = createDebug('isr:daemon:replay');

export interface ReplayRequest {
  /** In the order in which they will be wanted. */
  readonly chunks: readonly Touch[];
  /** Told what was pulled, and knows what must not be. */
  readonly probes: Pick<Probes, 'isProbe' | 'isSample' | 'replayed' | 'chunksPerSample'>;
  readonly manifest: Manifest;
  readonly fetcher: Fetcher;
  readonly engine: Pick<Engine, 'replayFor'>;
  readonly mountPath: string;
  /** Owned by the replay. Undefined: chunks come as far as this host, not into the page cache. */
  readonly puller: Puller | undefined;
}

/** How a replay goes. */
export interface ReplayStatus {
  /** Chunks that the trace says are wanted; how many of them are on this host by now, and in the page cache. */
  readonly chunks: number;
  readonly localChunks: number;
  readonly pulledChunks: number;
  readonly isDone: boolean;
  /** It waits, because what the guest touches is not what the trace names. */
  readonly isHeld: boolean;
}

/** A time in which a replay waits. */
class Hold {
  readonly #ended: Promise<void>;
  end: () => void = () => undefined;

  constructor() {
    this.#ended = new Promise((resolve) => (this.end = resolve));
  }

  /** Resolves when it ends, or the signal fires. */
  async endedOr(signal: AbortSignal): Promise<void> {
    let giveUp: () => void = () => undefined;
    const aborted = new Promise<void>((resolve) => (giveUp = resolve));
    signal.addEventListener('abort', giveUp, { once: true });
    await Promise.race([this.#ended, aborted]);
    signal.removeEventListener('abort', giveUp);
  }
}

/** A chunk on its way to the page cache. */
interface Pulled extends PulledRange {
  readonly touch: Touch;
}

/**
 * Brings chunks in the order in which a guest will want them, before it does: onto this host, and from there into the
 * kernel's page cache. Never in the way of demand, and never an error: what goes wrong shows when it is really wanted.
 */
export class Replay implements AsyncDisposable {
  readonly #request: ReplayRequest;
  readonly #stop = new AbortController();
  readonly #done: Promise<unknown>;
  /** On this host, and not yet asked of the kernel. */
  readonly #waiting: Pulled[] = [];
  /** Beyond this, the page cache would push out what it brought before. */
  #pullableBytes = freemem() / 2;
  #waitingBytes = 0;
  #onLocal: () => void = () => undefined;
  #onRoom: () => void = () => undefined;
  /** Which chunks there are, and whether each is on this host by now. */
  readonly #isHere: Map<string, boolean>;
  #localChunks = 0;
  #pulledChunks = 0;
  #isFetched = false;
  #isDone = false;
  readonly #evidence: TraceEvidence;
  /** Chunks that the guest was seen to touch: each counts once. */
  readonly #seen = new Set<string>();
  #hold: Hold | undefined;

  /** Begins at once. */
  constructor(request: ReplayRequest) {
    this.#request = request;
    this.#evidence = new TraceEvidence(request.probes.chunksPerSample);
    this.#isHere = new Map(request.chunks.map((touch) => [chunkKey(touch), false]));
    this.#done = Promise.all([this.#fetch(), this.#pull()]).finally(() => (this.#isDone = true));
  }

  status(): ReplayStatus {
    return {
      chunks: this.#request.chunks.length,
      localChunks: this.#localChunks,
      pulledChunks: this.#pulledChunks,
      isDone: this.#isDone,
      isHeld: this.#hold !== undefined && !this.#isDone,
    };
  }

  /** What it has to do with a chunk. */
  planFor(chunk: Pick<Touch, 'path' | 'chunkIndex'>): ReplayPlan {
    const isHere = this.#isHere.get(chunkKey(chunk));
    if (isHere === undefined) return 'untraced';
    if (this.#request.probes.isProbe(chunk)) return 'sample';
    return isHere ? 'came' : 'toCome';
  }

  /** Whether it is going to bring the chunk. */
  isBringing(chunk: Pick<Touch, 'path' | 'chunkIndex'>): boolean {
    return !this.#isDone && this.#hold === undefined && this.#isHere.get(chunkKey(chunk)) === false;
  }

  /** The guest read a chunk and had to wait. As long as what it touches speaks against the trace, nothing more is asked for. */
  touched(chunk: Pick<Touch, 'path' | 'chunkIndex'>): void {
    const key = chunkKey(chunk);
    if (this.#isDone || this.#seen.has(key) || this.#seen.size >= limits.traceTouches) return;
    this.#seen.add(key);
    const isTraced = this.#isHere.has(key);
    const isSample = this.#request.probes.isSample(chunk);
    this.#evidence.touched(isSample ? 'sample' : isTraced ? 'other' : 'untraced');
    if (this.#evidence.isAgainst) this.#hold ??= new Hold();
    else this.#goOn();
  }

  /** Resolves when it has brought all, or was stopped. Rejects as closing it does. */
  async whenDone(): Promise<void> {
    await this.#done;
  }

  /** Stops it where it is. Afterwards no process of it uses the mount. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#goOn();
    this.#onLocal();
    this.#onRoom();
    await this.#done;
  }

  async #fetch(): Promise<void> {
    const { signal } = this.#stop;
    const places = new Map<BlobReference, Pulled>();
    try {
      await this.#request.fetcher.warmChunks(this.#references(places), {
        fetchClass: 'replay',
        signal,
        turn: async (over) => {
          while (this.#hold !== undefined && !over.aborted) await this.#hold.endedOr(over);
        },
        onChunk: (reference) => {
          const chunk = places.get(reference);
          places.delete(reference);
          if (chunk !== undefined) this.#arrived(chunk);
        },
      });
    } catch (error) {
      if (!(error instanceof Cancelled)) debug('a replay ended early: %o', error);
    } finally {
      this.#isFetched = true;
      this.#onLocal();
    }
  }

  #goOn(): void {
    this.#hold?.end();
    this.#hold = undefined;
  }

  /** No faster than the kernel takes what has arrived. */
  async *#references(places: Map<BlobReference, Pulled>): AsyncGenerator<BlobReference, void> {
    const { chunks, mountPath } = this.#request;
    const { signal } = this.#stop;
    const files = this.#files();
    for (const touch of chunks) {
      const file = files.get(touch.path);
      if (file === undefined) continue;
      while (this.#waitingBytes > limits.replayLocalBytes && !signal.aborted) {
        await new Promise<void>((resolve) => (this.#onRoom = resolve));
      }
      const entry = await file.chunk(touch.chunkIndex, { fetchClass: 'replay', signal });
      if (entry === undefined || entry === 'zero') continue;
      const { chunkBytes, sizeBytes } = file.map;
      const offsetBytes = touch.chunkIndex * chunkBytes;
      const lengthBytes = Math.min(chunkBytes, sizeBytes - offsetBytes);
      places.set(entry, { touch, path: join(mountPath, touch.path), offsetBytes, lengthBytes });
      yield entry;
    }
  }

  #files(): ReadonlyMap<string, BaseFile> {
    const { manifest, fetcher } = this.#request;
    const files = new Map<string, BaseFile>();
    for (const [number, path] of manifestPaths(manifest)) {
      const inode = manifest.inodes.get(number);
      if (inode?.kind === 'file') files.set(path, fetcher.openFile(inode.content));
    }
    return files;
  }

  #arrived(chunk: Pulled): void {
    const { probes, puller } = this.#request;
    this.#localChunks += 1;
    this.#isHere.set(chunkKey(chunk.touch), true);
    if (puller === undefined || probes.isProbe(chunk.touch)) return;
    this.#pullableBytes -= chunk.lengthBytes;
    if (this.#pullableBytes < 0) return;
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.lengthBytes;
    this.#onLocal();
  }

  async #pull(): Promise<void> {
    const { engine, probes, puller } = this.#request;
    if (puller === undefined) return;
    engine.replayFor?.(puller.pid);
    try {
      const stopped = whenAborted(this.#stop.signal);
      // One batch is under way while the next is being made ready.
      let earlier = Promise.resolve();
      for (let batch = await this.#next(); batch !== undefined; batch = await this.#next()) {
        const pulled = puller.pull(joined(batch));
        await Promise.race([earlier, stopped]);
        earlier = pulled;
        for (const { touch } of batch) probes.replayed(touch);
        this.#pulledChunks += batch.length;
      }
      await Promise.race([earlier, stopped]);
    } finally {
      engine.replayFor?.(undefined);
      await puller[Symbol.asyncDispose]();
    }
  }

  /** The next chunks that are on this host; undefined when there will be none. */
  async #next(): Promise<readonly Pulled[] | undefined> {
    const { signal } = this.#stop;
    while (this.#waiting.length === 0 && !this.#isFetched && !signal.aborted) {
      await new Promise<void>((resolve) => (this.#onLocal = resolve));
    }
    if (this.#waiting.length === 0 || signal.aborted) return undefined;
    const batch = this.#waiting.splice(0, limits.replayBatchChunks);
    this.#waitingBytes -= batch.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    this.#onRoom();
    return batch;
  }
}

/** Ranges that follow each other in a file become one. */
function joined(ranges: readonly PulledRange[]): readonly PulledRange[] {
  const result: PulledRange[] = [];
  for (const { path, offsetBytes, lengthBytes } of ranges) {
    const last = result.at(-1);
    if (last?.path === path && last.offsetBytes + last.lengthBytes === offsetBytes) {
      result[result.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    } else result.push({ path, offsetBytes, lengthBytes });
  }
  return result;
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
