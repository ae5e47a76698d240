import fc from 'fast-check';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { Surroundings, type SurroundedFile } from '../../src/fetch/surroundings.js';

const chunkBytes = 128 * 1024;
const MiB = 1024 * 1024;

interface Piece {
  readonly startBytes: number;
  readonly endBytes: number;
  /** It has come. */
  readonly done: () => void;
}

/** A file that notes what is warmed of it. */
class NotingFile implements SurroundedFile {
  readonly map: SurroundedFile['map'];
  readonly pieces: Piece[] = [];

  constructor(sizeBytes: number) {
    this.map = { chunkBytes, sizeBytes };
  }

  warm(offsetBytes: number, lengthBytes: number): Promise<void> {
    return new Promise((resolve) =>
      this.pieces.push({ startBytes: offsetBytes, endBytes: offsetBytes + lengthBytes, done: resolve }),
    );
  }

  /** All that was asked for has come; what is asked for then is not. */
  arrive(): void {
    for (const piece of this.pieces) piece.done();
  }
}

interface World {
  readonly surroundings: Surroundings;
  readonly link: { nowMs: number; keepsClose: boolean };
}

function world(t: Test, roundTripMs: number | undefined = 20): World {
  const link = { nowMs: 0, keepsClose: false, roundTripMs, now: () => link.nowMs };
  const surroundings = new Surroundings(link);
  // What it waits for does not keep a process alive.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => {
    surroundings[Symbol.dispose]();
    clearInterval(alive);
  });
  return { surroundings, link };
}

/** A demand, and what ends it. */
async function demand(
  { surroundings }: World,
  file: SurroundedFile,
  offsetBytes: number,
): Promise<() => Promise<void>> {
  let answer: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => (answer = resolve));
  await surroundings.missed(file, offsetBytes / chunkBytes, answered);
  return async () => {
    answer();
    await sleep(0);
  };
}

t.test('first what follows a demand, then what is before it, then wider, and no piece twice', async (t) => {
  const file = new NotingFile(64 * MiB);
  await demand(world(t), file, 16 * MiB);
  const asked = (): readonly (readonly [number, number])[] =>
    file.pieces.map(({ startBytes, endBytes }) => [startBytes / chunkBytes, endBytes / chunkBytes]);
  t.strictSame(asked(), [
    [129, 131],
    [126, 128],
    [131, 135],
  ]);
  file.arrive();
  await sleep(0);
  t.strictSame(asked().slice(3), [
    [122, 126],
    [135, 143],
    [114, 122],
  ]);
});

t.test('nothing where the answer comes at once, and nothing more once nobody waits', async (t) => {
  const quick = new NotingFile(64 * MiB);
  await world(t).surroundings.missed(quick, 5, Promise.resolve());
  t.strictSame(quick.pieces, []);

  const place = world(t);
  const file = new NotingFile(64 * MiB);
  const answer = await demand(place, file, 16 * MiB);
  t.equal(file.pieces.length, limits.surroundings.piecesInFlight);
  await answer();
  file.arrive();
  await sleep(0);
  t.equal(file.pieces.length, 2 * limits.surroundings.piecesInFlight, 'another demand is expected soon');
  place.link.nowMs += 1000;
  file.arrive();
  await sleep(0);
  t.equal(file.pieces.length, 2 * limits.surroundings.piecesInFlight);
});

t.test(
  'where others have a better use of the link, or of the cache, only what is next to a demand',
  async (t) => {
    const place = world(t);
    place.link.keepsClose = true;
    const file = new NotingFile(64 * MiB);
    await demand(place, file, 16 * MiB);
    file.arrive();
    await sleep(0);
    t.equal(file.pieces.length, 2);
  },
);

t.test('a new demand comes before more around older ones', async (t) => {
  const place = world(t);
  const file = new NotingFile(256 * MiB);
  await demand(place, file, 16 * MiB);
  await demand(place, file, 200 * MiB);
  file.arrive();
  await sleep(0);
  t.equal(file.pieces[3]?.startBytes, 200 * MiB + chunkBytes);
});

t.test('demands that ascend have ever more fetched after them, and nothing before', async (t) => {
  const place = world(t);
  const file = new NotingFile(256 * MiB);
  for (const chunk of [0, 1, 2, 3]) {
    const answer = await demand(place, file, 100 * MiB + chunk * chunkBytes);
    await answer();
    file.arrive();
    await sleep(0);
  }
  const scanned = file.pieces.slice(12);
  t.ok(scanned.length > 0);
  t.ok(scanned.every(({ startBytes }) => startBytes > 100 * MiB));
  t.equal(Math.max(...scanned.map(({ startBytes, endBytes }) => endBytes - startBytes)), 2 * MiB);
});

t.test('whatever is demanded, and whenever: within the file, whole chunks, and bounded', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 400 }),
      fc.array(fc.tuple(fc.nat(399), fc.boolean(), fc.boolean()), { minLength: 1, maxLength: 30 }),
      async (chunks, demands) => {
        const place = world(t);
        const sizeBytes = chunks * chunkBytes - 5;
        const file = new NotingFile(sizeBytes);
        for (const [chunk, isAnswered, hasCome] of demands) {
          let answer: () => void = () => undefined;
          const answered = new Promise<void>((resolve) => (answer = resolve));
          const missed = place.surroundings.missed(file, chunk % chunks, answered);
          if (isAnswered) answer();
          await missed;
          const waiting = file.pieces.length;
          if (hasCome) file.arrive();
          await sleep(0);
          t.ok(file.pieces.length - waiting <= limits.surroundings.piecesInFlight);
        }
        for (const { startBytes, endBytes } of file.pieces) {
          t.ok(startBytes >= 0 && startBytes < endBytes && endBytes <= sizeBytes);
          t.equal(startBytes % chunkBytes, 0);
        }
        place.surroundings[Symbol.dispose]();
      },
    ),
    { numRuns: 40 },
  );
});
