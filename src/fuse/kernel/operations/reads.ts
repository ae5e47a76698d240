import { constants } from 'node:fs';
import { limits } from '../../../base/index.js';
import { FileSystemError, notLocal, type FileSystem, type HandleId } from '../../../fs/index.js';
import type { Exchange, Handlers } from '../exchange.js';
import { fuse_read_in } from '../protocol.js';
import { transferBytesMax } from '../sizes.js';

const pageBytes = 4096;

/** Reading: what is local is answered in place, what is not waits, and a bounded number waits for the store at once. */
export class Reads {
  readonly handlers: Handlers = { READ: (exchange) => this.#read(exchange) };

  /** Read-ahead that was refused because its data is not local. */
  refusedAhead = 0;

  readonly #fileSystem: FileSystem;
  #waiting = 0;
  readonly #inLine = new Set<() => void>();
  /** Its signal goes with every read; a read that waits keeps it, and there is another. */
  #spare = new AbortController();

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  #read(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_read_in);
    const { at } = fuse_read_in;
    const handle = exchange.uint64(at.fh) as HandleId;
    const offsetBytes = exchange.uint64(at.offset);
    const sizeBytes = exchange.uint32(at.size);
    if (sizeBytes > transferBytesMax) throw new FileSystemError('EINVAL', 'A read is longer than agreed.');
    const isGuess = sizeBytes > pageBytes && (exchange.uint32(at.flags) & constants.O_DIRECT) === 0;
    const intent = isGuess ? 'ahead' : 'demand';
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
    intent: 'demand' | 'ahead',
  ): number | Promise<number> {
    const into = exchange.payload(sizeBytes);
    const controller = exchange.abort ?? this.#spare;
    const read = this.#fileSystem.read(handle, offsetBytes, into, intent, controller.signal);
    if (!(read instanceof Promise)) return read === notLocal ? this.#refuse() : read;
    this.#keep(exchange);
    this.#waiting += 1;
    return read
      .finally(() => {
        this.#waiting -= 1;
        const [next] = this.#inLine;
        next?.();
      })
      .then((answer) => (answer === notLocal ? this.#refuse() : answer));
  }

  /** As many wait as may: what is local is still answered, demand for the rest stands in line. */
  #readWhileCrowded(
    exchange: Exchange,
    handle: HandleId,
    offsetBytes: number,
    sizeBytes: number,
    intent: 'demand' | 'ahead',
  ): number | Promise<number> {
    const into = exchange.payload(sizeBytes);
    const read = this.#fileSystem.read(handle, offsetBytes, into, 'ahead', this.#spare.signal);
    if (read instanceof Promise) {
      this.#keep(exchange);
      return read.then((answer) => (answer === notLocal ? this.#refuse() : answer));
    }
    if (read !== notLocal) return read;
    if (intent === 'ahead') return this.#refuse();
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

  #refuse(): never {
    this.refusedAhead += 1;
    throw aheadRefused;
  }
}

/** One error for all: making one costs more than answering. */
const aheadRefused = new FileSystemError('EAGAIN', 'The data is not on this host.');
