import fc from 'fast-check';
import t from 'tap';
import { RequestSlots } from '../../src/fetch/request-slots.js';
import type { FetchClass } from '../../src/fetch/index.js';
import { ManualClock, settle } from './support.js';

const slotLimits = {
  ...{ total: 4, reservedForDemand: 1, background: 2, backgroundDuringDemand: 1 },
  ...{ demandLingerMs: 0, windowBytes: () => Infinity },
  ...{ buckets: { all: undefined, background: undefined }, clock: new ManualClock() },
};

interface Job {
  fetchClass: FetchClass;
  readonly signal: AbortSignal;
  readonly name: string;
  readonly spanBytes: number;
}

/** Runs named jobs that end when told to, and notes the order in which they began. */
class Bench {
  readonly slots = new RequestSlots(slotLimits);
  readonly started: string[] = [];
  readonly running = new Map<string, () => void>();
  readonly outcomes: Promise<string>[] = [];

  submit(name: string, fetchClass: FetchClass, signal = new AbortController().signal): Job {
    const job = { name, fetchClass, signal, spanBytes: 1000 };
    const outcome = this.slots.run(job, async () => {
      this.started.push(name);
      await new Promise<void>((resolve) => this.running.set(name, resolve));
      return 'done';
    });
    this.outcomes.push(outcome.catch((error: unknown) => (error as { code: string }).code));
    return job;
  }

  async end(name: string): Promise<void> {
    const finish = this.running.get(name);
    if (finish === undefined) throw new Error(`${name} does not run`);
    this.running.delete(name);
    finish();
    await settle();
  }
}

t.test('demand comes before replay before background, and each in order of arrival', async (t) => {
  const bench = new Bench();
  for (const name of ['d1', 'd2', 'd3', 'd4']) bench.submit(name, 'demand');
  bench.submit('b1', 'background');
  bench.submit('r1', 'replay');
  bench.submit('r2', 'replay');
  bench.submit('d5', 'demand');
  await settle();
  t.strictSame(bench.started, ['d1', 'd2', 'd3', 'd4']);
  for (const name of ['d1', 'd2', 'd3', 'd4']) await bench.end(name);
  t.strictSame(bench.started.slice(4), ['d5', 'r1', 'r2', 'b1']);
});

t.test('some slots only ever serve demand', async (t) => {
  const bench = new Bench();
  for (const name of ['r1', 'r2', 'r3', 'r4']) bench.submit(name, 'replay');
  await settle();
  t.strictSame(bench.started, ['r1', 'r2', 'r3']);
  bench.submit('d1', 'demand');
  await settle();
  t.strictSame(bench.started, ['r1', 'r2', 'r3', 'd1']);
});

t.test('background steps back while there is demand', async (t) => {
  const bench = new Bench();
  bench.submit('d1', 'demand');
  for (const name of ['b1', 'b2', 'b3']) bench.submit(name, 'background');
  await settle();
  t.strictSame(bench.started, ['d1', 'b1']);
  await bench.end('d1');
  t.strictSame(bench.started, ['d1', 'b1', 'b2'], 'two of them when there is none');
});

t.test('a claim that is raised overtakes, and may use a reserved slot', async (t) => {
  const bench = new Bench();
  for (const name of ['r1', 'r2', 'r3', 'r4']) bench.submit(name, 'replay');
  const raised = bench.submit('b1', 'background');
  await settle();
  raised.fetchClass = 'demand';
  bench.slots.reconsider();
  await settle();
  t.strictSame(bench.started, ['r1', 'r2', 'r3', 'b1']);
});

t.test('a cancelled claim leaves the queue, or never enters it', async (t) => {
  const bench = new Bench();
  const abort = new AbortController();
  for (const name of ['d1', 'd2', 'd3', 'd4']) bench.submit(name, 'demand');
  bench.submit('d5', 'demand', abort.signal);
  t.equal(bench.slots.waiting, 1);
  abort.abort();
  t.equal(bench.slots.waiting, 0);
  t.equal(await bench.outcomes[4], 'CANCELLED');
  bench.submit('d6', 'demand', abort.signal);
  t.equal(await bench.outcomes[5], 'CANCELLED', 'also when the signal had fired before');
  t.equal(bench.slots.running, 4);
});

t.test('whatever happens, the limits hold and everything that is not cancelled runs', async (t) => {
  const jobClass = fc.constantFrom<FetchClass>('demand', 'around', 'replay', 'background');
  const step = fc.oneof(
    fc.record({ do: fc.constant('submit' as const), fetchClass: jobClass }),
    fc.record({ do: fc.constant('end' as const), pick: fc.nat() }),
    fc.record({ do: fc.constant('cancel' as const), pick: fc.nat() }),
    fc.record({ do: fc.constant('raise' as const), pick: fc.nat() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const bench = new Bench();
      const jobs: { job: Job; abort: AbortController }[] = [];
      const startedAs = new Map<string, FetchClass>();
      for (const action of steps) {
        const chosen = action.do === 'submit' ? undefined : jobs[action.pick % Math.max(1, jobs.length)];
        if (action.do === 'submit') {
          const abort = new AbortController();
          jobs.push({ job: bench.submit(`j${jobs.length}`, action.fetchClass, abort.signal), abort });
        } else if (action.do === 'end' && chosen !== undefined && bench.running.has(chosen.job.name)) {
          await bench.end(chosen.job.name);
        } else if (action.do === 'cancel') chosen?.abort.abort();
        else if (action.do === 'raise' && chosen !== undefined) {
          chosen.job.fetchClass = 'demand';
          bench.slots.reconsider();
        }
        await settle();
        for (const name of bench.started) {
          const job = jobs.find((other) => other.job.name === name)!.job;
          if (!startedAs.has(name)) startedAs.set(name, job.fetchClass);
        }
        const running = [...bench.running.keys()].map((name) => startedAs.get(name));
        const undemanded = running.filter((fetchClass) => fetchClass !== 'demand').length;
        if (running.length > 4 || undemanded > 3) throw new Error(`${running.join()} run at once`);
        if (running.length !== bench.slots.running) throw new Error('the count of running jobs is wrong');
      }
      for (let round = 0; bench.running.size > 0; round += 1) {
        const [name] = bench.running.keys();
        await bench.end(name!);
      }
      await Promise.all(bench.outcomes);
      if (bench.slots.waiting !== 0 || bench.slots.running !== 0) throw new Error('something is left');
    }),
    { numRuns: 60 },
  );
  t.pass('held');
});
