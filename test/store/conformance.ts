import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import type { Test } from 'tap';
import { ObjectChanged, objectKey, type ObjectInfo, type ObjectStore } from '../../src/store/index.js';

export interface Subject {
  /** Empty; the suite closes it. */
  readonly store: ObjectStore;
  /** Opens the same objects in another process; undefined where there is no such thing. */
  readonly url: string | undefined;
  /** False where an object that was replaced is an error to its readers, since objects never change. Default true. */
  readonly replaces?: boolean;
}

/** What every implementation and wrapper of `ObjectStore` must pass. `make` returns a fresh store. */
export async function storeConformance(t: Test, make: (t: Test) => Promise<Subject>): Promise<void> {
  const withStore = (name: string, body: (t: Test, store: ObjectStore, subject: Subject) => Promise<void>) =>
    t.test(name, async (t) => {
      const subject = await make(t);
      t.teardown(() => subject.store[Symbol.asyncDispose]());
      await body(t, subject.store, subject);
    });

  await withStore('an object comes back as it was put', async (t, store) => {
    await store.put(key('a/b/c'), [bytes('one'), bytes(''), bytes('two')]);
    t.equal(text(await store.get(key('a/b/c'))), 'onetwo');
    t.same(await store.stat(key('a/b/c')), { key: 'a/b/c', lengthBytes: 6 });
  });

  await withStore('empty objects', async (t, store) => {
    await store.put(key('no-parts'), []);
    t.equal(await store.putIfAbsent(key('empty-part'), [bytes('')]), 'created');
    for (const name of ['no-parts', 'empty-part']) {
      t.equal((await store.get(key(name))).length, 0);
      t.equal((await store.get(key(name), { offsetBytes: 0, lengthBytes: 0 })).length, 0);
      t.same(await store.stat(key(name)), { key: name, lengthBytes: 0 });
    }
  });

  await withStore('several MiB in many parts', async (t, store) => {
    const parts = Array.from({ length: 1500 }, (_, index) => new Uint8Array(index * 4 + 1).fill(index));
    const whole = Buffer.concat(parts);
    await store.put(key('large'), parts);
    t.ok(whole.equals(await store.get(key('large'))), `${whole.length} bytes`);
    const offsetBytes = 1_234_567;
    const range = await store.get(key('large'), { offsetBytes, lengthBytes: 2_000_000 });
    t.ok(whole.subarray(offsetBytes, offsetBytes + 2_000_000).equals(range));
  });

  await withStore('ranges', async (t, store) => {
    const content = Buffer.from(Array.from({ length: 300 }, (_, index) => index & 0xff));
    await store.put(key('object'), [content]);
    await fc.assert(
      fc.asyncProperty(fc.nat(320), fc.nat(320), async (offsetBytes, lengthBytes) => {
        const answer = store.get(key('object'), { offsetBytes, lengthBytes });
        if (offsetBytes + lengthBytes <= content.length)
          return content.subarray(offsetBytes, offsetBytes + lengthBytes).equals(await answer);
        const error: unknown = await answer.catch((error: unknown) => error);
        return (error as { code?: unknown }).code === 'OBJECT_TRUNCATED';
      }),
      { examples: [[0, 300], [0, 301], [299, 1], [299, 2], [300, 0], [300, 1], [301, 0], [5, 0]] }, // prettier-ignore
    );
    for (const [offsetBytes, lengthBytes] of [
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [0, NaN],
      [2 ** 53 - 1, 1],
    ] as const)
      // prettier-ignore
      await t.rejects(store.get(key('object'), { offsetBytes, lengthBytes }), RangeError);
  });

  await withStore('a range in pieces', async (t, store) => {
    const content = Buffer.from(Array.from({ length: 700_000 }, (_, index) => (index * index) >> 3));
    await store.put(key('object'), [content]);
    for (const [offsetBytes, lengthBytes] of [
      [0, 700_000],
      [1, 699_999],
      [123_456, 400_000],
      [699_999, 1],
      [300, 0],
    ] as const) {
      const pieces = await piecesOf(store.read(key('object'), { offsetBytes, lengthBytes }));
      t.ok(content.subarray(offsetBytes, offsetBytes + lengthBytes).equals(Buffer.concat(pieces)));
      t.ok(pieces.every((piece) => piece.length > 0));
      for (const piece of pieces) piece.fill(0);
    }
    t.ok(content.equals(await store.get(key('object'))), 'pieces belong to the caller');
    const past = { offsetBytes: 1, lengthBytes: 700_000 };
    await t.rejects(piecesOf(store.read(key('object'), past)), { code: 'OBJECT_TRUNCATED' });
    await t.rejects(piecesOf(store.read(key('missing'), past)), { code: 'OBJECT_MISSING' });
    await t.rejects(piecesOf(store.read(key('object'), { offsetBytes: -1, lengthBytes: 1 })), RangeError);
    const signal = AbortSignal.abort();
    await t.rejects(piecesOf(store.read(key('object'), past, { signal })), { code: 'CANCELLED' });
  });

  await withStore('a reading in pieces can be left', async (t, store) => {
    await store.put(key('object'), [new Uint8Array(700_000)]);
    for await (const piece of store.read(key('object'), { offsetBytes: 0, lengthBytes: 700_000 })) {
      t.ok(piece.length > 0);
      break;
    }
    const controller = new AbortController();
    const cancelled = (async () => {
      const range = { offsetBytes: 0, lengthBytes: 700_000 };
      for await (const piece of store.read(key('object'), range, { signal: controller.signal })) {
        t.ok(piece.length > 0);
        controller.abort();
      }
    })();
    const outcome: unknown = await cancelled.catch((error: unknown) => (error as { code?: unknown }).code);
    t.ok(outcome === 'CANCELLED' || outcome === undefined, String(outcome));
    await store[Symbol.asyncDispose]();
    await t.rejects(piecesOf(store.read(key('object'), { offsetBytes: 0, lengthBytes: 1 })), /closed/);
  });

  await withStore('a truncated object says what was expected and found', async (t, store) => {
    await store.put(key('short'), [bytes('12345')]);
    await t.rejects(store.get(key('short'), { offsetBytes: 3, lengthBytes: 4 }), {
      code: 'OBJECT_TRUNCATED',
      facts: { key: 'short', expectedBytes: 7, foundBytes: 5 },
    });
  });

  await withStore('what is not there', async (t, store) => {
    await store.put(key('there/object'), [bytes('x')]);
    for (const missing of ['missing', 'missing/below', 'there', 'there/object2', 'there/object/below']) {
      const error = { code: 'OBJECT_MISSING', facts: { key: missing } };
      await t.rejects(store.get(key(missing)), error);
      await t.rejects(store.get(key(missing), { offsetBytes: 0, lengthBytes: 0 }), error);
      t.equal(await store.stat(key(missing)), undefined);
    }
    await store.delete(key('missing'));
    await store.delete(key('missing/below'));
    t.same(await keysOf(store.list('missing/')), []);
  });

  await withStore('errors name the store and the object', async (t, store) => {
    const error: unknown = await store.get(key('missing')).catch((error: unknown) => error);
    t.match(error, { facts: { store: String, key: 'missing' } });
    t.match((error as Error).message, /missing/);
  });

  await withStore('put replaces', async (t, store) => {
    await store.put(key('object'), [bytes('a longer first content')]);
    await store.put(key('object'), [bytes('second')]);
    t.equal(text(await store.get(key('object'))), 'second');
    t.same(await keysOf(store.list('')), ['object']);
  });

  await withStore('readers see one whole object while it is replaced', async (t, store, { replaces }) => {
    const contents = Array.from({ length: 8 }, (_, index) => new Uint8Array(100_000 + index).fill(index));
    await store.put(key('object'), [contents[0]!]);
    const writes = contents.map((content) =>
      store.put(key('object'), [content.subarray(0, 50_000), content.subarray(50_000)]),
    );
    const reads = contents.map(async () => {
      const found = await store.get(key('object')).catch((error: unknown) => {
        if (replaces === false && error instanceof ObjectChanged) return undefined;
        throw error;
      });
      if (found === undefined) return true;
      const first = found[0] ?? NaN;
      return found.length === 100_000 + first && found.every((byte) => byte === first);
    });
    t.ok((await Promise.all(reads)).every(Boolean));
    await Promise.all(writes);
  });

  await withStore('putIfAbsent leaves an object alone', async (t, store) => {
    t.equal(await store.putIfAbsent(key('a/object'), [bytes('first')]), 'created');
    t.equal(await store.putIfAbsent(key('a/object'), [bytes('second')]), 'exists');
    t.equal(text(await store.get(key('a/object'))), 'first');
    await store.delete(key('a/object'));
    t.equal(await store.putIfAbsent(key('a/object'), [bytes('third')]), 'created');
    t.equal(text(await store.get(key('a/object'))), 'third');
  });

  await withStore('one of 64 concurrent putIfAbsent wins', async (t, store) => {
    const outcomes = await Promise.all(
      Array.from({ length: 64 }, (_, index) =>
        store.putIfAbsent(key('new/directory/object'), [bytes(`writer ${index}`)]),
      ),
    );
    const winners = [...outcomes.keys()].filter((index) => outcomes[index] === 'created');
    t.equal(winners.length, 1);
    t.equal(outcomes.filter((outcome) => outcome === 'exists').length, 63);
    t.equal(text(await store.get(key('new/directory/object'))), `writer ${winners[0] ?? NaN}`);
  });

  await withStore('delete', async (t, store) => {
    await store.put(key('a/one'), [bytes('1')]);
    await store.put(key('a/two'), [bytes('2')]);
    await store.delete(key('a/one'));
    await store.delete(key('a/one'));
    await t.rejects(store.get(key('a/one')), { code: 'OBJECT_MISSING' });
    t.same(await keysOf(store.list('a/')), ['a/two']);
  });

  await withStore('delete of many at once', async (t, store) => {
    const names = Array.from({ length: 30 }, (_, index) => `a/${index}`);
    await Promise.all(names.map((name) => store.put(key(name), [bytes('x')])));
    await store.delete([...names.slice(1), 'a/missing', 'missing/below'].map(key));
    t.same(await keysOf(store.list('')), ['a/0']);
    await store.delete([]);
    t.same(await keysOf(store.list('')), ['a/0']);
  });

  await withStore('list is in key order, also where names sort around the slash', async (t, store) => {
    const keys = [
      'a',
      'a-b/c',
      'a-b.d',
      'b-',
      'b/x',
      'b.',
      'b0',
      'c/d/e/f',
      'c/d/e-f',
      'c/d.e',
      'tmp/x',
      'zz',
    ];
    for (const name of keys) await store.put(key(name), [bytes(name)]);
    const expected = [...keys].sort();
    t.same(
      await infosOf(store.list('')),
      expected.map((name) => ({ key: name, lengthBytes: name.length })),
    );
    for (const prefix of ['b/', 'c/', 'c/d/', 'tmp/', 'a/', 'nothing/']) {
      const below = expected.filter((name) => name.startsWith(prefix));
      t.same(await keysOf(store.list(prefix)), below, prefix);
    }
    for (const after of [...keys, '0', 'a-b', 'b/w', 'b/y', 'c', 'c/d/e', 'zzz']) {
      const later = expected.filter((name) => name > after);
      t.same(await keysOf(store.list('', { after: key(after) })), later, `after ${after}`);
      const laterInC = later.filter((name) => name.startsWith('c/'));
      t.same(await keysOf(store.list('c/', { after: key(after) })), laterInC, `c/ after ${after}`);
    }
  });

  await withStore('list, many objects, stopped early and taken up again', async (t, store) => {
    const names = Array.from({ length: 150 }, (_, index) => `log/${String(index).padStart(4, '0')}`);
    await Promise.all(names.map((name) => store.put(key(name), [bytes('x')])));
    const seen: string[] = [];
    for await (const info of store.list('log/')) {
      seen.push(info.key);
      if (seen.length === 70) break;
    }
    for await (const info of store.list('log/', { after: key(seen.at(-1)!) })) seen.push(info.key);
    t.same(seen, names);
  });

  await withStore('objects deleted during a listing do not disturb it', async (t, store) => {
    for (const name of ['a/1', 'a/2', 'b/1', 'c']) await store.put(key(name), [bytes('x')]);
    const seen: string[] = [];
    for await (const info of store.list('')) {
      if (info.key === 'a/1') for (const name of ['a/1', 'a/2', 'b/1']) await store.delete(key(name));
      seen.push(info.key);
    }
    t.ok(seen.includes('a/1') && seen.includes('c'), seen.join(' '));
  });

  await withStore('a request whose signal has fired does nothing', async (t, store) => {
    await store.put(key('object'), [bytes('old')]);
    const options = { signal: AbortSignal.abort() };
    const cancelled = { code: 'CANCELLED' };
    await t.rejects(store.get(key('object'), undefined, options), cancelled);
    await t.rejects(store.put(key('object'), [bytes('new')], options), cancelled);
    await t.rejects(store.putIfAbsent(key('other'), [bytes('new')], options), cancelled);
    await t.rejects(store.stat(key('object'), options), cancelled);
    await t.rejects(store.delete(key('object'), options), cancelled);
    await t.rejects(keysOf(store.list('', options)), cancelled);
    t.equal(text(await store.get(key('object'))), 'old');
    t.same(await keysOf(store.list('')), ['object']);
  });

  await withStore('a write that is cancelled half-way is whole or not there', async (t, store) => {
    const parts = Array.from({ length: 2000 }, () => new Uint8Array(1000).fill(7));
    for (let attempt = 0; attempt < 5; attempt++) {
      const controller = new AbortController();
      const write = store.putIfAbsent(key(`object${attempt}`), parts, { signal: controller.signal });
      for (let turn = 0; turn < attempt; turn++) await new Promise(setImmediate);
      controller.abort();
      const outcome: unknown = await write.catch((error: unknown) => (error as { code?: unknown }).code);
      t.ok(outcome === 'CANCELLED' || outcome === 'created', String(outcome));
    }
    for await (const info of store.list('')) t.equal(info.lengthBytes, 2_000_000);
  });

  await withStore('a signal that never fires changes nothing', async (t, store) => {
    const { signal } = new AbortController();
    await store.put(key('object'), [bytes('content')], { signal });
    t.equal(text(await store.get(key('object'), undefined, { signal })), 'content');
    t.same(await keysOf(store.list('', { signal })), ['object']);
  });

  await withStore('buffers are not shared between the store and its callers', async (t, store) => {
    const given = bytes('content');
    await store.put(key('object'), [given]);
    given.fill(0);
    const got = await store.get(key('object'));
    t.equal(text(got), 'content');
    got.fill(0);
    t.equal(text(await store.get(key('object'))), 'content');
    const range = await store.get(key('object'), { offsetBytes: 1, lengthBytes: 2 });
    t.equal(range.buffer.byteLength, 2, 'the memory can be handed to a thread');
  });

  await withStore('a bad prefix is a programming error', async (t, store) => {
    for (const prefix of ['a', '/', '/a/', 'a//', '../', '.tmp/', 'A/'])
      await t.rejects(keysOf(store.list(prefix)), /not a prefix of object keys/, prefix);
  });

  await withStore('closing waits for the requests under way, and may be repeated', async (t, store) => {
    const writes = ['a', 'b', 'c'].map((name) => store.put(key(name), [bytes(name)]));
    let done = 0;
    for (const write of writes) void write.then(() => (done += 1));
    await Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]);
    t.equal(done, 3);
    await store[Symbol.asyncDispose]();
    await t.rejects(store.get(key('a')), /closed/);
    await t.rejects(keysOf(store.list('')), /closed/);
  });

  const { store, url } = await make(t);
  t.teardown(() => store[Symbol.asyncDispose]());
  t.match(store.description, /^[a-z0-9+]+:/, 'it describes itself');

  if (url === undefined) return;
  await t.test('one of several processes wins', async (t) => {
    const wins = await winsOfProcesses(t, url, 'contested/object');
    const total = wins.reduce((sum, count) => sum + count);
    t.equal(total, 1, wins.join(' '));
    t.match(text(await store.get(key('contested/object'))), /^process \d+, attempt \d+$/);
  });
}

/** Several processes try at the same moment; returns how often each won. */
async function winsOfProcesses(t: Test, url: string, contested: string): Promise<readonly number[]> {
  const program = fileURLToPath(new URL('./put-if-absent-child.js', import.meta.url));
  const children = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const child = spawn(process.execPath, [...process.execArgv, program, url, contested, '16'], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      t.teardown(() => child.kill('SIGKILL'));
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      await lines.next();
      return { child, lines };
    }),
  );
  for (const { child } of children) child.stdin.write('go\n');
  return Promise.all(
    children.map(async ({ child, lines }) => {
      const exit = once(child, 'exit');
      const line = await lines.next();
      await exit;
      return Number(line.value);
    }),
  );
}

async function piecesOf(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  for await (const piece of pieces) found.push(piece);
  return found;
}

export const key = objectKey;

export function bytes(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

export function text(content: Uint8Array): string {
  return new TextDecoder().decode(content);
}

export async function infosOf(list: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const infos: ObjectInfo[] = [];
  for await (const info of list) infos.push(info);
  return infos;
}

export async function keysOf(list: AsyncIterable<ObjectInfo>): Promise<string[]> {
  return (await infosOf(list)).map((info) => info.key);
}
