import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/index.js';
import {
  LabStore,
  openStore,
  perfectConditions,
  seededRandom,
  type LabConditions,
} from '../../src/store/index.js';
import { bytes, key, keysOf, storeConformance, text } from './conformance.js';
import { MemoryStore } from './memory-store.js';
import { VirtualClock } from './virtual-clock.js';

function lab(conditions: Partial<LabConditions>, seed = 1) {
  const clock = new VirtualClock();
  const inner = new MemoryStore();
  const store = new LabStore(inner, { ...perfectConditions, ...conditions }, clock, seededRandom(seed));
  return { clock, inner, store };
}

/** Codes of errors, or `ok`. */
async function outcomeOf(request: Promise<unknown>): Promise<string> {
  return request.then(
    () => 'ok',
    (error: unknown) => (error as { code: string }).code,
  );
}

t.test('the store in memory that these tests use keeps the contract', async (t) => {
  await storeConformance(t, async () => ({ store: new MemoryStore(), url: undefined }));
});

t.test('contract, behind a link that costs nothing', async (t) => {
  await storeConformance(t, async (t) => {
    const url = `lab+file://${join(t.testdir(), 'store')}`;
    return { store: await openStore(url, { create: true }), url };
  });
});

t.test('contract, behind a link that costs time', async (t) => {
  await storeConformance(t, async () => {
    const conditions = { ...perfectConditions, megabitsPerSecond: 20_000, roundTripMs: 1, jitterMs: 1 };
    const store = new LabStore(new MemoryStore(), conditions, systemClock, seededRandom(1));
    return { store, url: undefined };
  });
});

t.test('a request takes a round trip and its transfer', async (t) => {
  const { clock, inner, store } = lab({ megabitsPerSecond: 100, roundTripMs: 20 });
  await inner.put(key('object'), [new Uint8Array(125_000)]);
  await clock.run(store.stat(key('object')));
  t.equal(clock.now(), 20);
  await clock.run(store.get(key('object')));
  t.ok(Math.abs(clock.now() - 50) < 1e-6, `20 + 20 + 125,000 bytes at 12,500 a millisecond: ${clock.now()}`);
  await clock.run(store.put(key('object'), [new Uint8Array(12_500), new Uint8Array(12_500)]));
  t.ok(Math.abs(clock.now() - 72) < 1e-6, `and 20 + 2: ${clock.now()}`);
});

t.test('concurrent requests wait for round trips together and share the bandwidth', async (t) => {
  const { clock, inner, store } = lab({ megabitsPerSecond: 8, roundTripMs: 50 });
  await inner.put(key('object'), [new Uint8Array(10_000)]);
  await clock.run(Promise.all(Array.from({ length: 10 }, () => store.get(key('object')))));
  t.ok(
    Math.abs(clock.now() - 150) < 1e-6,
    `50 + 10 times 10,000 bytes at 1,000 a millisecond: ${clock.now()}`,
  );
});

t.test('both directions transfer at once', async (t) => {
  const { clock, inner, store } = lab({ megabitsPerSecond: 8 });
  await inner.put(key('object'), [new Uint8Array(100_000)]);
  await clock.run(
    Promise.all([store.get(key('object')), store.put(key('other'), [new Uint8Array(100_000)])]),
  );
  t.ok(Math.abs(clock.now() - 100) < 1e-6, `${clock.now()}`);
});

t.test('a small transfer is not stuck behind a large one', async (t) => {
  const { clock, inner, store } = lab({ megabitsPerSecond: 8, roundTripMs: 10 });
  await inner.put(key('large'), [new Uint8Array(8 * 1024 * 1024)]);
  await inner.put(key('small'), [new Uint8Array(1000)]);
  const large = store.get(key('large'));
  await clock.run(store.stat(key('large')));
  await clock.run(store.get(key('small')));
  t.ok(clock.now() < 200, `one turn of 64 KiB in front of it: ${clock.now()} ms`);
  await clock.run(large);
  t.ok(Math.abs(clock.now() - (10 + (8 * 1024 * 1024 + 1000) / 1000)) < 1e-3, `${clock.now()}`);
});

t.test('late timers do not lower the bandwidth', async (t) => {
  const clock = new VirtualClock();
  const inner = new MemoryStore();
  const late = { now: () => clock.now(), wallMs: () => clock.wallMs(), delay: (ms: number, signal: AbortSignal) => clock.delay(Math.ceil(ms) + 1, signal) }; // prettier-ignore
  const store = new LabStore(inner, { ...perfectConditions, megabitsPerSecond: 800 }, late, seededRandom(1));
  await inner.put(key('object'), [new Uint8Array(10_000_000)]);
  await clock.run(store.get(key('object')));
  t.ok(clock.now() >= 100 && clock.now() < 103, `${clock.now()} ms`);
});

