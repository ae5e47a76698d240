import t from 'tap';
import { inOrder } from '../../src/repo/in-order.js';

/** Jobs that the test finishes by hand. */
function manualJobs(): {
  readonly started: number[];
  readonly run: (job: number) => Promise<string>;
  readonly settle: (job: number, error?: Error) => void;
} {
  const waiting = new Map<number, { resolve: (text: string) => void; reject: (error: Error) => void }>();
  const started: number[] = [];
  return {
    started,
    run: (job) =>
      new Promise((resolve, reject) => {
        started.push(job);
        waiting.set(job, { resolve, reject });
      }),
    settle: (job, error) => {
      if (error === undefined) waiting.get(job)?.resolve(`result ${job}`);
      else waiting.get(job)?.reject(error);
    },
  };
}

async function turn(): Promise<void> {
  await new Promise(setImmediate);
}

t.test('results come in the order of the jobs, a window of which runs at once', async (t) => {
  const { started, run, settle } = manualJobs();
  const results = inOrder([1, 2, 3, 4].values(), run, 2);
  const first = results.next();
  await turn();
  t.same(started, [1, 2]);
  settle(2);
  await turn();
  t.same(started, [1, 2], 'a later result does not make room');
  settle(1);
  t.same(await first, { done: false, value: 'result 1' });
  t.same(await results.next(), { done: false, value: 'result 2' });
  await turn();
  t.same(started, [1, 2, 3, 4]);
  settle(3);
  settle(4);
  t.equal((await results.next()).value, 'result 3');
  t.equal((await results.next()).value, 'result 4');
  t.same(await results.next(), { done: true, value: undefined });
});

t.test('a failure waits for what is under way, and starts nothing more', async (t) => {
  const { started, run, settle } = manualJobs();
  let closed = false;
  const jobs = (async function* () {
    try {
      for (let job = 1; job <= 100; job += 1) yield job;
    } finally {
      closed = true;
    }
  })();
  const results = inOrder(jobs, run, 3);
  let outcome: unknown;
  const first = results.next().catch((error: unknown) => (outcome = error));
  await turn();
  settle(1, new Error('no'));
  await turn();
  t.equal(outcome, undefined, 'jobs 2 and 3 still run');
  settle(2);
  settle(3, new Error('neither'));
  await first;
  t.match(outcome, { message: 'no' });
  t.same(started, [1, 2, 3]);
  t.ok(closed, 'the source of jobs is closed');
});

t.test('a consumer that stops waits too', async (t) => {
  const { started, run, settle } = manualJobs();
  const results = inOrder([1, 2, 3].values(), run, 2);
  const first = results.next();
  settle(1);
  await turn();
  settle(1);
  await first;
  let stopped = false;
  const stop = results.return().then(() => (stopped = true));
  await turn();
  t.notOk(stopped);
  for (const job of started) settle(job);
  await stop;
  t.ok(stopped);
});
