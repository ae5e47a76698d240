import { parseArgs } from 'node:util';
import { runCrashLab } from './crash-lab.js';
import { CrashLabFailed } from './crashed-vm.js';

/** `make crash-lab`: as many crashes as wanted, from one seed. */
const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'kernel' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    crashes: { type: 'string', default: '500' },
    mounts: { type: 'string', default: '3' },
  },
});
const { engine, seed } = values;
if (engine !== 'kernel' && engine !== 'fuse-native') throw new Error(`there is no engine ${engine}`);

const progressIntervalMs = 10_000;
const startedMs = performance.now();
let saidMs = startedMs;

function say(text: string): void {
  saidMs = performance.now();
  console.log(`${((saidMs - startedMs) / 1000).toFixed(0).padStart(6)} s: ${text}`);
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort());

// What goes wrong is in the log that a failure shows.
process.env['DEBUG'] ??= 'isr:fuse,isr:daemon*';

const lab = {
  engine,
  seed: Number(seed),
  crashes: Number(values.crashes),
  mounts: Number(values.mounts),
} as const;
say(`crashes of mounts through ${engine}, seed ${seed}`);
try {
  const result = await runCrashLab(lab, {
    signal: interrupted.signal,
    onProgress: (text) => {
      if (performance.now() - saidMs > progressIntervalMs) say(text);
    },
  });
  say(`nothing was lost: ${JSON.stringify(result)}`);
} catch (error) {
  console.error(error instanceof CrashLabFailed ? error.message : error);
  process.exitCode = 1;
}
