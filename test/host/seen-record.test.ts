import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { HomeDamaged, openHostHome, readSeen, writeSeen } from '../../src/host/index.js';
import type { LogPosition } from '../../src/repo/index.js';
import { shortDirectory } from './short-directory.js';

t.test('what was seen is remembered and never goes back', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), { XDG_CONFIG_HOME: directory });
  const paths = await home.makeVmPaths('00ff', 'web');
  t.equal(await readSeen(paths), undefined);
  const fifth = { position: 5 as LogPosition, digest: 'ab'.repeat(32) };
  await writeSeen(paths, fifth);
  t.same(await readSeen(paths), fifth);
  await writeSeen(paths, { position: 4 as LogPosition, digest: 'cd'.repeat(32) });
  t.same(await readSeen(paths), fifth);
  const sixth = { position: 6 as LogPosition, digest: 'ef'.repeat(32) };
  await writeSeen(paths, sixth);
  t.same(await readSeen(paths), sixth);
});

t.test('a damaged record is an error: forgetting it would let the store go back in time', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), { XDG_CONFIG_HOME: directory });
  const paths = await home.makeVmPaths('00ff', 'web');
  for (const content of ['', '{"position":1}', '{"position":-1,"digest":"00"}', '[]']) {
    await writeFile(paths.seenRecord, content);
    await t.rejects(readSeen(paths), HomeDamaged, content);
  }
});
