import { parseArgs } from 'node:util';
import { ExerciseFailed } from './exercise.js';
import { exerciseFiles } from './exercise-files.js';
import { exerciseTrees } from './exercise-trees.js';

/** `make exercise`: as many operations as wanted, on one engine, from one seed. */
const { values } = parseArgs({
  options: {
    what: { type: 'string', default: 'files' },
    engine: { type: 'string', default: 'kernel' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    ops: { type: 'string', default: '100000' },
    'ops-per-event': { type: 'string', default: '2500' },
    'file-bytes': { type: 'string', default: String(2 * 1024 * 1024) },
    link: { type: 'string', default: '' },
    processes: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '4' },
  },
});
const { what, engine } = values;
if (what !== 'files' && what !== 'trees') throw new Error(`files or trees can be exercised, not ${what}`);
if (engine !== 'kernel' && engine !== 'fuse-native') throw new Error(`there is no engine ${engine}`);

const startedMs = performance.now();
const progressIntervalMs = 10_000;
let saidMs = startedMs;

function say(text: string): void {
  saidMs = performance.now();
  console.log(`${((saidMs - startedMs) / 1000).toFixed(0).padStart(6)} s: ${text}`);
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort());

const common = { engine, seed: Number(values.seed), operations: Number(values.ops) } as const;
const options = {
  signal: interrupted.signal,
  onProgress: (text: string): void => {
    if (performance.now() - saidMs > progressIntervalMs) say(text);
  },
};
const exercise = (): Promise<object> =>
  what === 'trees'
    ? exerciseTrees(
        { ...common, processes: Number(values.processes), rounds: Number(values.rounds) },
        options,
      )
    : exerciseFiles(
        {
          ...common,
          operationsPerEvent: Number(values['ops-per-event']),
          link: values.link === '' ? undefined : values.link,
          fileBytesMax: Number(values['file-bytes']),
        },
        options,
      );

say(`${what} through ${engine}, seed ${values.seed}`);
try {
  say(`no difference: ${JSON.stringify(await exercise())}`);
} catch (error) {
  console.error(error instanceof ExerciseFailed ? error.message : error);
  process.exitCode = 1;
}
