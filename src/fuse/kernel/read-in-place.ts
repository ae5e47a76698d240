import { unknownLocally, type LocalReader } from '../../resident/index.js';
import { fuse_in_header, fuse_out_header, fuse_read_in, opcode } from './protocol.js';
import { answerBytesMax, transferBytesMax } from './sizes.js';
import { highAt, littleEndian, lowAt, readUint64 } from './wire.js';

const request = fuse_in_header.at;
const read = fuse_read_in.at;
const answer = fuse_out_header.at;
const bodyAt = fuse_in_header.bytes;
const payloadAt = fuse_out_header.bytes;

/** Answers requests to read what is local, on a thread that has no file system. One at a time. */
export class ReadInPlace {
  /** The answer that `answer` has put together. */
  readonly bytes = Buffer.allocUnsafeSlow(answerBytesMax);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #reader: LocalReader;

  constructor(reader: LocalReader) {
    this.#reader = reader;
  }

  /** The length of the answer to a request of `lengthBytes`; 0 if it is none to read, or not all of its data is known. */
  answer(from: DataView, lengthBytes: number): number {
    if (lengthBytes < bodyAt + fuse_read_in.bytes) return 0;
    if (from.getUint32(request.opcode, littleEndian) !== opcode.READ) return 0;
    if (from.getUint32(request.len, littleEndian) !== lengthBytes) return 0;
    const sizeBytes = from.getUint32(bodyAt + read.size, littleEndian);
    if (sizeBytes > transferBytesMax) return 0;
    const readBytes = this.#reader.read(
      readUint64(from, request.nodeid),
      readUint64(from, bodyAt + read.offset),
      this.bytes.subarray(payloadAt, payloadAt + sizeBytes),
    );
    if (readBytes === unknownLocally) return 0;
    const answerBytes = payloadAt + readBytes;
    const view = this.#view;
    view.setUint32(answer.len, answerBytes, littleEndian);
    view.setInt32(answer.error, 0, littleEndian);
    // All 64 bits: the highest marks a request that is sent again.
    view.setUint32(answer.unique + lowAt, from.getUint32(request.unique + lowAt, littleEndian), littleEndian);
    view.setUint32(
      answer.unique + highAt,
      from.getUint32(request.unique + highAt, littleEndian),
      littleEndian,
    );
    return answerBytes;
  }
}
