import { seededRandom } from '../../src/store/index.js';
import { systemClock } from '../../src/base/index.js';
import { LocalCache } from '../../src/fetch/local-cache.js';
import { DamagedObject } from '../../src/repo/index.js';
import { contentOf, packIdOf, repositoryId, sameBytes, sealBlob, sealer } from './support.js';

/* One of several processes that share a cache directory: reads and adds at random, checks whatever it gets. */

const [path = '', limitText = '', seedText = '', stepsText = ''] = process.argv.slice(2);
const random = seededRandom(Number(seedText));
const blobs = Array.from({ length: 200 }, (_, number) =>
  sealBlob(contentOf(number, 3000), { packId: packIdOf(1), counter: number + 1, offsetBytes: 28 }),
);
const cache = await LocalCache.open({
  repositoryId,
  path,
  limitBytes: Number(limitText),
  clock: systemClock,
});
let hits = 0;
let damaged = 0;

for (let step = 0; step < Number(stepsText); step += 1) {
  if (step === 20) process.stdout.write('working\n');
  const blob = blobs[Math.floor(random() * blobs.length)];
  if (blob === undefined) throw new Error('no blob');
  const { reference, kind, sealed, plaintext } = blob;
  const cached = await cache.get(reference, kind);
  if (cached === undefined) {
    await cache.put(reference, kind, sealed);
    continue;
  }
  try {
    if (!sameBytes(sealer.open(cached.sealed, cached.reference, kind), plaintext))
      throw new Error('wrong data');
    hits += 1;
  } catch (error) {
    if (!(error instanceof DamagedObject)) throw error;
    damaged += 1;
    await cache.discardDamaged(reference, kind);
  }
}
await cache.settled();
const { diskErrors, lastDiskError } = cache.status();
await cache[Symbol.asyncDispose]();
process.stdout.write(`${JSON.stringify({ hits, damaged, diskErrors, lastDiskError })}\n`);