t.test('jitter stays within its bound and comes from the seed', async (t) => {
  const timesOf = async (seed: number) => {
    const { clock, store } = lab({ roundTripMs: 10, jitterMs: 5 }, seed);
    const durations: number[] = [];
    for (let request = 0; request < 50; request++) {
      const startMs = clock.now();
      await clock.run(store.stat(key('object')));
      durations.push(clock.now() - startMs);
    }
    return durations;
  };
  const durations = await timesOf(1);
  t.ok(durations.every((duration) => duration >= 10 - 1e-6 && duration < 15 + 1e-6));
  t.ok(Math.max(...durations) - Math.min(...durations) > 2);
  t.same(await timesOf(1), durations);
  t.notSame(await timesOf(2), durations);
});

t.test('a listing costs a round trip for every thousand keys', async (t) => {
  const { clock, inner, store } = lab({ roundTripMs: 10 });
  t.same(await clock.run(keysOf(store.list(''))), []);
  t.equal(clock.now(), 10);
  for (let index = 0; index < 2001; index++) await inner.put(key(`${index}`), []);
  t.equal((await clock.run(keysOf(store.list('')))).length, 2001);
  t.equal(clock.now(), 40);
});

t.test('cancelling ends the wait', async (t) => {
  const { clock, inner, store } = lab({ megabitsPerSecond: 8, roundTripMs: 1000 });
  await inner.put(key('object'), [new Uint8Array(10_000_000)]);
  const controller = new AbortController();
  const duringRoundTrip = store.get(key('object'), undefined, { signal: controller.signal });
  controller.abort();
  t.equal(await clock.run(outcomeOf(duringRoundTrip)), 'CANCELLED');
  t.equal(clock.now(), 0);

  const controller2 = new AbortController();
  const duringTransfer = store.get(key('object'), undefined, { signal: controller2.signal });
  await clock.run(store.stat(key('object')));
  controller2.abort();
  t.equal(await clock.run(outcomeOf(duringTransfer)), 'CANCELLED');
});

t.test('errors: their rate, and writes that fail may have happened', async (t) => {
  const { inner, store } = lab({ errorRate: 0.25 });
  const outcomes = new Map<string, string>();
  for (let index = 0; index < 400; index++)
    outcomes.set(`k${index}`, await outcomeOf(store.putIfAbsent(key(`k${index}`), [bytes('x')])));
  const there = new Set(await keysOf(inner.list('')));
  const failed = [...outcomes.keys()].filter((name) => outcomes.get(name) === 'STORE_UNREACHABLE');
  const failedButThere = failed.filter((name) => there.has(name));
  t.ok(failed.length > 70 && failed.length < 130, `${failed.length} of 400`);
  t.ok(failedButThere.length > 25 && failedButThere.length < 75, `${failedButThere.length} were carried out`);
  t.equal(there.size, 400 - failed.length + failedButThere.length);
});

t.test('every operation can fail', async (t) => {
  const { store } = lab({ errorRate: 1 });
  const object = key('object');
  for (const request of [
    store.get(object),
    store.put(object, []),
    store.putIfAbsent(object, []),
    store.stat(object),
    store.delete(object),
    keysOf(store.list('')),
  ])
    t.equal(await outcomeOf(request), 'STORE_UNREACHABLE');
});

t.test('corruption flips one bit of an answer, and the object stays sound', async (t) => {
  const { inner, store } = lab({ corruptRate: 1 });
  const content = new Uint8Array(1000);
  await inner.put(key('object'), [content]);
  await inner.put(key('empty'), []);
  const positions = new Set<number>();
  for (let attempt = 0; attempt < 20; attempt++) {
    const got = await store.get(key('object'));
    const wrong = [...got.entries()].filter(([, byte]) => byte !== 0);
    t.equal(wrong.length, 1);
    const [position, byte] = wrong[0]!;
    t.ok([1, 2, 4, 8, 16, 32, 64, 128].includes(byte));
    positions.add(position);
  }
  t.ok(positions.size > 10, 'anywhere');
  t.same(await inner.get(key('object')), content);
  t.equal((await store.get(key('empty'))).length, 0);
});

t.test('truncation is an error, never short data', async (t) => {
  const { inner, store } = lab({ truncateRate: 1 });
  await inner.put(key('object'), [new Uint8Array(1000)]);
  await t.rejects(store.get(key('object')), { code: 'OBJECT_TRUNCATED', facts: { expectedBytes: 1000 } });
  const error: unknown = await store
    .get(key('object'), { offsetBytes: 600, lengthBytes: 300 })
    .catch((error: unknown) => error);
  t.match(error, { code: 'OBJECT_TRUNCATED', facts: { expectedBytes: 900 } });
  const { foundBytes } = (error as { facts: { foundBytes: number } }).facts;
  t.ok(foundBytes >= 600 && foundBytes < 900, `${foundBytes}`);
});

