import type { Repository } from '../../src/repo/index.js';
import {
  ChunkMap,
  NodeCache,
  publishVersion,
  type BlobKind,
  type BlobReader,
  type BlobReference,
  type ChangedRange,
  type FileMap,
  type InodeMetadata,
  type PublishRequest,
  type Published,
  type PublishSource,
  type SourceFile,
  type SourceInode,
} from '../../src/repo/index.js';
import { PackWriter } from '../../src/repo/publish/pack-writer.js';
import {
  everyCapability,
  inOnePiece,
  StoreUnreachable,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
} from '../../src/store/index.js';

export const host = { hostId: '1'.repeat(32), hostName: 'alpha' };

export const metadata: InodeMetadata = {
  permissions: 0o644,
  uid: 0,
  gid: 0,
  accessTimeNs: 1n,
  modifyTimeNs: 2n,
  changeTimeNs: 3n,
  extendedAttributes: new Map(),
};

/** A source of plain files in the root directory, by name. */
export function sourceOf(files: Readonly<Record<string, SourceFile>>): PublishSource {
  const inodes: SourceInode[] = [
    {
      ...metadata,
      number: 1,
      kind: 'directory',
      entries: new Map(Object.keys(files).map((name, position) => [name, position + 2])),
    },
  ];
  for (const content of Object.values(files)) {
    inodes.push({ ...metadata, number: inodes.length + 1, kind: 'file', content });
  }
  return { inodes: () => inodes };
}

export function publish(
  repository: Repository,
  request: Partial<PublishRequest> & Pick<PublishRequest, 'source'>,
): Promise<Published> {
  return publishVersion({
    repository,
    vmName: 'vm',
    mountPath: '/vm',
    parent: undefined,
    lease: undefined,
    host,
    reader: repository.blobs,
    ...request,
  });
}

/** A chunk whose content follows from `seed`; half of it does not compress. */
export function patternChunk(chunkBytes: number, seed: number): Uint8Array {
  const chunk = Buffer.alloc(chunkBytes, `${seed} `);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let at = 0; at < chunkBytes / 2; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    chunk.writeInt32LE(state | 0, at);
  }
  return chunk;
}

/** A sparse file in memory that knows what changed since its base, as an overlay does. */
export class ModelFile implements SourceFile {
  readonly chunkBytes: number;
  /** Those that are not zero. */
  readonly chunks = new Map<number, Uint8Array>();
  sizeBytes = 0;
  base: FileMap | undefined;
  readonly #changed = new Map<number, 'data' | 'zero'>();

  constructor(chunkBytes: number, sizeBytes = 0) {
    this.chunkBytes = chunkBytes;
    this.resize(sizeBytes);
  }

  get chunkCount(): number {
    return Math.ceil(this.sizeBytes / this.chunkBytes);
  }

  write(index: number, seed: number): void {
    if (index >= this.chunkCount) return;
    const chunk = patternChunk(this.chunkBytes, seed);
    chunk.fill(0, Math.max(0, this.sizeBytes - index * this.chunkBytes));
    this.chunks.set(index, chunk);
    this.#changed.set(index, 'data');
  }

  /** `zero`: known to be zero, as after a hole was punched; `data`: only reading tells. */
  clear(first: number, count: number, as: 'data' | 'zero'): void {
    for (let index = first; index < Math.min(first + count, this.chunkCount); index += 1) {
      this.chunks.delete(index);
      this.#changed.set(index, as);
    }
  }

  /** Reported as changed though nothing did. */
  touch(index: number): void {
    if (index < this.chunkCount) this.#changed.set(index, 'data');
  }

  resize(sizeBytes: number): void {
    const grows = sizeBytes > this.sizeBytes;
    if (grows && this.sizeBytes % this.chunkBytes > 0) this.#changed.set(this.chunkCount - 1, 'data');
    const kept = Math.ceil(sizeBytes / this.chunkBytes);
    this.clear(kept, this.chunkCount, 'zero');
    this.sizeBytes = sizeBytes;
    this.chunks.get(kept - 1)?.fill(0, sizeBytes - (kept - 1) * this.chunkBytes);
  }

  /** What was published is the base of what comes next. */
  published(map: FileMap | undefined): void {
    this.base = map;
    this.#changed.clear();
  }

