import { constants } from 'node:os';
import fc from 'fast-check';
import t from 'tap';
import { rootInode } from '../../../src/fs/index.js';
import { fuse_in_header, opcode } from '../../../src/fuse/kernel/protocol.js';
import { ModelFileSystem } from '../../support/model-file-system.js';
import { FakeKernel } from './wire.js';

const knownErrnos = new Set<number>([0, ...Object.values(constants.errno)]);

/** Numbers that are likely to mean something, or to break something. */
const interesting = fc.oneof(
  fc.constantFrom(
    0n,
    1n,
    2n,
    3n,
    4095n,
    4096n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

const body = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.array(interesting, { maxLength: 12 }).map((words) => new Uint8Array(new BigUint64Array(words).buffer)),
  fc
    .tuple(
      fc.array(interesting, { maxLength: 3 }),
      fc.array(fc.constantFrom('a', 'file', '..', 'x'.repeat(300), ''), { maxLength: 3 }),
    )
    .map(([words, names]) =>
      Buffer.concat([
        new Uint8Array(new BigUint64Array(words).buffer),
        ...names.map((name) => Buffer.from(`${name}\0`)),
      ]),
    ),
);

const request = fc.record({
  operation: fc.oneof(fc.constantFrom(...Object.values(opcode)), fc.integer({ min: 0, max: 2 ** 31 })),
  nodeid: fc.oneof(fc.constant(1n), interesting),
  lengthError: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -40, max: 40 }) },
  ),
  body,
});

function encode(
  parts: { operation: number; nodeid: bigint; lengthError: number; body: Uint8Array },
  unique: bigint,
) {
  const { at, bytes } = fuse_in_header;
  const message = Buffer.alloc(bytes + parts.body.length);
  message.writeUInt32LE(Math.max(message.length + parts.lengthError, 0), at.len);
  message.writeUInt32LE(parts.operation, at.opcode);
  message.writeBigUInt64LE(unique, at.unique);
  message.writeBigUInt64LE(parts.nodeid, at.nodeid);
  message.set(parts.body, bytes);
  return message;
}

function startWithFile() {
  const model = new ModelFileSystem();
  const { handle } = model.create(rootInode, 'file', 0o644, 2, { uid: 0, gid: 0 });
  void model.write(handle, 0, Buffer.alloc(10_000, 1));
  const kernel = new FakeKernel(model);
  kernel.initialize();
  kernel.answers.length = 0;
  return kernel;
}

async function survive(kernel: FakeKernel, messages: readonly Buffer[]): Promise<void> {
  let answersWanted = 0;
  for (const message of messages) if (kernel.sendBytes(message) !== 'silent') answersWanted += 1;
  // What waits here waits for a few promises only, or 100 ms for a signal.
  await kernel.requests.stop();
  if (kernel.answers.length !== answersWanted) throw new Error('not each request was answered once');
  for (const { errno, unique } of kernel.answers) {
    if (!knownErrnos.has(errno)) throw new Error(`errno ${errno}`);
    // EIO would be an exception that nobody meant; only an old kernel gets it on purpose.
    const message = messages.find(
      (candidate) =>
        candidate.length >= fuse_in_header.bytes &&
        candidate.readBigUInt64LE(fuse_in_header.at.unique) === unique,
    );
    const operation = message?.readUInt32LE(fuse_in_header.at.opcode);
    if (errno === constants.errno.EIO && operation !== opcode.INIT) throw new Error(`EIO for ${operation}`);
  }
}

t.test('requests made of likely parts', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 30 }), async (requests) => {
      await survive(
        startWithFile(),
        requests.map((parts, index) => encode(parts, BigInt(2 * index + 2))),
      );
    }),
    { numRuns: 300 },
  );
  t.pass();
});

t.test('noise', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), async (messages) => {
      await survive(
        startWithFile(),
        messages.map((bytes) => Buffer.from(bytes)),
      );
    }),
    { numRuns: 200 },
  );
  t.pass();
});
