import { Cancelled, limits, type MaybePromise } from '../base/index.js';
import type {
  DemandWait,
  FetchClass,
  FetchOptions,
  SoughtBytes,
  StalledRequest,
  StallListener,
} from '../fetch/index.js';
import type { LocalReadTable } from '../resident/index.js';
import { FileSystemError } from './errors.js';
import { newPageEdges, type FileContent, type PageEdges } from './file-content.js';
import { FirstTouches, type TouchListener } from './first-touches.js';
import type { Gate } from './gate.js';
import type { Handles, OpenFile } from './handles.js';
import { HoleSearch } from './hole-search.js';
import type { FileInode } from './inode.js';
import type { Overlay } from './overlay.js';
import { pageBytes } from './page-bitmap.js';
import { notLocal, type HandleId, type ReadIntent } from './types.js';

/** Half-open, in bytes. */
interface ByteInterval {
  readonly startBytes: number;
  readonly endBytes: number;
}

/**
 * Open files: reading, writing and making holes. What is local is answered at once; what needs bytes of the base that
 * are not in memory first waits for them, and then happens within one turn, so that no two changes of a page mix.
 */
export class FileAccess {
  readonly handles: Handles;
  readonly #overlay: Overlay;
  readonly #gate: Gate;
  readonly #now: () => bigint;
  readonly #onError: (error: unknown) => void;
  #localReads: LocalReadTable | undefined;
  #touches: FirstTouches | undefined;
  #stalls: StallListener | undefined;
  /** As they were when a file was waited for first: looking a path up takes as long as there are names. */
  readonly #stalledPaths = new WeakMap<FileInode, string>();
  /** For changes that are made at once. */
  readonly #edges = newPageEdges();

  constructor(parts: {
    readonly overlay: Overlay;
    readonly gate: Gate;
    readonly handles: Handles;
    readonly now: () => bigint;
    readonly onError: (error: unknown) => void;
  }) {
    this.#overlay = parts.overlay;
    this.#gate = parts.gate;
    this.handles = parts.handles;
    this.#now = parts.now;
    this.#onError = parts.onError;
  }

  /** From now on, what is read in place is entered into the table. */
  share(table: LocalReadTable): void {
    this.#localReads = table;
  }

  watchTouches(listener: TouchListener | undefined): void {
    this.#touches = listener && new FirstTouches(listener, (file) => this.#overlay.table.pathOf(file));
  }

  watchStalls(listener: StallListener | undefined): void {
    this.#stalls = listener;
  }

