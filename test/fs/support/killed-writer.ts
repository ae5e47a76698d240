import { writeSync } from 'node:fs';
import { openOverlay, rootInode, type VmFileSystem } from '../../../src/fs/index.js';
import { FakeVersion, manifestOf } from './fake-version.js';
import { caller, readWrite } from './open-file-system.js';

export const baseBytes = 40_000;

export function killedVersion(): Parameters<typeof openOverlay>[0]['base'] & {
  readonly version: FakeVersion;
} {
  const version = new FakeVersion();
  const file = version.addFile(Uint8Array.from({ length: baseBytes }, (_, index) => index % 251));
  return { version, manifest: manifestOf({ disk: { file } }), identity: '1' };
}

/** The state that step `n` of the sequence leaves: each file's content by name. */
export type State = Map<string, Buffer>;

/** One step of an endless sequence that depends on its number only. */
export async function makeStep(step: number, fileSystem: VmFileSystem): Promise<void> {
  const { kind, name, offset, length } = describeStep(step);
  switch (kind) {
    case 'write': {
      const handle = await fileSystem.open(fileSystem.lookup(rootInode, 'disk').inode, readWrite);
      await fileSystem.write(handle, offset, Buffer.alloc(length, step % 256));
      fileSystem.release(handle);
      return;
    }
    case 'resize':
      await fileSystem.setAttributes(fileSystem.lookup(rootInode, 'disk').inode, { sizeBytes: offset });
      return;
    case 'create': {
      const { handle } = await fileSystem.create(rootInode, name, 0o600, readWrite, caller);
      await fileSystem.write(handle, 0, Buffer.alloc(length, step % 256));
      fileSystem.release(handle);
      return;
    }
    case 'rename':
      return fileSystem.rename(rootInode, name, rootInode, 'renamed', 'replace');
  }
}

/** What the step does to a state that is held in memory. A step of two calls may be half done. */
export function simulateStep(step: number, state: State): readonly State[] {
  const { kind, name, offset, length } = describeStep(step);
  const disk = state.get('disk') ?? Buffer.alloc(0);
  const data = Buffer.alloc(length, step % 256);
  switch (kind) {
    case 'write': {
      const after = Buffer.alloc(Math.max(disk.length, offset + length));
      disk.copy(after);
      data.copy(after, offset);
      return [new Map(state).set('disk', after)];
    }
    case 'resize': {
      const after = Buffer.alloc(offset);
      disk.copy(after);
      return [new Map(state).set('disk', after)];
    }
    case 'create':
      return [new Map(state).set(name, Buffer.alloc(0)), new Map(state).set(name, data)];
    case 'rename': {
      const after = new Map(state).set('renamed', state.get(name) ?? Buffer.alloc(0));
      after.delete(name);
      return [after];
    }
  }
}

function describeStep(step: number): {
  readonly kind: 'write' | 'resize' | 'create' | 'rename';
  readonly name: string;
  readonly offset: number;
  readonly length: number;
} {
  // A multiplicative hash: spread out, and the same in both processes.
  const random = Math.imul(step + 1, 0x9e37_79b1) >>> 0;
  const offset = random % 60_000;
  const length = 1 + ((random >>> 8) % 20_000);
  const name = `file ${Math.floor(step / 10)}`;
  if (step % 10 === 3) return { kind: 'create', name, offset, length };
  if (step % 10 === 7) return { kind: 'rename', name, offset, length };
  return { kind: step % 10 === 5 ? 'resize' : 'write', name, offset, length };
}

/** As a program: makes steps until it is killed, and writes a line after each that was acknowledged. */
const directory = process.argv[2];
if (process.argv[1]?.endsWith('killed-writer.js') === true && directory !== undefined) {
  const { version, manifest, identity } = killedVersion();
  const fileSystem = await openOverlay({
    directory,
    base: { manifest, identity },
    openFile: version.openFile,
  });
  for (let step = 0; ; step++) {
    await makeStep(step, fileSystem);
    writeSync(1, `${step}\n`);
    // Flushes and steps interleave, as they do when a guest syncs its disk.
    if (step % 50 === 0) void fileSystem.flush();
    await new Promise(setImmediate);
  }
}
