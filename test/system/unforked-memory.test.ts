/** A fork must not take memory away from requests that arrive in it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { unforkedMemory } from '../../src/system/index.js';

const pageBytes = 4096;
const pages = 2048;

/** How often the kernel had to make or give back a page while all were written to. */
function faultsOfWriting(bytes: Uint8Array): number {
  const before = process.resourceUsage().minorPageFault;
  for (let at = 0; at < bytes.length; at += pageBytes) bytes[at] = (bytes[at] ?? 0) + 1;
  return process.resourceUsage().minorPageFault - before;
}

for (const kind of ['own', 'shared'] as const) {
  t.test(`pages are there from the start, and after children began (${kind})`, async (t) => {
    const { bytes, release } = unforkedMemory(pages * pageBytes, kind);
    t.equal(bytes.length, pages * pageBytes);
    const usual = new Uint8Array(pages * pageBytes).fill(0);
    // Other threads of this process have faults, too.
    t.ok(faultsOfWriting(bytes) < pages / 2);
    await once(spawn('true'), 'exit');
    t.ok(faultsOfWriting(bytes) < pages / 2);
    t.ok(faultsOfWriting(usual) >= pages / 2, 'which is not so by itself');

    release();
    release();
    await once(spawn('true'), 'exit');
    t.ok(faultsOfWriting(bytes) >= pages / 2, 'as any other memory');
    t.equal(bytes[pageBytes], 3);
  });
}

t.test('odd lengths', async (t) => {
  const { bytes, release } = unforkedMemory(12_345, 'own');
  t.same([bytes.length, bytes.every((byte) => byte === 0)], [12_345, true]);
  const [exitCode] = (await once(spawn('true'), 'exit')) as [number];
  t.equal(exitCode, 0);
  release();
});
