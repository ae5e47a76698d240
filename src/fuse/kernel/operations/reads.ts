import { constants } from 'node:fs';
import { limits } from '../../../base/index.js';
import {
  FileSystemError,
  notLocal,
  type FileSystem,
  type HandleId,
  type ReadIntent,
} from '../../../fs/index.js';
import type { Exchange, Handlers } from '../exchange.js';
import type { CachedRange } from '../notifications.js';
import { fuse_read_in } from '../protocol.js';
import { RefusedAhead } from '../refused-ahead.js';
import { transferBytesMax } from '../sizes.js';

const pageBytes = 4096;

/** Reading: what is local is answered in place, what is not waits, and a bounded number waits for the store at once. */
export class Reads {
  readonly handlers: Handlers = { READ: (exchange) => this.#read(exchange) };

  readonly #fileSystem: FileSystem;
  readonly #isReplayed: (handle: HandleId) => boolean;
  readonly #forgetPages: (range: CachedRange) => void;
  readonly #refusedAhead = new RefusedAhead();
  #waiting = 0;
  readonly #inLine = new Set<() => void>();
  /** Its signal goes with every read; a read that waits keeps it, and there is another. */
  #spare = new AbortController();

  /** `isReplayed`: whether a handle is a replay's. `forgetPages`: has the kernel forget pages of its cache. */
  constructor(
    fileSystem: FileSystem,
    isReplayed: (handle: HandleId) => boolean,
    forgetPages: (range: CachedRange) => void,
  ) {
    this.#fileSystem = fileSystem;
    this.#isReplayed = isReplayed;
    this.#forgetPages = forgetPages;
  }

  /** Read-ahead that was refused because its data is not local. */
  get refusedAhead(): number {
    return this.#refusedAhead.refusals;
  }

  #read(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_read_in);
    const { at } = fuse_read_in;
    const handle = exchange.uint64(at.fh) as HandleId;
    const offsetBytes = exchange.uint64(at.offset);
    const sizeBytes = exchange.uint32(at.size);
    if (sizeBytes > transferBytesMax) throw new FileSystemError('EINVAL', 'A read is longer than agreed.');
    const isGuess = sizeBytes > pageBytes && (exchange.uint32(at.flags) & constants.O_DIRECT) === 0;
    const intent = this.#isReplayed(handle) ? 'replay' : isGuess ? 'ahead' : 'demand';
    if (this.#waiting >= limits.kernelRequestsWaiting) {
      return this.#readWhileCrowded(exchange, handle, offsetBytes, sizeBytes, intent);
    }
    return this.#readNow(exchange, handle, offsetBytes, sizeBytes, intent);
  }

  #readNow(
    exchange: Exchange,
    handle: HandleId,
    offsetBytes: number,
    sizeBytes: number,
    intent: ReadIntent,
  ): number | Promise<number> {
    const into = exchange.payload(sizeBytes);
    const controller = exchange.abort ?? this.#spare;
    const read = this.#fileSystem.read(handle, offsetBytes, into, intent, controller.signal);
    if (!(read instanceof Promise)) return this.#settle(exchange, offsetBytes, sizeBytes, read);
    this.#keep(exchange);
    this.#waiting += 1;
    return read
      .finally(() => {
        this.#waiting -= 1;
        const [next] = this.#inLine;
        next?.();
      })
      .then((answer) => this.#settle(exchange, offsetBytes, sizeBytes, answer));
  }

  /** As many wait as may: what is local is still answered, demand for the rest stands in line. */
  #readWhileCrowded(
    exchange: Exchange,
    handle: HandleId,
    offsetBytes: number,
    sizeBytes: number,
    intent: ReadIntent,
  ): number | Promise<number> {
    const into = exchange.payload(sizeBytes);
    const read = this.#fileSystem.read(handle, offsetBytes, into, 'ahead', this.#spare.signal);
    if (read instanceof Promise) {
      this.#keep(exchange);
      return read.then((answer) => this.#settle(exchange, offsetBytes, sizeBytes, answer));
    }
    if (read !== notLocal || intent === 'ahead') {
      return this.#settle(exchange, offsetBytes, sizeBytes, read);
    }
    exchange.reset();
    const { signal } = this.#keep(exchange);
    return this.#turn(signal).then(() => this.#readNow(exchange, handle, offsetBytes, sizeBytes, intent));
  }

  /** Resolves when one that waited has finished. */
  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#inLine.delete(enter);
        reject(new FileSystemError('EINTR', 'The read was interrupted.'));
      };
      const enter = (): void => {
        this.#inLine.delete(enter);
        signal.removeEventListener('abort', leave);
        resolve();
      };
      this.#inLine.add(enter);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  /** The exchange waits: the signal that its read got is its own from now on. */
  #keep(exchange: Exchange): AbortController {
    if (exchange.abort === undefined) {
      exchange.abort = this.#spare;
      this.#spare = new AbortController();
    }
    return exchange.abort;
  }

  /** The bytes that were read; or, of read-ahead that is not local, the refusal. */
  #settle(
    exchange: Exchange,
    offsetBytes: number,
    sizeBytes: number,
    read: number | typeof notLocal,
  ): number {
    if (read === notLocal) {
      this.#refusedAhead.refused(exchange.nodeid, offsetBytes, sizeBytes);
      throw aheadRefused;
    }
    if (sizeBytes <= pageBytes) {
      this.#refusedAhead.arrived(exchange.nodeid, offsetBytes, sizeBytes, this.#forgetPages);
    }
    return read;
  }
}

/** One error for all: making one costs more than answering. */
const aheadRefused = new FileSystemError('EAGAIN', 'The data is not on this host.');
