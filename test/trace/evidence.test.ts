import t from 'tap';
import { limits } from '../../src/base/index.js';
import { TraceEvidence } from '../../src/trace/index.js';

const { untracedMin } = limits.replayDoubt;

t.test('touches that the trace does not name speak against it, once there are some', (t) => {
  const evidence = new TraceEvidence(32);
  for (let touches = 1; touches < untracedMin; touches += 1) evidence.touched('untraced');
  t.notOk(evidence.isAgainst);
  evidence.touched('untraced');
  t.ok(evidence.isAgainst);
  t.end();
});

t.test('not where the guest waits for what the trace names, too', (t) => {
  const evidence = new TraceEvidence(32);
  for (let touches = 0; touches < 4 * untracedMin; touches += 1) {
    evidence.touched('untraced');
    evidence.touched('other');
  }
  t.notOk(evidence.isAgainst);
  t.end();
});

t.test('a replay that is ahead of its guest shows in the sample alone', (t) => {
  const evidence = new TraceEvidence(32);
  for (let touches = 0; touches < 30; touches += 1) evidence.touched('untraced');
  t.ok(evidence.isAgainst);
  evidence.touched('sample');
  t.notOk(evidence.isAgainst, 'it stands for 32, and 30 were not foreseen');
  t.end();
});
