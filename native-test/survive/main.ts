import { parseArgs } from 'node:util';
import { seededRandom } from '../../src/store/index.js';
import { complaintsOf, killWorkers } from './kill-workers.js';

/** `make survive`: kills workers under a running guest, as often as wanted. */
const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    'memory-mib': { type: 'string', default: '160' },
    'fill-mib': { type: 'string', default: '48' },
  },
});

const startedMs = performance.now();
function say(text: string): void {
  console.log(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(6)} s: ${text}`);
}

say(`${values.kills} kills, seed ${values.seed}`);
const survival = await killWorkers({
  kills: Number(values.kills),
  memoryMiB: Number(values['memory-mib']),
  fillMiB: Number(values['fill-mib']),
  random: seededRandom(Number(values.seed)),
  onProgress: say,
});
console.log(JSON.stringify(survival, null, 2));
const complaints = complaintsOf(survival);
for (const complaint of complaints) console.error(complaint);
if (complaints.length > 0) process.exitCode = 1;
