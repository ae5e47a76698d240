import createDebug from 'debug';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { FileSystemError, type FileSystem } from '../../fs/index.js';
import { errnoNumbers, failureOf, notConnected } from '../errno.js';
import type { EngineStatus } from '../types.js';
import { isDying } from './dying.js';
import {
  AnswerMemory,
  Exchange,
  noAnswer,
  RequestMemory,
  type AnswerMemories,
  type Handler,
  type Handlers,
} from './exchange.js';
import { agree, type Agreement } from './init.js';
import { attributeHandlers } from './operations/attributes.js';
import { Directories } from './operations/directories.js';
import { extendedAttributeHandlers } from './operations/extended-attributes.js';
import { Files } from './operations/files.js';
import { nameHandlers } from './operations/names.js';
import { Reads } from './operations/reads.js';
import { Resent } from './operations/resent.js';
import { fuse_init_out, fuse_interrupt_in, opcode, type OperationName } from './protocol.js';
import type { CachedRange } from './notifications.js';
import { References } from './references.js';
import { answerBytesMax } from './sizes.js';

const debug = createDebug('isr:fuse');

/** Exchanges and long answers that are kept for the next requests to wait. */
const sparesMax = 4;

/** Until then, whether a process that got a signal is being killed is asked again. */
const interruptRetryMilliseconds = 100;

/** Hands an answer to the kernel: 0, or an error number negated. */
export type Send = (answer: Uint8Array, lengthBytes: number) => number;

/** How a request was dealt with: the requester may go on (`read`: with data that was local), waits, or wanted no answer. */
export type Outcome = 'answered' | 'read' | 'waits' | 'silent';

export interface RequestsOptions {
  /** How many processes served the mount before. */
  readonly life?: number;
  /** Has the kernel forget pages of its cache, later and on another thread. */
  readonly forgetPages?: (range: CachedRange) => void;
}

/**
 * The one place that answers requests: each exactly once, failures as an errno. Knows no device and no event loop
 * but promises: bytes of a request come in, answers go out through `send`, now or later.
 */
export class Requests {
  /** Where the next request is to be put. */
  memory = new RequestMemory();
  /** Resolves when the kernel has begun to use the mount; with undefined if it is too old. */
  readonly agreed: Promise<Agreement | undefined>;
  /** Called when a request that waited has been answered. */
  onLateAnswer: () => void = () => undefined;

  readonly #send: Send;
  readonly #handlers: readonly (Handler | undefined)[];
  readonly #references: References;
  readonly #files: Files;
  readonly #reads: Reads;
  readonly #resent: Resent;
  readonly #memories = new SpareMemories();
  readonly #waiting = new Set<Exchange>();
  readonly #spares: Exchange[] = [];
  #onAgreed: (agreement: Agreement | undefined) => void = () => undefined;
  #onDrained: (() => void) | undefined;
  #stopping = false;
  #requests = 0;
  #resentCount = 0;
  #errors = 0;
  #heldBytes = 0;

  constructor(fileSystem: FileSystem, send: Send, options: RequestsOptions = {}) {
    const { life = 0, forgetPages = () => undefined } = options;
    this.#send = send;
    this.agreed = new Promise((resolve) => (this.#onAgreed = resolve));
    this.#references = new References(fileSystem, life > 0);
    this.#files = new Files(fileSystem, this.#references);
    this.#reads = new Reads(fileSystem, (handle) => this.#files.isReplayed(handle), forgetPages);
    this.#resent = new Resent(fileSystem, this.#references, this.#files);
    this.#handlers = tableOf({
      ...nameHandlers(fileSystem, this.#references),
      ...attributeHandlers(fileSystem),
      ...extendedAttributeHandlers(fileSystem),
      ...new Directories(fileSystem, this.#references, life).handlers,
      ...this.#files.handlers,
      ...this.#reads.handlers,
      INIT: (exchange) => this.#initialize(exchange),
      INTERRUPT: (exchange) => this.#interrupt(exchange),
      // No answer is wanted to this one, which tells that the mount goes; reading the device will tell, too.
      NOTIFY_REPLY: () => noAnswer,
      DESTROY: () => 0,
    });
  }

  status(): EngineStatus {
    const { waitingSince } = this.#files.writeBack;
    return {
      ...(waitingSince === undefined ? {} : { waitingForSpaceSince: waitingSince.toISOString() }),
      requests: this.#requests,
      requestsWaiting: this.#waiting.size,
      requestsResent: this.#resentCount,
      refusedAhead: this.#reads.refusedAhead,
      errors: this.#errors,
      inodesReferenced: this.#references.size,
    };
  }

  /** What this process opens from now on is read for a replay. */
  replayFor(processId: number | undefined): void {
    this.#files.replayProcess = processId;
  }

  get somebodyWaits(): boolean {
    return this.#waiting.size > 0;
  }

  /** What requests that wait keep in memory. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Handles the request whose `lengthBytes` were read into `memory`. Never throws. */
  handle(lengthBytes: number): Outcome {
    const exchange = this.#spares.pop() ?? new Exchange(this.#memories);
    this.#requests += 1;
    if (!exchange.take(this.memory, lengthBytes)) {
      debug('a request of %d bytes has no header', lengthBytes);
      this.#errors += 1;
      return this.#recycle(exchange);
    }
    if (exchange.isResent) this.#resentCount += 1;
    const refusal = this.#refusalOf(exchange);
    if (refusal !== 0) return this.#answer(exchange, refusal, 0);
    try {
      const lost = exchange.isResent ? this.#resent.answer(exchange) : undefined;
      const payloadBytes = lost ?? this.#handlers[exchange.opcode]?.(exchange) ?? noAnswer;
      if (payloadBytes instanceof Promise) return this.#wait(exchange, payloadBytes);
      return payloadBytes === noAnswer ? this.#recycle(exchange) : this.#answer(exchange, 0, payloadBytes);
    } catch (error) {
      return this.#fail(exchange, error);
    }
  }

  /**
   * From now on the file system is not called any more. Reads that wait are aborted; resolves when no request is
   * under way and the files that the kernel left open are released.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const exchange of this.#waiting) exchange.abort?.abort();
    if (this.#waiting.size > 0) await new Promise<void>((resolve) => (this.#onDrained = resolve));
    await this.#files.releaseAll();
    this.#references.forgetAll();
  }

  /** Why a request cannot be handled at all: an error number, or 0. */
  #refusalOf(exchange: Exchange): number {
    if (exchange.opcode === opcode.IOCTL) return constants.errno.ENOTTY;
    // The kernel remembers that, and does without the operation.
    if (this.#handlers[exchange.opcode] === undefined) return errnoNumbers.ENOSYS;
    if (!exchange.isWhole) return errnoNumbers.EINVAL;
    return this.#stopping ? notConnected : 0;
  }

  #wait(exchange: Exchange, answer: Promise<number>): Outcome {
    let { heldBytes } = exchange;
    if (exchange.opcode === opcode.WRITE) {
      // Its data lies in the request's memory, which is its own from now on.
      heldBytes += this.memory.bytes.length;
      this.memory.release();
      this.memory = new RequestMemory();
    }
    this.#heldBytes += heldBytes;
    this.#waiting.add(exchange);
    void this.#answerLater(exchange, answer).then(() => {
      this.#heldBytes -= heldBytes;
      this.#waiting.delete(exchange);
      if (this.#waiting.size === 0) this.#onDrained?.();
      this.onLateAnswer();
    });
    return 'waits';
  }

