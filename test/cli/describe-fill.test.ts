import t from 'tap';
import { describeFill } from '../../src/cli/describe-fill.js';
import type { FillStatus } from '../../src/daemon/fill/index.js';

const mebibyte = 2 ** 20;
const problem = { code: 'STORE_REFUSED', message: 'The store refuses.', facts: {} };
const here = { chunks: { total: 40, local: 40 } };

function fill(state: FillStatus['state'], more: Partial<FillStatus> = {}): FillStatus {
  return {
    ...{ state, chunks: 40, bytes: 5 * mebibyte, doneChunks: 8, doneBytes: mebibyte },
    ...{ fetchedBytes: 0, problem: undefined, ...more },
  };
}

t.test('people are told how far a fill is, and why it does not go on', async (t) => {
  const done = { doneChunks: 40, doneBytes: 5 * mebibyte };
  t.equal(describeFill(fill('filling'), here), '8 of 40 chunks, 1 MiB of 5 MiB');
  t.match(describeFill(fill('waiting', { chunks: undefined }), here), /^waits for a replay .*: 8 chunks$/);
  t.match(describeFill(fill('counting'), here), 'counts what there is');
  t.match(describeFill(fill('filling', { problem }), here), /the last try failed.*The store refuses/);
  t.match(describeFill(fill('complete', done), here), /^complete: 40 of 40 .*without the store$/);
  t.match(describeFill(fill('complete', done), { chunks: undefined }), /without the store/);
  t.match(
    describeFill(fill('complete', done), { chunks: { total: 40, local: 39 } }),
    /^was complete: .*; 1 chunk/,
  );
  t.equal(
    describeFill(fill('stopped', { problem: { ...problem, remedy: 'Wait.' } }), here),
    'stopped: The store refuses. Wait.',
  );
});
