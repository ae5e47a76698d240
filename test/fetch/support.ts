import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  Sealer,
  packKey,
  type BlobId,
  type BlobKind,
  type BlobReference,
  type KeepJob,
  type KeepOutcome,
  type OpenFileJob,
  type PackId,
  type SealJob,
  type SealOutcome,
} from '../../src/repo/index.js';
import { sealUnlessKnown } from '../../src/repo/codec/seal-unless-known.js';
import { SealedFileReader } from '../../src/repo/codec/sealed-file-reader.js';
import { keepSealed } from '../../src/repo/codec/sealed-file-writer.js';
import { Cancelled, type Clock } from '../../src/base/index.js';
import {
  everyCapability,
  inOnePiece,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
} from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';

export const secrets = { repositoryId: '5'.repeat(32), encryptionKey: new Uint8Array(32).fill(7) };
export const { repositoryId } = secrets;
export const sealer = new Sealer(secrets);

/** Opens on the spot what the threads of a repository would open; counts, and can be made to wait. */
export class InlineCodec {
  opened = 0;

  async open(sealed: Uint8Array, reference: BlobReference, kind: BlobKind): Promise<Uint8Array> {
    this.opened += 1;
    await Promise.resolve();
    return sealer.open(sealed, reference, kind);
  }

  async openFile(job: OpenFileJob): Promise<Uint8Array | undefined> {
    await Promise.resolve();
    const sealed = new SealedFileReader().read(job.path, job.offsetBytes, job.reference.sealedBytes);
    if (sealed === undefined) return undefined;
    try {
      const plaintext = sealer.open(sealed, job.reference, job.kind);
      this.opened += 1;
      return plaintext;
    } catch {
      return undefined;
    }
  }

  async keep(jobs: readonly KeepJob[]): Promise<readonly KeepOutcome[]> {
    await Promise.resolve();
    return jobs.map((job) => keepSealed(sealer, job));
  }

  async seal(job: SealJob): Promise<SealOutcome> {
    await Promise.resolve();
    return sealUnlessKnown(sealer, job);
  }

  async look(paths: readonly string[]): Promise<readonly boolean[]> {
    await Promise.resolve();
    return paths.map((path) => existsSync(path));
  }
}

export function packIdOf(number: number): PackId {
  return number.toString(16).padStart(32, '0') as PackId;
}

/** Bytes that do not compress, different for each number. */
export function contentOf(number: number, lengthBytes: number): Uint8Array {
  const content = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 32) {
    createHash('sha256').update(`${number} ${at}`).digest().copy(content, at);
  }
  return Uint8Array.from(content);
}

/** For assertions whose failure should not print every byte. */
export function sameBytes(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && Buffer.compare(one, other) === 0;
}

export interface PackedBlob {
  readonly reference: BlobReference;
  readonly kind: BlobKind;
  readonly plaintext: Uint8Array;
  readonly sealed: Uint8Array;
}

export function sealBlob(
  plaintext: Uint8Array,
  place: { readonly packId: PackId; readonly counter: number; readonly offsetBytes: number },
  kind: BlobKind = 'chunk',
): PackedBlob {
  const id: BlobId = sealer.identify(plaintext);
  const sealed = sealer.seal(plaintext, kind, place.packId, place.counter, id);
  return { reference: { ...place, id, sealedBytes: sealed.length }, kind, plaintext, sealed };
}

/** Puts a pack of these blobs, with `gapBytes` of something else before each of them, into the store. */
export async function putPack(
  store: ObjectStore,
  packId: PackId,
  blobs: readonly { readonly plaintext: Uint8Array; readonly kind?: BlobKind }[],
  gapBytes = 0,
): Promise<PackedBlob[]> {
  const parts: Uint8Array[] = [Buffer.alloc(28, 'header')];
  let offsetBytes = 28;
  const packed = blobs.map(({ plaintext, kind }, position) => {
    parts.push(Buffer.alloc(gapBytes, 'gap'));
    offsetBytes += gapBytes;
    const blob = sealBlob(plaintext, { packId, counter: position + 1, offsetBytes }, kind);
    parts.push(blob.sealed);
    offsetBytes += blob.sealed.length;
    return blob;
  });
  await store.put(packKey(packId), parts);
  return packed;
}

