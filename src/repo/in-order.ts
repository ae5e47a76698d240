import type { MaybePromise } from '../base/index.js';

/** A generator or an iterator of an array. An asynchronous one must put up with `next` while `next` is under way. */
export interface Jobs<Job> {
  next(): MaybePromise<IteratorResult<Job, unknown>>;
  return?(): MaybePromise<unknown>;
}

/**
 * Runs up to `window` jobs at once and hands out their results in the order of the jobs. When a job or the source of
 * jobs fails, or the consumer stops, no further job is started, and those under way are waited for: whatever they use
 * is free when this generator has ended.
 */
export async function* inOrder<Job, Result>(
  jobs: Jobs<Job>,
  run: (job: Job) => Promise<Result>,
  window: number,
): AsyncGenerator<Result, void> {
  let stopped = false;
  const underWay: Promise<{ readonly result: Result } | undefined>[] = [];
  const runNext = async (): Promise<{ readonly result: Result } | undefined> => {
    const job = await jobs.next();
    return job.done === true || stopped ? undefined : { result: await run(job.value) };
  };
  const start = (): void => {
    const outcome = runNext();
    // Awaited in its turn; until then a failure must not count as unhandled.
    outcome.catch(() => {
      stopped = true;
    });
    underWay.push(outcome);
  };
  try {
    while (underWay.length < window) start();
    for (;;) {
      const outcome = await underWay.shift();
      if (outcome === undefined) return;
      start();
      yield outcome.result;
    }
  } finally {
    stopped = true;
    await Promise.allSettled(underWay);
    await jobs.return?.();
  }
}