t.test(
  'a reading in pieces shares the link, and its faults strike where they are in the answer',
  async (t) => {
    const content = new Uint8Array(1_000_000);
    const range = { offsetBytes: 0, lengthBytes: content.length };
    const reading = async (conditions: Partial<LabConditions>, seed = 1) => {
      const { clock, inner, store } = lab({ megabitsPerSecond: 8, roundTripMs: 10, ...conditions }, seed);
      await inner.put(key('object'), [content]);
      const arrivedMs: number[] = [];
      const bytesOfPieces: number[] = [];
      const read = async () => {
        for await (const piece of store.read(key('object'), range)) {
          arrivedMs.push(clock.now());
          bytesOfPieces.push(piece.filter((byte) => byte === 0).length);
        }
      };
      const outcome = await clock.run(outcomeOf(read()));
      return { outcome, arrivedMs, bytes: bytesOfPieces.reduce((sum, bytes) => sum + bytes, 0) };
    };
    const sound = await reading({});
    t.equal(sound.outcome, 'ok');
    t.equal(sound.bytes, content.length);
    t.ok(Math.abs(sound.arrivedMs[0]! - (10 + 10)) < 1e-6, 'the first piece is there long before the last');
    t.ok(Math.abs(sound.arrivedMs.at(-1)! - 1010) < 1e-6);
    t.equal((await reading({ corruptRate: 1 })).bytes, content.length - 1);
    for (const [fault, code] of [
      [{ truncateRate: 1 }, 'OBJECT_TRUNCATED'],
      [{ errorRate: 1 }, 'STORE_UNREACHABLE'],
    ] as const) {
      const struck = await Promise.all([1, 2, 3, 4, 5, 6].map((seed) => reading(fault, seed)));
      t.ok(struck.every(({ outcome }) => outcome === code));
      t.ok(struck.every(({ bytes }) => bytes < content.length));
      t.ok(
        struck.some(({ bytes }) => bytes > 0),
        'somewhere in the middle',
      );
    }
  },
);

t.test('faults come from the seed alone, and one rate does not move the faults of another', async (t) => {
  const failuresOf = async (conditions: Partial<LabConditions>, seed: number) => {
    const { inner, store } = lab({ errorRate: 0.3, ...conditions }, seed);
    await inner.put(key('object'), [new Uint8Array(100)]);
    const outcomes: string[] = [];
    for (let request = 0; request < 60; request++) outcomes.push(await outcomeOf(store.get(key('object'))));
    return outcomes;
  };
  const failures = await failuresOf({}, 7);
  t.same(await failuresOf({}, 7), failures);
  t.same(await failuresOf({ corruptRate: 0.5 }, 7), failures);
  t.notSame(await failuresOf({}, 8), failures);
});

t.test('an outage begins and ends at any time', async (t) => {
  const { clock, inner, store } = lab({ roundTripMs: 10 });
  await inner.put(key('object'), [bytes('content')]);
  store.setOutage(true);
  t.equal(await clock.run(outcomeOf(store.get(key('object')))), 'STORE_UNREACHABLE');
  t.equal(clock.now(), 10, 'after a round trip');
  t.equal(await clock.run(outcomeOf(store.put(key('new'), []))), 'STORE_UNREACHABLE');
  t.equal(await inner.stat(key('new')), undefined);
  store.setOutage(false);
  t.equal(text(await clock.run(store.get(key('object')))), 'content');

  const underWay = outcomeOf(store.get(key('object')));
  store.setOutage(true);
  t.equal(await clock.run(underWay), 'STORE_UNREACHABLE');
});

t.test('a lost object is missing until it is put again', async (t) => {
  const { inner, store } = lab({});
  const object = key('a/object');
  for (const again of ['put', 'putIfAbsent'] as const) {
    await store.put(object, [bytes('old')]);
    store.loseObject(object);
    t.equal(await outcomeOf(store.get(object)), 'OBJECT_MISSING');
    t.equal(await store.stat(object), undefined);
    t.same(await keysOf(store.list('a/')), []);
    t.equal(text(await inner.get(object)), 'old');
    t.equal(await store[again](object, [bytes('new')]), again === 'put' ? undefined : 'created');
    t.equal(text(await store.get(object)), 'new');
    t.same(await keysOf(store.list('a/')), ['a/object']);
  }
});

