import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import fc from 'fast-check';
import t from 'tap';
import type { InodeNumber } from '../../../src/fs/index.js';
import { RangeQueue, type CachedRange } from '../../../src/fuse/kernel/notifications.js';
import { RefusedAhead } from '../../../src/fuse/kernel/refused-ahead.js';

const windowBytes = 128 * 1024;
const pageBytes = 4096;

t.test('ranges come out as they went in, and no more than fit', (t) => {
  const range = (number: number): CachedRange => ({
    inode: number,
    offsetBytes: number * 2 ** 40,
    lengthBytes: number + 1,
  });
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 20 }), (bursts) => {
      const queue = new RangeQueue();
      let number = 0;
      for (const burst of bursts) {
        const put = Array.from({ length: burst }, () => range(number++)).filter((one) => queue.put(one));
        if (put.length !== Math.min(burst, 256)) return false;
        for (const { inode, offsetBytes, lengthBytes } of put) {
          const taken = queue.take();
          if (
            taken?.inode !== inode ||
            taken.offsetBytes !== offsetBytes ||
            taken.lengthBytes !== lengthBytes
          ) {
            return false;
          }
        }
      }
      queue.end();
      return queue.take() === undefined;
    }),
  );
  t.pass('for all bursts');
  t.end();
});

t.test('a thread that waits for ranges gets each of them, and ends when told to', async (t) => {
  const queue = new RangeQueue();
  const source = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData.module).then(({ RangeQueue }) => {
      const queue = new RangeQueue(workerData.queue);
      let sum = 0;
      for (let range = queue.take(); range !== undefined; range = queue.take()) sum += range.inode;
      parentPort.postMessage(sum);
    });`;
  const module = new URL('../../../src/fuse/kernel/notifications.js', import.meta.url).href;
  const worker = new Worker(source, { eval: true, workerData: { queue: queue.shared, module } });
  t.teardown(() => worker.terminate());
  let sum = 0;
  for (let number = 1; number <= 5000; number += 1) {
    while (!queue.put({ inode: number, offsetBytes: 0, lengthBytes: 1 })) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    sum += number;
  }
  // The end comes before what was not taken yet: wait until all is.
  while (queue.length > 0) await new Promise((resolve) => setImmediate(resolve));
  queue.end();
  t.same(await once(worker, 'message'), [sum]);
});

t.test('pages around a piece that has arrived are named once for each refusal', (t) => {
  const inode = 7 as InodeNumber;
  const refused = new RefusedAhead();
  const forgotten: CachedRange[] = [];
  const arrived = (offsetBytes: number): void =>
    refused.arrived(inode, offsetBytes, pageBytes, (range) => forgotten.push(range));
  arrived(0);
  t.same(forgotten, [], 'nothing was refused');
  refused.refused(inode, windowBytes + pageBytes, 2 * windowBytes);
  t.equal(refused.refusals, 1);
  arrived(0);
  t.same(forgotten, [], 'elsewhere');
  arrived(2 * windowBytes + 3 * pageBytes);
  const expected = [
    { inode, offsetBytes: 2 * windowBytes, lengthBytes: 3 * pageBytes },
    { inode, offsetBytes: 2 * windowBytes + 4 * pageBytes, lengthBytes: windowBytes - 4 * pageBytes },
  ];
  t.same(forgotten, expected);
  arrived(2 * windowBytes + 5 * pageBytes);
  t.same(forgotten, expected, 'once');
  refused.arrived(8 as InodeNumber, windowBytes, pageBytes, (range) => forgotten.push(range));
  t.same(forgotten, expected, 'of another file');
  for (let window = 0; window < 20_000; window += 1) refused.refused(inode, window * windowBytes, pageBytes);
  arrived(19_999 * windowBytes);
  t.equal(forgotten.length, expected.length + 2, 'the newest are remembered, all of them are not');
  t.end();
});
