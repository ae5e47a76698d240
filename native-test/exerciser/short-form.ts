import t from 'tap';
import type { EngineName } from '../../src/fuse/index.js';
import { exerciseFiles } from './exercise-files.js';
import { exerciseTrees } from './exercise-trees.js';

const fileBytesMax = 1024 * 1024;

/**
 * As tests, short forms of what `make exercise` runs for as long as wanted. Seeds are fixed; a failure says how to see
 * it again.
 */
export function exerciseShortly(engine: EngineName): void {
  t.test('files', async (t) => {
    const result = await exerciseFiles({
      engine,
      seed: 1,
      operations: 2000,
      operationsPerEvent: 500,
      link: undefined,
      fileBytesMax,
    });
    t.match(result, { operations: 2000, events: 4 });
  });

  t.test('files from a store that is far and fails', async (t) => {
    const result = await exerciseFiles({
      engine,
      seed: 2,
      operations: 600,
      operationsPerEvent: 150,
      link: 'rttMs=1&jitterMs=3&errorRate=0.1',
      fileBytesMax,
    });
    t.ok(result.demandRequests > 0, 'chunks were fetched');
    t.ok(result.repeatedRequests > 0, 'the store was asked again');
    t.ok(result.refusedAhead > 0);
  });

  t.test('names', async (t) => {
    const result = await exerciseTrees({ engine, seed: 3, operations: 600, processes: 3, rounds: 2 });
    t.ok(result.entries > 20);
  });
}