  async #answerLater(exchange: Exchange, answer: Promise<number>): Promise<void> {
    try {
      this.#answer(exchange, 0, await answer);
    } catch (error) {
      this.#fail(exchange, error);
    }
  }

  #fail(exchange: Exchange, error: unknown): Outcome {
    if (exchange.interrupted) return this.#answer(exchange, errnoNumbers.EINTR, 0);
    const failure = failureOf(error);
    if (failure.serious) this.#errors += 1;
    if (failure.unexpected) debug('operation %d failed unexpectedly: %O', exchange.opcode, error);
    else if (failure.serious) debug('operation %d failed: %s', exchange.opcode, error);
    return this.#answer(exchange, failure.errno, 0);
  }

  #answer(exchange: Exchange, errno: number, payloadBytes: number): Outcome {
    const result = this.#send(exchange.answerBytes, exchange.finish(errno, payloadBytes));
    // ENOENT: the requester does not wait any more. ENODEV: the mount is gone.
    if (result < 0 && !unwantedAnswers.has(-result)) {
      debug('the kernel refused an answer to operation %d: error %d', exchange.opcode, -result);
      this.#errors += 1;
      if (errno === 0) this.#send(exchange.answerBytes, exchange.finish(errnoNumbers.EIO, 0));
    }
    this.#recycle(exchange);
    return exchange.opcode === opcode.READ && errno === 0 ? 'read' : 'answered';
  }

  #recycle(exchange: Exchange): Outcome {
    exchange.reset();
    if (this.#spares.length < sparesMax) this.#spares.push(exchange);
    return 'silent';
  }

  #initialize(exchange: Exchange): number {
    const agreement = agree(exchange);
    this.#onAgreed(agreement);
    if (agreement === undefined) throw new FileSystemError('EIO', 'The kernel speaks an older protocol.');
    return fuse_init_out.bytes;
  }

  /** The kernel says that a process which waits got a signal. Answered with `EAGAIN`, it says so again. */
  #interrupt(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_interrupt_in);
    const unique = exchange.requestId(fuse_interrupt_in.at.unique);
    const target = [...this.#waiting].find((waiting) => waiting.unique === unique);
    if (target?.abort === undefined) return noAnswer;
    if (isDying(target.pid)) {
      target.interrupted = true;
      target.abort.abort();
      return noAnswer;
    }
    exchange.abort = new AbortController();
    return delay(interruptRetryMilliseconds, undefined, { signal: exchange.abort.signal })
      .catch(() => undefined)
      .then(() => {
        throw new FileSystemError('EAGAIN', 'The process has not been killed yet.');
      });
  }
}

const unwantedAnswers: ReadonlySet<number> = new Set([
  constants.errno.ENOENT,
  constants.errno.ENODEV,
  constants.errno.ECONNABORTED,
]);

/** Keeps a few long answers' memory; lends more where more wait. */
class SpareMemories implements AnswerMemories {
  readonly #spares: AnswerMemory[] = [];

  borrow(): AnswerMemory {
    return this.#spares.pop() ?? new AnswerMemory(answerBytesMax);
  }

  giveBack(memory: AnswerMemory): void {
    if (this.#spares.length < sparesMax) this.#spares.push(memory);
  }
}

function tableOf(handlers: Handlers): readonly (Handler | undefined)[] {
  const table: (Handler | undefined)[] = new Array<undefined>(Math.max(...Object.values(opcode)) + 1).fill(
    undefined,
  );
  for (const [name, handler] of Object.entries(handlers)) table[opcode[name as OperationName]] = handler;
  return table;
}