  read(
    handle: HandleId,
    offsetBytes: number,
    into: Uint8Array,
    intent: ReadIntent,
    signal: AbortSignal | undefined,
  ): MaybePromise<number | typeof notLocal> {
    const open = this.handles.get(handle);
    const { content } = open.file;
    checkOffset(offsetBytes);
    const lengthBytes = Math.min(into.length, content.sizeBytes - offsetBytes);
    if (lengthBytes <= 0) return 0;
    const wanted = lengthBytes === into.length ? into : into.subarray(0, lengthBytes);
    if (intent === 'replay') return this.#replay(open.file, offsetBytes, wanted, signal);
    if (content.readNow(offsetBytes, wanted)) {
      open.served(offsetBytes, lengthBytes);
      this.#touches?.note(open.file, offsetBytes, lengthBytes);
      if (this.#localReads !== undefined) {
        content.share(this.#localReads, open.file.number, offsetBytes, lengthBytes);
      }
      this.#fetchAhead(open);
      return lengthBytes;
    }
    const mayRefuse = intent === 'ahead' && !open.continuesStream(offsetBytes);
    if (mayRefuse && !content.isLocal(offsetBytes, lengthBytes, limits.openBytesAhead)) return notLocal;
    open.served(offsetBytes, lengthBytes);
    this.#touches?.note(open.file, offsetBytes, lengthBytes);
    this.#fetchAhead(open);
    const wait = this.#stalled(open.file, 'read', offsetBytes, lengthBytes);
    return this.#readLater(open.file, offsetBytes, wanted, { ...optionsOf('demand', signal), wait });
  }

  write(
    handle: HandleId,
    offsetBytes: number,
    data: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<number> {
    const { file } = this.#writable(handle);
    checkOffset(offsetBytes);
    checkSize(offsetBytes + data.length);
    if (data.length === 0) return 0;
    if (this.#gate.isClosed() || !file.content.loadEdges(offsetBytes, data.length, this.#edges)) {
      return this.#writeLater(handle, offsetBytes, data, signal);
    }
    this.#overlay.write(file, offsetBytes, data, this.#edges, this.#now());
    return data.length;
  }

  /** Makes what the range covers of the file zero; with `mayGrow` the file then reaches to its end. */
  writeZeros(
    handle: HandleId,
    offsetBytes: number,
    lengthBytes: number,
    mayGrow: boolean,
    signal: AbortSignal | undefined,
  ): MaybePromise<void> {
    return this.#edit(
      handle,
      signal,
      (content) => coveredRange(content, offsetBytes, offsetBytes + lengthBytes),
      (file, edges, range) => {
        const { sizeBytes } = file.content;
        const grown = mayGrow ? Math.max(sizeBytes, offsetBytes + lengthBytes) : sizeBytes;
        this.#overlay.writeZeros(file, { ...range, sizeBytes: grown }, edges, this.#now());
      },
    );
  }

  /** Where data or a hole starts in a range of a file; `limitBytes` or the end of the file where there is none. */
  find(
    handle: HandleId,
    sought: SoughtBytes,
    range: { readonly startBytes: number; readonly limitBytes: number },
    signal: AbortSignal | undefined,
  ): MaybePromise<number> {
    const { file } = this.handles.get(handle);
    const search = new HoleSearch(file.content, sought, range.startBytes, range.limitBytes);
    return search.now() ?? this.#findLater(file, search, range.startBytes, signal);
  }

  /** The file behind a handle that is open for writing. */
  writableFile(handle: HandleId): FileInode {
    return this.#writable(handle).file;
  }

  #writable(handle: HandleId): OpenFile {
    const open = this.handles.get(handle);
    if (!open.isWritable) throw new FileSystemError('EBADF', 'The file is open for reading only.');
    return open;
  }