t.test('each failure says what a real store would, and how often comes from its rate', async (t) => {
  const failures: readonly (readonly [Partial<LabConditions>, string, RegExp])[] = [
    [{ refuseRate: 0.5 }, 'STORE_UNREACHABLE', /the connection was refused/],
    [{ resetRate: 0.5 }, 'STORE_UNREACHABLE', /the connection broke off/],
    [{ serverErrorRate: 0.5 }, 'STORE_UNREACHABLE', /it answers 500/],
    [{ slowDownRate: 0.5 }, 'STORE_UNREACHABLE', /it answers 503 \(SlowDown\)/],
    [{ forbiddenRate: 0.5 }, 'STORE_REFUSED', /it answers 403/],
    [{ cutRate: 0.5 }, 'STORE_UNREACHABLE', /its answer broke off after \d+ of 100 bytes/],
  ];
  for (const [conditions, code, message] of failures) {
    const { inner, store } = lab(conditions);
    await inner.put(key('object'), [new Uint8Array(100)]);
    const errors: unknown[] = [];
    for (let request = 0; request < 200; request++) {
      const answer: Promise<unknown> =
        request % 2 === 0
          ? store.get(key('object'))
          : keysOfPieces(store.read(key('object'), { offsetBytes: 0, lengthBytes: 100 }));
      await answer.catch((error: unknown) => errors.push(error));
    }
    t.ok(errors.length > 70 && errors.length < 130, `${code}: ${errors.length} of 200`);
    t.ok(errors.every((error) => (error as { code: string }).code === code));
    for (const error of errors) t.match(error, { message });
  }
});

async function keysOfPieces(pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of pieces);
}

t.test('what is refused was not carried out; what is reset may have been', async (t) => {
  for (const [conditions, mayBeThere] of [
    [{ refuseRate: 1 }, false],
    [{ slowDownRate: 1 }, false],
    [{ forbiddenRate: 1 }, false],
    [{ resetRate: 1 }, true],
  ] as const) {
    const { inner, store } = lab(conditions);
    for (let index = 0; index < 50; index++) await outcomeOf(store.put(key(`k${index}`), []));
    const there = (await keysOf(inner.list(''))).length;
    t.ok(mayBeThere ? there > 10 && there < 40 : there === 0, `${JSON.stringify(conditions)}: ${there}`);
  }
});

t.test('a stalled answer goes on after a while, or ends with its reader', async (t) => {
  const { clock, inner, store } = lab({ stallRate: 1, stallMs: 30_000 });
  await inner.put(key('object'), [bytes('content')]);
  t.equal(text(await clock.run(store.get(key('object')))), 'content');
  t.equal(clock.now(), 30_000);
  await clock.run(keysOfPieces(store.read(key('object'), { offsetBytes: 0, lengthBytes: 7 })));
  t.equal(clock.now(), 60_000);
  const controller = new AbortController();
  const stalled = outcomeOf(store.get(key('object'), undefined, { signal: controller.signal }));
  await new Promise(setImmediate);
  controller.abort();
  t.equal(await clock.run(stalled), 'CANCELLED');
  t.equal(clock.now(), 60_000);
});

t.test('a wrong range has the right length and other bytes', async (t) => {
  const { inner, store } = lab({ wrongRangeRate: 1 });
  await inner.put(key('object'), [bytes('abcdefgh')]);
  t.equal(text(await store.get(key('object'), { offsetBytes: 4, lengthBytes: 3 })), 'bcd');
  const whole = await store.get(key('object'));
  t.equal(whole.length, 8);
  t.not(text(whole), 'abcdefgh');
});

t.test('outages come as planned, and as the seed says', async (t) => {
  const planned = lab({ roundTripMs: 1000, outages: [{ fromSeconds: 2, toSeconds: 4 }] });
  const outcomes: string[] = [];
  for (let request = 0; request < 6; request++)
    outcomes.push(await planned.clock.run(outcomeOf(planned.store.stat(key('object')))));
  t.same(outcomes, ['ok', 'STORE_UNREACHABLE', 'STORE_UNREACHABLE', 'ok', 'ok', 'ok']);

  const historyOf = async (seed: number) => {
    const { clock, store } = lab({ roundTripMs: 100, outageEveryMs: 2000, outageMs: 1000 }, seed);
    let history = '';
    for (let request = 0; request < 600; request++)
      history += (await clock.run(outcomeOf(store.stat(key('object'))))) === 'ok' ? '.' : 'x';
    return history;
  };
  const history = await historyOf(1);
  t.equal(await historyOf(1), history);
  t.not(await historyOf(2), history);
  const outages = history.match(/x+/g) ?? [];
  t.ok(outages.length > 13 && outages.length < 27, `${outages.length} outages in a minute`);
  t.ok(outages.every((outage) => outage.length >= 9 && outage.length <= 11));
});

t.test('closing closes the wrapped store', async (t) => {
  const { inner, store } = lab({});
  await store[Symbol.asyncDispose]();
  await t.rejects(inner.stat(key('object')), /closed/);
});
