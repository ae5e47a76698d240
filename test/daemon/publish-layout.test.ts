/** A suspend lays out for the next resume what the VM's newest trace has. */
import t from 'tap';
import type { VmSession } from '../../src/daemon/index.js';
import { ChunkMap, loadManifest, NodeCache, type BlobReference } from '../../src/repo/index.js';
import { keepRecording } from '../../src/trace/index.js';
import { recordingOf } from '../support/traces.js';
import { breakMethod, SessionLab, vmName, write } from './session-support.js';

const resume = recordingOf([3, 1, 0].map((chunkIndex) => ({ path: 'disk', chunkIndex })));

/** Publishes four chunks of `disk`; answers where they lie. */
async function publishDisk(session: VmSession, seed: string): Promise<readonly BlobReference[]> {
  const { chunkBytes } = session.repository.header;
  for (let index = 0; index < 4; index += 1) {
    await write(session.fileSystem, 'disk', index * chunkBytes, `${seed} ${index}`);
  }
  t.match(await session.publish({ releaseLease: false }), { outcome: 'published' });
  const { blobs } = session.repository;
  const { latest } = await session.repository.history(vmName).head();
  const manifest = await loadManifest(latest!.manifest, blobs);
  const disk = [...manifest.inodes.values()].find(
    (inode) => inode.kind === 'file' && inode.content.height > 0,
  );
  if (disk?.kind !== 'file') throw new Error('no disk');
  const map = new ChunkMap(disk.content, blobs, new NodeCache());
  const entries = await Promise.all([0, 1, 2, 3].map((index) => map.entry(index)));
  return entries.filter((entry) => entry !== 'zero');
}

const inOrder = (places: readonly BlobReference[]) =>
  [0, 1, 2, 3].sort((one, other) => places[one]!.offsetBytes - places[other]!.offsetBytes);

t.test(
  'chunks lie as the last resume touched them; without a trace, or with a damaged one, as in the file',
  async (t) => {
    const lab = await SessionLab.create(t);
    const session = await lab.open(lab.home);
    t.same(inOrder(await publishDisk(session, 'a')), [0, 1, 2, 3]);
    const stored = await keepRecording(session.repository.history(vmName), resume);
    t.equal(stored?.number, 1);
    t.same(inOrder(await publishDisk(session, 'b')), [3, 1, 0, 2]);
    t.equal(
      (await session.repository.history(vmName).head()).latest?.trace,
      1,
      'the commit says which trace there is',
    );
    await keepRecording(session.repository.history(vmName), { ...resume, chunkBytes: 16384 });
    t.same(inOrder(await publishDisk(session, 'c')), [0, 1, 2, 3], 'chunks of another size');
    await keepRecording(session.repository.history(vmName), resume);
    const isTrace = (key: unknown) => String(key).startsWith('trace/');
    breakMethod(session.repository.store as never, 'get', new Error('unreadable'), isTrace);
    t.same(inOrder(await publishDisk(session, 'd')), [0, 1, 2, 3], 'a trace that cannot be read');
  },
);
