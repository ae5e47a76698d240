import assert from 'node:assert/strict';
import type { FileMap, PublishSource, SourceFile } from '../../../src/repo/index.js';
import { chunkBytes, type FakeVersion } from './fake-version.js';

/** Publishes as `repo/` does: unchanged chunks come from the base, changed ones from the source. */
export async function publishInto(
  version: FakeVersion,
  source: PublishSource,
): Promise<Map<number, FileMap>> {
  const files = new Map<number, FileMap>();
  for (const inode of source.inodes()) {
    if (inode.kind === 'file')
      files.set(inode.number, version.addFile(await assemble(version, inode.content)));
  }
  return files;
}

async function assemble(version: FakeVersion, file: SourceFile): Promise<Buffer> {
  const chunks = Math.ceil(file.sizeBytes / chunkBytes);
  const content = Buffer.alloc(chunks * chunkBytes);
  if (file.base !== undefined) {
    const wasInMemory = version.inMemory;
    version.inMemory = () => true;
    assert.ok(version.openFile(file.base).readSync(0, content));
    version.inMemory = wasInMemory;
  }
  let next = 0;
  for await (const { first, count, zero } of file.changedChunks()) {
    assert.ok(first >= next && count > 0 && first + count <= chunks, 'ranges ascend within the file');
    next = first + count;
    const into = content.subarray(first * chunkBytes, next * chunkBytes);
    into.fill(0xcc);
    await file.readChunks(first, into);
    if (zero === true) assert.ok(into.every((byte) => byte === 0));
  }
  assert.ok(
    content.subarray(file.sizeBytes).every((byte) => byte === 0),
    'zeros after the end',
  );
  return content.subarray(0, file.sizeBytes);
}