/** A pack of incompressible chunks. */
export function putChunks(
  store: ObjectStore,
  packNumber: number,
  count: number,
  chunkBytes = 4096,
  gapBytes = 0,
): Promise<PackedBlob[]> {
  const chunks = Array.from({ length: count }, (_, index) => ({
    plaintext: contentOf(packNumber * 10_000 + index, chunkBytes),
  }));
  return putPack(store, packIdOf(packNumber), chunks, gapBytes);
}

export interface ScriptedGet {
  readonly key: ObjectKey;
  readonly range: ByteRange | undefined;
}

/** A store in memory that notes every `get`, can hold them back, and answers as it is told. */
export class ScriptedStore implements ObjectStore {
  readonly description = 'scripted:';
  readonly capabilities = everyCapability;
  readonly memory = new MemoryStore();
  readonly gets: ScriptedGet[] = [];
  stats = 0;
  /** Requests that were cancelled through their signal. */
  cancelled = 0;
  /** May throw, or change what was found. */
  onGet: (get: ScriptedGet, found: Uint8Array) => Uint8Array = (_get, found) => found;
  onStat: () => void = () => undefined;
  #isHolding = false;
  readonly #held: (() => void)[] = [];

  /** From now on answers wait for `release`. */
  hold(): void {
    this.#isHolding = true;
  }

  /** Lets so many of the waiting requests go on, oldest first; all, and later ones too, when no number is given. */
  release(count?: number): void {
    if (count === undefined) this.#isHolding = false;
    for (const go of this.#held.splice(0, count ?? this.#held.length)) go();
  }

  get holding(): number {
    return this.#held.length;
  }

  async get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array> {
    const get = { key, range };
    this.gets.push(get);
    if (this.#isHolding) await this.#beHeld(options?.signal);
    return this.onGet(get, await this.memory.get(key, range));
  }

  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array> {
    return inOnePiece(() => this.get(key, range, options));
  }

  put(key: ObjectKey, parts: readonly Uint8Array[]): Promise<void> {
    return this.memory.put(key, parts);
  }

  putIfAbsent(key: ObjectKey, parts: readonly Uint8Array[]): Promise<'created' | 'exists'> {
    return this.memory.putIfAbsent(key, parts);
  }

  list(prefix: string): AsyncIterable<ObjectInfo> {
    return this.memory.list(prefix);
  }

  async stat(key: ObjectKey): Promise<ObjectInfo | undefined> {
    this.stats += 1;
    this.onStat();
    return this.memory.stat(key);
  }

  delete(keys: ObjectKey | readonly ObjectKey[]): Promise<void> {
    return this.memory.delete(keys);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held.
  }

  async #beHeld(signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const cancel = (): void => {
        this.cancelled += 1;
        const position = this.#held.indexOf(go);
        if (position >= 0) this.#held.splice(position, 1);
        reject(new Cancelled('A request'));
      };
      const go = (): void => {
        signal?.removeEventListener('abort', cancel);
        resolve();
      };
      this.#held.push(go);
      signal?.addEventListener('abort', cancel);
    });
  }
}

/** Time that passes when the test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_700_000_000_000;
  readonly delays: number[] = [];
  readonly #sleepers = new Set<{ readonly wakeAtMs: number; readonly wake: () => void }>();

  /** What somebody set the host's clock forward by; may be negative. */
  wallOffsetMs = 0;

  now(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs + this.wallOffsetMs;
  }

  get sleeping(): number {
    return this.#sleepers.size;
  }

  async delay(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.delays.push(milliseconds);
    await new Promise<void>((resolve, reject) => {
      const cancel = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason as Error);
      };
      const wake = (): void => {
        signal.removeEventListener('abort', cancel);
        resolve();
      };
      const sleeper = { wakeAtMs: this.#nowMs + milliseconds, wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener('abort', cancel);
    });
  }

  advance(milliseconds: number): void {
    this.#nowMs += milliseconds;
    for (const sleeper of this.#sleepers) {
      if (sleeper.wakeAtMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}

/** Waits until something that nobody tells of has come about. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let turn = 0; turn < 20_000; turn += 1) {
    if (condition()) return;
    if (turn < 1000) await new Promise((resolve) => setImmediate(resolve));
    else await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`never happened: ${what}`);
}

/** Lets everything happen that needs only turns of the event loop. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
