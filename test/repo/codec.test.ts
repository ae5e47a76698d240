import { randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import {
  createCodecPool,
  DamagedObject,
  Sealer,
  type BlobId,
  type BlobReference,
  type CodecPool,
} from '../../src/repo/index.js';
import { packA, secrets } from './format/examples.js';

const sealer = new Sealer(secrets);
const guestMemory = () => Uint8Array.from(Buffer.alloc(131072, 'guest memory '));

function makePool(t: Test, threads = 1): CodecPool {
  const pool = createCodecPool(secrets, { threads });
  t.teardown(() => pool[Symbol.asyncDispose]());
  return pool;
}

function sealedExample(plaintext: Uint8Array, counter = 1): { sealed: Uint8Array; reference: BlobReference } {
  const id = sealer.identify(plaintext);
  const sealed = sealer.seal(plaintext, 'chunk', packA, counter, id);
  return { sealed, reference: { packId: packA, counter, id, offsetBytes: 28, sealedBytes: sealed.length } };
}

t.test('threads seal and open what the sealer does', async (t) => {
  const pool = makePool(t, 2);
  const plaintext = guestMemory();
  const expected = sealedExample(plaintext);
  const result = await pool.seal({ plaintext: guestMemory(), kind: 'chunk', packId: packA, counter: 1 });
  t.match(result, { outcome: 'sealed', id: expected.reference.id });
  t.ok(result.outcome === 'sealed' && Buffer.from(result.sealed).equals(expected.sealed));
  const opened = await pool.open(expected.sealed, expected.reference, 'chunk');
  t.ok(Buffer.from(opened).equals(plaintext));
  t.equal(expected.sealed.length, expected.reference.sealedBytes, 'the sealed bytes stay with the caller');
});

t.test('zero and unchanged chunks are not sealed', async (t) => {
  const pool = makePool(t);
  const place = { kind: 'chunk', packId: packA, counter: 1 } as const;
  t.same(await pool.seal({ plaintext: new Uint8Array(131072), ...place }), { outcome: 'zero' });
  const almostZero = new Uint8Array(131072);
  almostZero[131071] = 1;
  t.match(await pool.seal({ plaintext: almostZero, ...place }), { outcome: 'sealed' });
  const allOnes = new Uint8Array(131072).fill(1);
  t.match(await pool.seal({ plaintext: allOnes, ...place }), { outcome: 'sealed' });
  const unlessId = sealer.identify(guestMemory());
  t.same(await pool.seal({ plaintext: guestMemory(), ...place, unlessId }), { outcome: 'unchanged' });
  const other = '00'.repeat(16) as BlobId;
  t.match(await pool.seal({ plaintext: guestMemory(), ...place, unlessId: other }), { outcome: 'sealed' });
});

t.test('who owns the bytes', async (t) => {
  const pool = makePool(t);
  const place = { kind: 'chunk', packId: packA, counter: 1 } as const;
  const owned = guestMemory();
  const expected = await pool.seal({ plaintext: owned, ...place });
  t.equal(owned.length, 0, 'a whole buffer is handed over');

  const larger = new Uint8Array(300_000);
  const view = larger.subarray(1000, 1000 + 131072);
  view.set(guestMemory());
  t.same(await pool.seal({ plaintext: view, ...place }), expected);
  t.equal(view.length, 131072, 'a part of one is copied');

  const shared = new Uint8Array(new SharedArrayBuffer(131072));
  shared.set(guestMemory());
  t.same(await pool.seal({ plaintext: shared, ...place }), expected);
  t.equal(shared.length, 131072, 'shared memory is read in place');

  const { sealed, reference } = sealedExample(guestMemory());
  const sharedSealed = new Uint8Array(new SharedArrayBuffer(sealed.length));
  sharedSealed.set(sealed);
  t.ok(Buffer.from(await pool.open(sharedSealed, reference, 'chunk')).equals(guestMemory()));
});

t.test('damage found by a thread is the error that the sealer throws', async (t) => {
  const pool = makePool(t);
  const { sealed, reference } = sealedExample(randomBytes(50_000));
  const damaged = Uint8Array.from(sealed);
  damaged[100]! ^= 1;
  const expected = {
    code: 'DAMAGED_OBJECT',
    key: `pack/aa/${packA}`,
    message: `The object pack/aa/${packA} is damaged: the chunk with counter 1: it is not authentic.`,
  };
  await t.rejects(pool.open(damaged, reference, 'chunk'), expected);
  t.throws(() => sealer.open(damaged, reference, 'chunk'), expected);
  await t.rejects(pool.open(sealed, reference, 'manifest'), DamagedObject);
  t.equal((await pool.open(sealed, reference, 'chunk')).length, 50_000, 'and the thread goes on');
});

t.test('demand is served before replay, and replay before background and sealing', async (t) => {
  const pool = makePool(t, 1);
  const { sealed, reference } = sealedExample(guestMemory());
  await pool.open(sealed, reference, 'chunk');
  const order: string[] = [];
  const ask = (name: string, work: Promise<unknown>) => work.then(() => order.push(name));
  const open = (priority: 'demand' | 'replay' | 'background') =>
    pool.open(sealed, reference, 'chunk', { priority });
  await Promise.all([
    ask('running', open('background')),
    ask('background', open('background')),
    ask('seal', pool.seal({ plaintext: guestMemory(), kind: 'chunk', packId: packA, counter: 2 })),
    ask('replay 1', open('replay')),
    ask('replay 2', open('replay')),
    ask('demand 1', open('demand')),
    ask('demand 2', pool.open(sealed, reference, 'chunk')),
  ]);
  t.same(order, ['running', 'demand 1', 'demand 2', 'replay 1', 'replay 2', 'background', 'seal']);
});

t.test('more jobs than can wait are refused', async (t) => {
  const pool = makePool(t, 1);
  const plaintext = new Uint8Array(new SharedArrayBuffer(16));
  const seal = () => pool.seal({ plaintext, kind: 'chunk', packId: packA, counter: 1 });
  const results = await Promise.allSettled(Array.from({ length: 5000 }, seal));
  const refused = results.filter((result) => result.status === 'rejected');
  t.equal(refused.length, 5000 - 4096 - 1, 'one runs');
  t.match(refused[0]?.reason, { code: 'LIMIT_EXCEEDED' });
  t.match(await seal(), { outcome: 'zero' }, 'there is room again');
});

t.test('closing finishes what was begun, and nothing starts after it', async (t) => {
  const pool = createCodecPool(secrets, { threads: 2 });
  const { sealed, reference } = sealedExample(guestMemory());
  const begun = Array.from({ length: 20 }, () => pool.open(sealed, reference, 'chunk'));
  await Promise.all([pool[Symbol.asyncDispose](), pool[Symbol.asyncDispose]()]);
  t.equal((await Promise.all(begun)).length, 20);
  await pool[Symbol.asyncDispose]();
  await t.rejects(pool.open(sealed, reference, 'chunk'), /closed/);
});

t.test('threads start with the first chunk, and none of them keeps a process alive', async (t) => {
  const script = fileURLToPath(new URL('codec-child.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script]);
  t.same(JSON.parse(stdout), { afterMapNode: 0, afterChunk: 2 });
});

t.test('sealed bytes in a file are opened by the thread that reads them', async (t) => {
  const pool = makePool(t);
  const plaintext = guestMemory();
  const { sealed, reference } = sealedExample(plaintext);
  const path = join(t.testdir(), 'entry');
  const job = { path, offsetBytes: 56, reference, kind: 'chunk' } as const;
  t.equal(await pool.openFile(job), undefined, 'no file');

  await writeFile(path, Buffer.concat([Buffer.alloc(56), sealed]));
  for (const _ of [1, 2]) {
    const opened = await pool.openFile(job);
    t.ok(opened !== undefined && Buffer.from(opened).equals(plaintext));
  }
  const { sealed: shorter, reference: shorterReference } = sealedExample(randomBytes(5000), 2);
  await writeFile(`${path}-2`, shorter);
  const second = await pool.openFile({
    ...job,
    path: `${path}-2`,
    offsetBytes: 0,
    reference: shorterReference,
  });
  t.equal(second?.length, 5000, 'memory that held more does not show');

  t.equal(await pool.openFile({ ...job, offsetBytes: 57 }), undefined, 'the file ends before');
  t.equal(await pool.openFile({ ...job, kind: 'manifest' }), undefined, 'sealed as something else');
  t.equal(await pool.openFile({ ...job, path: t.testdirName }), undefined, 'a directory');
  const tooLong = { ...reference, sealedBytes: 2 ** 40 };
  t.equal(await pool.openFile({ ...job, reference: tooLong }), undefined, 'longer than any chunk');
  await truncate(path, 100);
  t.equal(await pool.openFile(job), undefined, 'torn');
});
