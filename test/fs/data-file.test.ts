import { mkdtemp, rm } from 'node:fs/promises';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DataFiles } from '../../src/fs/data-file.js';

async function dataFiles(t: Test): Promise<DataFiles> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-data-file-'));
  const files = new DataFiles(directory);
  t.teardown(async () => {
    files.close();
    await rm(directory, { recursive: true, force: true });
  });
  return files;
}

function bytes(value: number): Buffer {
  return Buffer.alloc(4096, value);
}

t.test('what is written while the file before it is being synced is not lost with that', async (t) => {
  const files = await dataFiles(t);
  const file = files.file(7);
  const openBefore = readdirSync('/proc/self/fd').length;
  file.write(0, bytes(1));
  const syncs = [file.sync(), file.sync()];
  file.remove();
  file.write(0, bytes(2));
  await Promise.all(syncs);
  const found = Buffer.alloc(4096);
  file.read(0, found);
  t.ok(found.equals(bytes(2)));
  await file.sync();
  file.remove();
  t.equal(readdirSync('/proc/self/fd').length, openBefore, 'both descriptors are closed');
});

t.test('a file that is removed while it is being synced, and not written again, is gone', async (t) => {
  const files = await dataFiles(t);
  const file = files.file(7);
  const openBefore = readdirSync('/proc/self/fd').length;
  file.write(0, bytes(1));
  const sync = file.sync();
  file.remove();
  t.strictSame(files.list(), []);
  await sync;
  t.equal(file.blocks(), 0);
  t.equal(readdirSync('/proc/self/fd').length, openBefore);
});
