/**
 * One of several processes that want the same object: waits for a line on standard input, tries as often at once as
 * it is told, prints how often it won.
 */
import { once } from 'node:events';
import { objectKey, openStore } from '../../src/store/index.js';

const [url = '', key = '', attempts = ''] = process.argv.slice(2);
const store = await openStore(url);
process.stdout.write('ready\n');
await once(process.stdin, 'data');
const outcomes = await Promise.all(
  Array.from({ length: Number(attempts) }, (_, index) =>
    store.putIfAbsent(objectKey(key), [Buffer.from(`process ${process.pid}, attempt ${index}`)]),
  ),
);
await store[Symbol.asyncDispose]();
process.stdout.write(`${outcomes.filter((outcome) => outcome === 'created').length}\n`);
process.stdin.destroy();
