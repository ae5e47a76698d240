// First: it records what is written.
import { tryPowerLosses } from '../../test/fs/support/power-loss.js';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

/** The part of `make crash-lab` in which power is lost: as many images as wanted, from one seed. */
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    images: { type: 'string', default: '6000' },
  },
});

/** Of one workload: then the next one, with the next seed. */
const imagesPerWorkload = 300;
const changesPerWorkload = 150;

const first = Number(values.seed);
const wanted = Number(values.images);
console.log(`power losses of an overlay, seed ${first}`);
// In memory where there is such a place: nothing here waits for a real disk.
const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'isr-power-loss-'));
try {
  let images = 0;
  let events = 0;
  for (let seed = first; images < wanted; seed++) {
    const count = Math.min(imagesPerWorkload, wanted - images);
    const directory = join(root, String(seed));
    const result = await tryPowerLosses(directory, { seed, changes: changesPerWorkload, images: count });
    await rm(directory, { recursive: true });
    images += result.images;
    events += result.events;
  }
  console.log(`nothing flushed was lost: ${JSON.stringify({ images, events })}`);
} catch (error) {
  console.error(error);
  // The seed that the message names is the workload's own: it comes first then.
  console.error('Again: make crash-lab CRASHES=0 SEED=(the seed above)');
  process.exitCode = 1;
} finally {
  await rm(root, { recursive: true, force: true });
}
