import type { FileSystem } from '../../../src/fs/index.js';
import type { Layout } from '../../../src/fuse/kernel/layout.js';
import {
  fuse_in_header,
  fuse_init_in,
  fuse_out_header,
  opcode,
  type OperationName,
} from '../../../src/fuse/kernel/protocol.js';
import { Requests, type Outcome } from '../../../src/fuse/kernel/requests.js';

/** An answer as the kernel sees it. */
export interface Answer {
  readonly unique: bigint;
  /** Positive, or 0. */
  readonly errno: number;
  readonly payload: Buffer;
}

/** The kernel's end of a connection: sends requests, collects answers. */
export class FakeKernel {
  readonly requests: Requests;
  readonly answers: Answer[] = [];
  #unique = 0n;
  #onAnswer: () => void = () => undefined;

  constructor(fileSystem: FileSystem, life = 0) {
    const receive = (answer: Uint8Array, lengthBytes: number) => this.#receive(answer, lengthBytes);
    this.requests = new Requests(fileSystem, receive, { life });
  }

  /** Bytes as they are, with no care taken. */
  sendBytes(bytes: Uint8Array): Outcome {
    this.requests.memory.bytes.set(bytes);
    return this.requests.handle(bytes.length);
  }

  send(
    operation: OperationName | number,
    body: Uint8Array = Buffer.alloc(0),
    header: { readonly nodeid?: number; readonly pid?: number; readonly unique?: bigint } = {},
  ): { readonly unique: bigint; readonly outcome: Outcome } {
    const { at, bytes } = fuse_in_header;
    const message = Buffer.alloc(bytes + body.length);
    // Even, as the kernel's are.
    this.#unique += 2n;
    const unique = header.unique ?? this.#unique;
    message.writeUInt32LE(message.length, at.len);
    message.writeUInt32LE(typeof operation === 'number' ? operation : opcode[operation], at.opcode);
    message.writeBigUInt64LE(unique, at.unique);
    message.writeBigUInt64LE(BigInt(header.nodeid ?? 1), at.nodeid);
    message.writeUInt32LE(header.pid ?? 0, at.pid);
    message.set(body, bytes);
    return { unique, outcome: this.sendBytes(message) };
  }

  /** Sends a request that is answered in place. */
  ask(...request: Parameters<FakeKernel['send']>): Answer {
    const before = this.answers.length;
    const { unique } = this.send(...request);
    const answer = this.answers[before];
    if (answer?.unique !== unique) throw new Error('no answer');
    return answer;
  }

  /** The answer to a request, now or later. */
  async answerTo(unique: bigint): Promise<Answer> {
    for (;;) {
      const answer = this.answers.find((candidate) => candidate.unique === unique);
      if (answer !== undefined) return answer;
      await new Promise<void>((resolve) => (this.#onAnswer = resolve));
    }
  }

  initialize(minor = 45, flags = 0xffffffff): Answer {
    return this.ask('INIT', structure(fuse_init_in, { major: 7, minor, max_readahead: 131_072, flags }));
  }

  #receive(answer: Uint8Array, lengthBytes: number): number {
    const bytes = Buffer.from(answer.subarray(0, lengthBytes));
    const { at } = fuse_out_header;
    if (bytes.readUInt32LE(at.len) !== lengthBytes) throw new Error('an answer of the wrong length');
    this.answers.push({
      unique: bytes.readBigUInt64LE(at.unique),
      errno: -bytes.readInt32LE(at.error),
      payload: bytes.subarray(fuse_out_header.bytes),
    });
    this.#onAnswer();
    return 0;
  }
}

/** A structure with the given members, zeros elsewhere; a `bigint` takes 8 bytes, a number 4. */
export function structure<Name extends string>(
  { bytes, at }: Layout<Name>,
  members: Partial<Record<NoInfer<Name>, number | bigint>>,
): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (const [name, value] of Object.entries(members) as [Name, number | bigint][]) {
    if (typeof value === 'bigint') buffer.writeBigUInt64LE(BigInt.asUintN(64, value), at[name]);
    else buffer.writeUInt32LE(value, at[name]);
  }
  return buffer;
}

/** Texts as the kernel sends them, each with a zero byte at its end. */
export function texts(...values: readonly string[]): Buffer {
  return Buffer.from(values.map((value) => `${value}\0`).join(''));
}
