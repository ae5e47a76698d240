import { FileSystemError, type InodeNumber, type RequestId } from '../../fs/index.js';
import { fuse_in_header, fuse_out_header, notifyCode, type OperationName } from './protocol.js';
import { unforkedMemory } from '../../system/index.js';
import type { Layout } from './layout.js';
import { requestBytesMax } from './sizes.js';
import { highAt, littleEndian, lowAt, readUint64, writeUint64 } from './wire.js';

const uint32Range = 2 ** 32;
const header = fuse_in_header.at;
const bodyAt = fuse_in_header.bytes;
const answerAt = fuse_out_header.bytes;
const pageBytes = 4096;

/** Most answers, and a page of data, fit. */
const smallAnswerBytes = 8192;

/**
 * Memory that requests arrive in. It is all there from the start and stays so: where the kernel would have to make a page for a
 * process that is being killed, the request fails instead of being left for the next process. A change that the
 * kernel writes back would be lost.
 */
export class RequestMemory {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** No request arrives in it any more; what is in it stays as long as somebody refers to it. */
  readonly release: () => void;

  constructor(lengthBytes = requestBytesMax) {
    const { bytes, release } = unforkedMemory(lengthBytes, 'own');
    const { buffer, byteOffset, length } = bytes;
    this.bytes = Buffer.from(buffer, byteOffset, length);
    this.view = new DataView(buffer, byteOffset, length);
    this.release = release;
  }
}

/** Memory that an answer is written in: `fuse_out_header`, then the payload. */
export class AnswerMemory {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** One page of payload: what nearly every read fills. */
  readonly page: Uint8Array;

  constructor(lengthBytes: number) {
    this.bytes = Buffer.allocUnsafeSlow(lengthBytes);
    this.view = new DataView(this.bytes.buffer);
    this.page = this.bytes.subarray(answerAt, answerAt + pageBytes);
  }
}

/** Lends memory to answers that are longer than a page. */
export interface AnswerMemories {
  borrow(): AnswerMemory;
  giveBack(memory: AnswerMemory): void;
}

/**
 * One request and its answer. Members are decoded where they lie and encoded where they go: a request that is answered
 * in place allocates nothing. Offsets of members count from the start of the request's body and of the answer's payload.
 *
 * The request's memory is the caller's, and holds the next request as soon as a handler has returned; the header is
 * kept. The answer's memory belongs to the exchange until it is `reset`.
 */
export class Exchange {
  opcode = 0;
  nodeid = 0 as InodeNumber;
  uid = 0;
  gid = 0;
  pid = 0;
  /** `unique` of the request as a number. Bit 63, which marks a request that is sent again, is left out. */
  unique = 0 as RequestId;
  /** A process that died had read the request before, and may have carried it out. */
  isResent = false;
  /** Set while the exchange waits: ends the wait early. */
  abort: AbortController | undefined;
  /** The process that waits for the answer is being killed. */
  interrupted = false;
  /** Where the text after the last one read would start. */
  textEnd = 0;

  #request: RequestMemory = noRequest;
  #endAt = 0;
  #uniqueLow = 0;
  #uniqueHigh = 0;
  readonly #small = new AnswerMemory(smallAnswerBytes);
  #answer = this.#small;
  readonly #memories: AnswerMemories;

  constructor(memories: AnswerMemories) {
    this.#memories = memories;
  }