  async *changedChunks(): AsyncGenerator<ChangedRange, void> {
    const indexes = [...this.#changed.keys()].filter((index) => index < this.chunkCount);
    indexes.sort((one, other) => one - other);
    for (let at = 0; at < indexes.length;) {
      const first = indexes[at]!;
      const kind = this.#changed.get(first);
      let count = 1;
      while (indexes[at + count] === first + count && this.#changed.get(first + count) === kind) count += 1;
      yield kind === 'zero' ? { first, count, zero: true } : { first, count };
      at += count;
    }
  }

  readChunks(first: number, into: Uint8Array): void {
    into.fill(0);
    for (let at = 0; at < into.length; at += this.chunkBytes) {
      const chunk = this.chunks.get(first + at / this.chunkBytes);
      if (chunk !== undefined) into.set(chunk, at);
    }
  }
}

/** Stores one blob in a pack of its own, whatever it says, and whatever it claims to be. */
export async function writeBlob(
  repository: Repository,
  plaintext: Uint8Array,
  kind: BlobKind,
  id = repository.sealer.identify(plaintext),
): Promise<BlobReference> {
  const packs = new PackWriter(repository.store, repository.sealer, undefined);
  const reservation = packs.reserve(1);
  const { packId, firstCounter: counter } = reservation;
  const sealed = repository.sealer.seal(plaintext, kind, packId, counter, id);
  const reference = packs.append(reservation, {
    kind,
    id,
    counter,
    plaintextBytes: plaintext.length,
    sealed,
  });
  await packs.release(reservation);
  await packs.finish();
  return reference;
}

/** The chunks that are not zero, as a version has them. */
export async function readChunks(map: FileMap, reader: BlobReader): Promise<Map<number, Uint8Array>> {
  const chunkMap = new ChunkMap(map, reader, new NodeCache());
  const chunks = new Map<number, Uint8Array>();
  for await (const { index, reference } of chunkMap.entries(0, chunkMap.chunkCount)) {
    chunks.set(index, await reader.readBlob(reference, 'chunk'));
  }
  return chunks;
}

/** Why two files differ, or undefined. Quicker, and easier to read in a failure, than a deep comparison of bytes. */
export function difference(
  expected: ReadonlyMap<number, Uint8Array>,
  found: ReadonlyMap<number, Uint8Array>,
): string | undefined {
  for (const [index, chunk] of expected) {
    const other = found.get(index);
    const isZero = chunk.every((byte) => byte === 0);
    if (other === undefined ? !isZero : Buffer.compare(chunk, other) !== 0) return `chunk ${index} differs`;
  }
  for (const index of found.keys()) if (!expected.has(index)) return `chunk ${index} should be zero`;
  return undefined;
}

/** Counts requests, and fails one of them: before it is carried out, or after, as when its answer got lost. */
export class FailingStore implements ObjectStore {
  readonly description = 'failing:';
  readonly capabilities = everyCapability;
  readonly #inner: ObjectStore;
  #failAt = Infinity;
  #mode: 'before' | 'after' = 'before';
  requests = 0;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
  }

  /** Fails request number `failAt`, counting from 1 from now on. */
  arm(failAt: number, mode: 'before' | 'after'): void {
    this.requests = 0;
    this.#failAt = failAt;
    this.#mode = mode;
  }

  get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array> {
    return this.#request(() => this.#inner.get(key, range, options));
  }

  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array> {
    return inOnePiece(() => this.get(key, range, options));
  }

  put(key: ObjectKey, parts: readonly Uint8Array[], options?: RequestOptions): Promise<void> {
    return this.#request(() => this.#inner.put(key, parts, options));
  }

  putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options?: RequestOptions,
  ): Promise<'created' | 'exists'> {
    return this.#request(() => this.#inner.putIfAbsent(key, parts, options));
  }

  async *list(
    prefix: string,
    options?: RequestOptions & { readonly after?: ObjectKey },
  ): AsyncIterable<ObjectInfo> {
    await this.#request(async () => undefined);
    yield* this.#inner.list(prefix, options);
  }

  stat(key: ObjectKey, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    return this.#request(() => this.#inner.stat(key, options));
  }

  delete(keys: ObjectKey | readonly ObjectKey[], options?: RequestOptions): Promise<void> {
    return this.#request(() => this.#inner.delete(keys, options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }

  async #request<T>(carryOut: () => Promise<T>): Promise<T> {
    this.requests += 1;
    const fails = this.requests === this.#failAt;
    const failure = new StoreUnreachable({
      store: this.description,
      key: undefined,
      reason: 'a test says so',
    });
    if (fails && this.#mode === 'before') throw failure;
    const result = await carryOut();
    if (fails) throw failure;
    return result;
  }
}
