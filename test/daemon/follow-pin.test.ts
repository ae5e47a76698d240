/** A VM that is pinned stays pinned when this host publishes its next version. */
import t from 'tap';
import { evictCache, listPins, pinBlobs, versionBlobs } from '../../src/fetch/index.js';
import { loadManifest, type Commit } from '../../src/repo/index.js';
import type { VmSession } from '../../src/daemon/index.js';
import { SessionLab, vmName, write } from './session-support.js';

const { signal } = new AbortController();

async function pin(lab: SessionLab, session: VmSession, version: string | undefined): Promise<void> {
  const { latest } = await session.history.head();
  const reference = (latest as Commit).manifest;
  const manifest = await loadManifest(reference, session.fetcher);
  const options = { fetchClass: 'background', signal } as const;
  for await (const blob of versionBlobs({ manifest, reference }, session.fetcher, options))
    if (blob.kind === 'chunk') await session.fetcher.warmChunk(blob.reference, options);
  await pinBlobs({
    cachePath: lab.home.cachePath,
    limitBytes: 1e9,
    name: { repositoryId: session.repository.header.repositoryId, vmName, version },
    ofVersion: '1',
    blobs: versionBlobs({ manifest, reference }, session.fetcher, options),
  });
}

t.test('the pin of the newest version follows a publish, one that names a version does not', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  await pin(lab, session, undefined);
  await pin(lab, session, '1');
  await write(session.fileSystem, 'disk', 0, 'changed');
  t.match(await session.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
  const pins = await listPins(lab.home.cachePath);
  t.match(
    pins.map(({ version, ofVersion }) => [version, ofVersion]),
    [
      ['1', '1'],
      [undefined, '2'],
    ],
  );
  for (const { entries, localEntries } of pins) t.equal(localEntries, entries, 'all of it is here');
  evictCache(lab.home.cachePath, 0);
  const { total, local } = await session.residency(signal);
  t.equal(local, total, 'and stays');
});