  #fetchAhead(open: OpenFile): void {
    const { content } = open.file;
    if (!content.baseHasData) return;
    open.fetchAhead((startBytes, lengthBytes) => content.fetchBase(startBytes, lengthBytes));
  }

  /** Leaves no trace in what is known of who reads what. */
  #replay(
    file: FileInode,
    offsetBytes: number,
    into: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<number> {
    if (file.content.readNow(offsetBytes, into)) return into.length;
    return this.#readLater(file, offsetBytes, into, optionsOf('replay', signal));
  }

  async #readLater(
    file: FileInode,
    offsetBytes: number,
    into: Uint8Array,
    options: FetchOptions,
  ): Promise<number> {
    try {
      await file.content.readLater(offsetBytes, into, options);
      return into.length;
    } catch (error) {
      throw this.#baseError(error, file, offsetBytes);
    } finally {
      options.wait?.end();
    }
  }

  async #findLater(
    file: FileInode,
    search: HoleSearch,
    startBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const wait = this.#stalled(file, 'seek', startBytes, 0);
    try {
      return await search.later({ ...optionsOf('demand', signal), wait });
    } catch (error) {
      throw this.#baseError(error, file, startBytes);
    } finally {
      wait?.end();
    }
  }

  #writeLater(
    handle: HandleId,
    offsetBytes: number,
    data: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    return this.#editLater(
      handle,
      signal,
      () => ({ startBytes: offsetBytes, endBytes: offsetBytes + data.length }),
      (file, edges) => {
        this.#overlay.write(file, offsetBytes, data, edges, this.#now());
        return data.length;
      },
    );
  }

  #edit<T>(
    handle: HandleId,
    signal: AbortSignal | undefined,
    rangeOf: (content: FileContent) => ByteInterval,
    apply: (file: FileInode, edges: PageEdges, range: ByteInterval) => T,
  ): MaybePromise<T> {
    const { file } = this.#writable(handle);
    const range = rangeOf(file.content);
    const lengthBytes = range.endBytes - range.startBytes;
    if (this.#gate.isClosed() || !file.content.loadEdges(range.startBytes, lengthBytes, this.#edges)) {
      return this.#editLater(handle, signal, rangeOf, apply);
    }
    return apply(file, this.#edges, range);
  }

  /** What was fetched stays right whatever happens to the file meanwhile, unless its base is replaced. */
  async #editLater<T>(
    handle: HandleId,
    signal: AbortSignal | undefined,
    rangeOf: (content: FileContent) => ByteInterval,
    apply: (file: FileInode, edges: PageEdges, range: ByteInterval) => T,
  ): Promise<T> {
    const edges = newPageEdges();
    for (;;) {
      while (this.#gate.isClosed()) await this.#gate.passed();
      const { file } = this.#writable(handle);
      const { content } = file;
      const { generation } = content;
      const range = rangeOf(content);
      const lengthBytes = range.endBytes - range.startBytes;
      if (!content.loadEdges(range.startBytes, lengthBytes, edges)) {
        await this.#fetchEdges(file, range.startBytes, lengthBytes, edges, signal);
        const current = rangeOf(content);
        const isSame = current.startBytes === range.startBytes && current.endBytes === range.endBytes;
        if (this.#gate.isClosed() || content.generation !== generation || !isSame) continue;
      }
      return apply(this.#writable(handle).file, edges, range);
    }
  }

  async #fetchEdges(
    file: FileInode,
    offsetBytes: number,
    lengthBytes: number,
    edges: PageEdges,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const wait = this.#stalled(file, 'write', offsetBytes, lengthBytes);
    try {
      await file.content.fetchEdges(offsetBytes, lengthBytes, edges, {
        ...optionsOf('demand', signal),
        wait,
      });
    } catch (error) {
      throw this.#baseError(error, file, offsetBytes);
    } finally {
      wait?.end();
    }
  }

  /** A program has to wait. Undefined if nobody wants to know. */
  #stalled(
    file: FileInode,
    access: StalledRequest['access'],
    offsetBytes: number,
    lengthBytes: number,
  ): DemandWait | undefined {
    if (this.#stalls === undefined) return undefined;
    let path = this.#stalledPaths.get(file);
    if (path === undefined) this.#stalledPaths.set(file, (path = this.#overlay.table.pathOf(file)));
    return this.#stalls.begin({ path, offsetBytes, lengthBytes, access });
  }

  /** The base could not be read: damage for the caller, unless the caller gave up. */
  #baseError(error: unknown, file: FileInode, offsetBytes: number): FileSystemError {
    if (error instanceof Cancelled) {
      return new FileSystemError('EINTR', 'The request was cancelled.', { cause: error });
    }
    const path = this.#overlay.table.pathOf(file);
    const reported =
      error instanceof FileSystemError
        ? error
        : new FileSystemError('EIO', `${path} could not be read at byte ${offsetBytes}.`, { cause: error });
    this.#onError(reported);
    return reported;
  }
}

function optionsOf(fetchClass: FetchClass, signal: AbortSignal | undefined): FetchOptions {
  return signal === undefined ? { fetchClass } : { fetchClass, signal };
}

/** Places that no file reaches are fine: nothing is there. */
export function checkOffset(offsetBytes: number): void {
  if (!Number.isInteger(offsetBytes) || offsetBytes < 0) {
    throw new FileSystemError('EINVAL', `${offsetBytes} is no place in a file.`);
  }
}

export function checkSize(sizeBytes: number): void {
  if (sizeBytes > limits.fileBytesMax) {
    throw new FileSystemError('EFBIG', `Files have at most ${limits.fileBytesMax} bytes.`);
  }
}

/** What a range covers of a file. All is zero after its end, so that its last page counts as whole. */
function coveredRange(content: FileContent, startBytes: number, endBytes: number): ByteInterval {
  const { sizeBytes } = content;
  if (startBytes >= sizeBytes) return { startBytes, endBytes: startBytes };
  if (endBytes < sizeBytes) return { startBytes, endBytes };
  return { startBytes, endBytes: Math.ceil(sizeBytes / pageBytes) * pageBytes };
}
