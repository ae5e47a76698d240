import { Worker } from 'node:worker_threads';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import type * as WorkerThreads from 'node:worker_threads';

/* Counts the threads that a codec pool starts, and ends without closing the pool. */

let threads = 0;
const workerThreads = createRequire(import.meta.url)('node:worker_threads') as typeof WorkerThreads;
class CountedWorker extends Worker {
  constructor(...parameters: ConstructorParameters<typeof Worker>) {
    super(...parameters);
    threads += 1;
  }
}
workerThreads.Worker = CountedWorker;
syncBuiltinESMExports();

const { createCodecPool } = await import('../../src/repo/index.js');
const { packA, secrets } = await import('./format/examples.js');

const pool = createCodecPool(secrets, { threads: 2 });
const place = { packId: packA, counter: 1 };
await pool.seal({ plaintext: Buffer.alloc(16_000, 1), kind: 'map-node', ...place });
const afterMapNode = threads;
await pool.seal({ plaintext: new Uint8Array(131072), kind: 'chunk', ...place });
console.log(JSON.stringify({ afterMapNode, afterChunk: threads }));
