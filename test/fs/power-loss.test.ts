/** Power is lost at many moments of random work on an overlay: see "Power loss" in CONTRIBUTING.md. */
// First: it records what is written.
import { tryPowerLosses } from './support/power-loss.js';
import t from 'tap';
import { temporaryDirectory } from './support/open-file-system.js';

for (const seed of [1, 2, 3, 4, 5, 6]) {
  t.test(
    `what was flushed survives power loss, and nothing shows that was never there (seed ${seed})`,
    async (t) => {
      const trial = { seed, changes: 150, images: 240 };
      const { images, states, events } = await tryPowerLosses(temporaryDirectory(t), trial);
      t.equal(images, 240);
      t.ok(states > 50 && events > 300, `${states} states, ${events} events`);
    },
  );
}

t.test('a disk that forgets one sync in seven is noticed', async (t) => {
  const trial = { seed: 7, changes: 150, images: 240, forgetsOneIn: 7 };
  await t.rejects(tryPowerLosses(temporaryDirectory(t), trial), {
    message: /^seed 7, image \d+: power lost/,
  });
});