  /** Takes up a request. False if there is not even a header, so that nobody can be answered. */
  take(request: RequestMemory, lengthBytes: number): boolean {
    this.abort = undefined;
    this.interrupted = false;
    if (lengthBytes < fuse_in_header.bytes || lengthBytes > request.bytes.length) return false;
    const { view } = request;
    this.#request = request;
    this.#endAt = lengthBytes;
    this.opcode = view.getUint32(header.opcode, littleEndian);
    this.#uniqueLow = view.getUint32(header.unique + lowAt, littleEndian);
    this.#uniqueHigh = view.getUint32(header.unique + highAt, littleEndian);
    this.unique = requestId(this.#uniqueHigh, this.#uniqueLow);
    this.isResent = (this.#uniqueHigh & resentBit) !== 0;
    this.nodeid = readUint64(view, header.nodeid) as InodeNumber;
    this.uid = view.getUint32(header.uid, littleEndian);
    this.gid = view.getUint32(header.gid, littleEndian);
    this.pid = view.getUint32(header.pid, littleEndian);
    return true;
  }

  /** Whether the header tells the length that arrived. */
  get isWhole(): boolean {
    return this.#request.view.getUint32(header.len, littleEndian) === this.#endAt;
  }

  /** Bytes of the request after its header. */
  get bodyBytes(): number {
    return this.#endAt - bodyAt;
  }

  /** @throws FileSystemError `EINVAL` unless the body holds the structure at `at` */
  require(structure: Layout, at = 0): void {
    if (at + structure.bytes > this.bodyBytes) throw malformed();
  }

  uint32(at: number): number {
    return this.#request.view.getUint32(bodyAt + at, littleEndian);
  }

  /** Numbers beyond 2^53 lose their last digits, and are refused by whoever gets them. */
  uint64(at: number): number {
    return readUint64(this.#request.view, bodyAt + at);
  }

  /** The `unique` of another request, as `unique` is told. */
  requestId(at: number): RequestId {
    const { view } = this.#request;
    const high = view.getUint32(bodyAt + at + highAt, littleEndian);
    return requestId(high, view.getUint32(bodyAt + at + lowAt, littleEndian));
  }

  int64(at: number): bigint {
    return this.#request.view.getBigInt64(bodyAt + at, littleEndian);
  }

  /** A view into the request's memory. @throws FileSystemError `EINVAL` if the body is shorter */
  data(at: number, lengthBytes: number): Buffer {
    if (at + lengthBytes > this.bodyBytes) throw malformed();
    return this.#request.bytes.subarray(bodyAt + at, bodyAt + at + lengthBytes);
  }

  /**
   * The text that starts at `at` and ends with a zero byte; the next one starts at `textEnd`.
   * @throws FileSystemError `EINVAL` without an end, `EILSEQ` if it is not UTF-8
   */
  text(at: number): string {
    const { bytes } = this.#request;
    const from = bodyAt + at;
    const to = from < this.#endAt ? bytes.indexOf(0, from) : -1;
    if (to < 0 || to >= this.#endAt) throw malformed();
    this.textEnd = to + 1 - bodyAt;
    const text = bytes.toString('utf8', from, to);
    if (text.includes('\ufffd') && !Buffer.from(text).equals(bytes.subarray(from, to))) {
      throw new FileSystemError('EILSEQ', 'A name is not UTF-8.');
    }
    return text;
  }

  /** Makes room for an answer's payload, whose content is undefined. */
  reserve(payloadBytes: number): void {
    if (answerAt + payloadBytes > this.#answer.bytes.length) this.#answer = this.#memories.borrow();
  }

  /** Room for a payload that is `lengthBytes` of data. */
  payload(lengthBytes: number): Uint8Array {
    this.reserve(lengthBytes);
    if (lengthBytes === pageBytes) return this.#answer.page;
    return this.#answer.bytes.subarray(answerAt, answerAt + lengthBytes);
  }

  putUint16(at: number, value: number): void {
    this.#answer.view.setUint16(answerAt + at, value, littleEndian);
  }

  putUint32(at: number, value: number): void {
    this.#answer.view.setUint32(answerAt + at, value, littleEndian);
  }

  putUint64(at: number, value: number): void {
    writeUint64(this.#answer.view, answerAt + at, value);
  }

  putInt64(at: number, value: bigint): void {
    this.#answer.view.setBigInt64(answerAt + at, value, littleEndian);
  }

  putZeros(at: number, lengthBytes: number): void {
    this.#answer.bytes.fill(0, answerAt + at, answerAt + at + lengthBytes);
  }

  putBytes(at: number, bytes: Uint8Array): void {
    this.#answer.bytes.set(bytes, answerAt + at);
  }

  /** Completes the answer: its whole length, and where it lies. */
  finish(errno: number, payloadBytes: number): number {
    const { view } = this.#answer;
    const lengthBytes = answerAt + payloadBytes;
    const { at } = fuse_out_header;
    view.setUint32(at.len, lengthBytes, littleEndian);
    view.setInt32(at.error, -errno, littleEndian);
    view.setUint32(at.unique + lowAt, this.#uniqueLow, littleEndian);
    view.setUint32(at.unique + highAt, this.#uniqueHigh, littleEndian);
    return lengthBytes;
  }

  get answerBytes(): Uint8Array {
    return this.#answer.bytes;
  }

  /** What the exchange keeps while it waits. */
  get heldBytes(): number {
    return this.#answer.bytes.length;
  }

  /** Gives borrowed memory back: the answer is sent. */
  reset(): void {
    if (this.#answer === this.#small) return;
    this.#memories.giveBack(this.#answer);
    this.#answer = this.#small;
  }
}

/** What asks the kernel for requests that were read and not answered. */
export function resendMessage(): Uint8Array {
  const { bytes, at } = fuse_out_header;
  const message = Buffer.alloc(bytes);
  const view = new DataView(message.buffer, message.byteOffset, bytes);
  view.setUint32(at.len, bytes, littleEndian);
  view.setInt32(at.error, notifyCode.RESEND, littleEndian);
  return message;
}

/** Handles one kind of request: the length of the payload that it put, now or later, or `noAnswer`. */
export type Handler = (exchange: Exchange) => number | Promise<number>;

export type Handlers = { readonly [Name in OperationName]?: Handler };

/** The kernel wants none. */
export const noAnswer = -1;

const noRequest = new RequestMemory(0);

/** `FUSE_UNIQUE_RESEND` in the upper half of `unique`. */
const resentBit = 1 << 31;

function requestId(high: number, low: number): RequestId {
  return ((high & ~resentBit) * uint32Range + low) as RequestId;
}

function malformed(): FileSystemError {
  return new FileSystemError('EINVAL', 'A request is shorter than its kind needs.');
}
