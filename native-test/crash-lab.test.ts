/** A short form of `make crash-lab`, and what it says of mounts that do lose something. Seeds are fixed. */
import t from 'tap';
import { runCrashLab } from './crash-lab/crash-lab.js';
import { CrashLabFailed } from './crash-lab/crashed-vm.js';

const few = { engine: 'kernel', seed: 7, crashes: 40, mounts: 3 } as const;

t.test('processes that serve mounts are killed, and everything acknowledged is there', async (t) => {
  const { crashes, mountsLost } = await runCrashLab(few);
  t.equal(crashes, 40);
  t.ok(mountsLost > 4, `${mountsLost} mounts lost`);
});

for (const breaks of ['loseRecords', 'loseBytes'] as const) {
  t.test(`the lab notices a mount that loses what it acknowledged (${breaks})`, async (t) => {
    const error = await runCrashLab({ ...few, mounts: 1, breaks }).catch((reason: unknown) => reason);
    t.ok(error instanceof CrashLabFailed);
    t.match(error, {
      message:
        /^crash \d+ of the mount.*\n(.*\n)*The last operations.*\n(.*\n)*Again: make crash-lab .*SEED=7/,
    });
  });
}
