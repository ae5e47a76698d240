import { once } from 'node:events';
import { closeSync, fstatSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { socketPair } from '../../src/system/index.js';

t.test('a thread leaves the sockets of its process, which keeps them', async (t) => {
  const pair = socketPair();
  t.teardown(() => pair.forEach((fd) => closeSync(fd)));
  const thread = new Worker(new URL('./own-descriptors-thread.js', import.meta.url));
  const exited = once(thread, 'exit');
  const [told] = (await once(thread, 'message')) as [{ before: string[]; after: string[] }];
  await exited;
  for (const fd of pair) {
    t.ok(told.before.includes(String(fd)));
    t.ok(fstatSync(fd).isSocket(), 'the process still has it');
  }
  t.same(told.after, []);
});
