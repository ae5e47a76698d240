import t from 'tap';
import { seededRandom } from '../src/store/index.js';
import { complaintsOf, killWorkers } from './survive/kill-workers.js';

t.test('a guest whose memory is on its way does not notice that workers are killed', async (t) => {
  const survival = await killWorkers({ kills: 5, memoryMiB: 112, fillMiB: 8, random: seededRandom(1) });
  t.comment(JSON.stringify(survival));
  t.same(complaintsOf(survival), []);
  t.ok(survival.piecesRight > 0);
});
