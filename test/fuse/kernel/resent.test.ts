/** Requests that a process carried out and did not answer come again to the next one, with bit 63 of their id set. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  openOverlay,
  rootInode,
  type OpenOverlayOptions,
  type RequestId,
  type VmFileSystem,
} from '../../../src/fs/index.js';
import {
  fuse_create_in,
  fuse_dirent,
  fuse_entry_out,
  fuse_link_in,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_forget_in,
  fuse_open_in,
  fuse_open_out,
  fuse_read_in,
  fuse_release_in,
  fuse_rename2_in,
  fuse_setxattr_in,
  fuse_write_in,
  type OperationName,
} from '../../../src/fuse/kernel/protocol.js';
import { sameBytes } from '../../support/same-bytes.js';
import { caller, copyAtCrash, openTree } from '../../fs/support/open-file-system.js';
import { FakeKernel, structure, texts, type Answer } from './wire.js';

const resent = 1n << 63n;
const regularFile = 0o100_644;
const readWrite = 2;

/** A file system that a process died with, and the ones that take its place. */
async function start(t: Test, prepare: (fileSystem: VmFileSystem) => unknown = () => undefined) {
  const { fileSystem, version, options } = await openTree(
    t,
    (version) => ({ disk: { file: version.addFile(Buffer.alloc(100_000, 1)) } }),
    { mount: { life: 0 } },
  );
  await prepare(fileSystem);
  return { first: new FakeKernel(fileSystem), fileSystem, version, options };
}

/** What the next process finds. Nothing of the one before is closed. */
async function goOn(t: Test, options: OpenOverlayOptions, life: number) {
  const next: OpenOverlayOptions = {
    ...options,
    directory: copyAtCrash(t, options.directory),
    mount: { life },
  };
  const fileSystem = await openOverlay(next);
  t.teardown(() => fileSystem.close());
  return { fileSystem, kernel: new FakeKernel(fileSystem, life), options: next };
}

const entryInode = (answer: Answer): number =>
  Number(answer.payload.readBigUInt64LE(fuse_entry_out.at.nodeid));
const handleAt = (answer: Answer, from: number): bigint =>
  answer.payload.readBigUInt64LE(from + fuse_open_out.at.fh);

interface Case {
  readonly operation: OperationName;
  readonly body: Buffer;
  readonly prepare?: (fileSystem: VmFileSystem) => unknown;
}

const made = (fileSystem: VmFileSystem): unknown =>
  fileSystem.makeNode(rootInode, 'made', regularFile, caller);
const cases: readonly Case[] = [
  { operation: 'MKDIR', body: Buffer.concat([structure(fuse_mkdir_in, { mode: 0o755 }), texts('new')]) },
  {
    operation: 'MKNOD',
    body: Buffer.concat([structure(fuse_mknod_in, { mode: regularFile }), texts('new')]),
  },
  { operation: 'SYMLINK', body: texts('new', 'target') },
  {
    operation: 'LINK',
    body: Buffer.concat([structure(fuse_link_in, { oldnodeid: 2n }), texts('new')]),
  },
  { operation: 'UNLINK', body: texts('disk') },
  {
    operation: 'RMDIR',
    body: texts('made'),
    prepare: (fs) => fs.makeDirectory(rootInode, 'made', 0o755, caller),
  },
  {
    operation: 'RENAME2',
    body: Buffer.concat([structure(fuse_rename2_in, { newdir: 1n, flags: 2 }), texts('disk', 'made')]),
    prepare: made,
  },
  {
    operation: 'SETXATTR',
    body: Buffer.concat([
      structure(fuse_setxattr_in, { size: 1, flags: 1 }),
      texts('user.a'),
      Buffer.from('x'),
    ]),
  },
  {
    operation: 'REMOVEXATTR',
    body: texts('user.a'),
    prepare: (fs) => fs.setExtendedAttribute(rootInode, 'user.a', Buffer.from('x'), 'either'),
  },
];

for (const { operation, body, prepare } of cases) {
  t.test(`${operation} is carried out once, and gets its answer again`, async (t) => {
    const { first, options } = await start(t, prepare);
    const answered = first.ask(operation, body);
    t.equal(answered.errno, 0);
    const unique = answered.unique | resent;

    // The second process writes its journal anew and dies before it is asked.
    const second = await goOn(t, { ...options, journalGrowthBytes: 0 }, 1);
    void second.fileSystem.setAttributes(rootInode, { accessTimeNs: 1n });
    const journal = join(second.options.directory, 'journal');
    while (!readFileSync(journal, 'utf8').includes('"applied"')) await sleep(1);
    const third = await goOn(t, second.options, 2);
    for (const { kernel, fileSystem } of [second, third]) {
      const tree = JSON.stringify(fileSystem.readDirectory(rootInode), (_key, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      const again = kernel.ask(operation, body, { unique });
      t.equal(again.errno, 0);
      sameBytes(t, again.payload, answered.payload, 'the same answer');
      const treeAgain = JSON.stringify(fileSystem.readDirectory(rootInode), (_key, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      t.equal(treeAgain, tree, 'nothing changed');
    }
    const { fileSystem: afresh } = await goOn(t, options, 0);
    t.equal(afresh.recall(Number(answered.unique) as RequestId), undefined, 'a new mount has other requests');
  });
}

t.test('CREATE: the file is made once, and the handle is the one that was lost', async (t) => {
  const { first, options } = await start(t);
  const body = Buffer.concat([
    structure(fuse_create_in, { flags: readWrite | 0o300, mode: regularFile }),
    texts('new'),
  ]);
  const created = first.ask('CREATE', body);
  const { kernel, fileSystem } = await goOn(t, options, 1);
  const again = kernel.ask('CREATE', body, { unique: created.unique | resent });
  t.equal(again.errno, 0);
  t.equal(entryInode(again), entryInode(created));
  t.equal(handleAt(again, fuse_entry_out.bytes), handleAt(created, fuse_entry_out.bytes));
  t.equal(fileSystem.readDirectory(rootInode).length, 2);
  const release = structure(fuse_release_in, { fh: handleAt(again, fuse_entry_out.bytes) });
  t.equal(kernel.ask('RELEASE', release).errno, 0);
  t.doesNotThrow(() => fileSystem.freeze(), 'nobody writes any more');
});

t.test('OPEN: no handle is left over', async (t) => {
  const { first, options } = await start(t);
  const body = structure(fuse_open_in, { flags: readWrite });
  const opened = first.ask('OPEN', body, { nodeid: 2 });
  const { kernel, fileSystem } = await goOn(t, options, 1);
  const again = kernel.ask('OPEN', body, { nodeid: 2, unique: opened.unique | resent });
  t.equal(handleAt(again, 0), handleAt(opened, 0));
  const another = kernel.ask('OPEN', body, { nodeid: 2 });
  t.not(handleAt(another, 0), handleAt(opened, 0));
  for (const answer of [again, another]) {
    kernel.ask('RELEASE', structure(fuse_release_in, { fh: handleAt(answer, 0) }));
  }
  t.doesNotThrow(() => fileSystem.freeze(), 'nobody writes any more');
});

t.test('open files stay open, with what they may do', async (t) => {
  const { first, options } = await start(t);
  const reader = handleAt(first.ask('OPEN', structure(fuse_open_in, { flags: 0 }), { nodeid: 2 }), 0);
  const writer = handleAt(first.ask('OPEN', structure(fuse_open_in, { flags: readWrite }), { nodeid: 2 }), 0);
  const { kernel, fileSystem } = await goOn(t, options, 1);
  t.throws(() => fileSystem.freeze(), { code: 'FILE_SYSTEM_BUSY' }, 'a version would be torn');
  const read = kernel.ask('READ', structure(fuse_read_in, { fh: reader, offset: 0n, size: 4096 }), {
    nodeid: 2,
  });
  sameBytes(t, read.payload, Buffer.alloc(4096, 1));
  const write = (fh: bigint) =>
    Buffer.concat([structure(fuse_write_in, { fh, offset: 0n, size: 4 }), Buffer.from('back')]);
  t.equal(kernel.ask('WRITE', write(writer), { nodeid: 2 }).errno, 0);
  t.not(kernel.ask('WRITE', write(reader), { nodeid: 2 }).errno, 0);
  kernel.ask('RELEASE', structure(fuse_release_in, { fh: writer }));
  t.doesNotThrow(() => fileSystem.freeze());
});

t.test('an unlinked file lives as long as it is open', async (t) => {
  const { first, fileSystem: before, options } = await start(t);
  const handle = handleAt(first.ask('OPEN', structure(fuse_open_in, { flags: readWrite }), { nodeid: 2 }), 0);
  const write = Buffer.concat([
    structure(fuse_write_in, { fh: handle, offset: 8192n, size: 4 }),
    Buffer.from('kept'),
  ]);
  t.equal(first.ask('WRITE', write, { nodeid: 2 }).errno, 0);
  t.equal(first.ask('UNLINK', texts('disk')).errno, 0);
  t.match(before.dirty(), { changedFiles: 1 });

  let { kernel, fileSystem, options: current } = await goOn(t, options, 1);
  for (let life = 2; life < 4; life++) {
    t.match(fileSystem.dirty(), { changedFiles: 1 });
    t.equal(fileSystem.getAttributes(2 as typeof rootInode).linkCount, 0);
    const read = kernel.ask('READ', structure(fuse_read_in, { fh: handle, offset: 8190n, size: 8 }), {
      nodeid: 2,
    });
    t.equal(read.payload.toString('latin1'), '\u0001\u0001kept\u0001\u0001');
    ({ kernel, fileSystem, options: current } = await goOn(t, current, life));
  }
  t.equal(kernel.ask('RELEASE', structure(fuse_release_in, { fh: handle })).errno, 0);
  kernel.send('FORGET', structure(fuse_forget_in, { nlookup: 1n }), { nodeid: 2 });
  t.not(kernel.ask('GETATTR', Buffer.alloc(16), { nodeid: 2 }).errno, 0, 'it is gone');
  t.match(fileSystem.dirty(), { changedFiles: 1 });
  const { fileSystem: afresh } = await goOn(t, current, 0);
  t.match(afresh.dirty(), { changedFiles: 1 }, 'the base file is removed once');
});

t.test(
  'what has no name lives until the kernel forgets it, whichever process it learned of it from',
  async (t) => {
    const { first, options } = await start(t, (fs) => {
      fs.makeDirectory(rootInode, 'before', 0o755, caller);
      fs.makeDirectory(rootInode, 'after', 0o755, caller);
    });
    const before = entryInode(first.ask('LOOKUP', texts('before')));
    const after = entryInode(first.ask('LOOKUP', texts('after')));
    const isThere = (kernel: FakeKernel, nodeid: number): boolean =>
      kernel.ask('GETATTR', Buffer.alloc(16), { nodeid }).errno === 0;
    t.equal(first.ask('RMDIR', texts('before')).errno, 0);
    const second = await goOn(t, options, 1);
    t.equal(second.kernel.ask('RMDIR', texts('after')).errno, 0);
    for (const inode of [before, after]) t.ok(isThere(second.kernel, inode));
    const third = await goOn(t, second.options, 2);
    for (const inode of [before, after]) {
      t.ok(isThere(third.kernel, inode));
      third.kernel.send('FORGET', structure(fuse_forget_in, { nlookup: 1n }), { nodeid: inode });
      t.notOk(isThere(third.kernel, inode));
    }
    const fourth = await goOn(t, third.options, 3);
    for (const inode of [before, after]) t.notOk(isThere(fourth.kernel, inode));
  },
);

t.test('an unlinked file that is open is in a journal that is written anew', async (t) => {
  const { first, fileSystem, options } = await start(t, (fs) =>
    fs.makeNode(rootInode, 'other', regularFile, caller),
  );
  const handle = handleAt(first.ask('OPEN', structure(fuse_open_in, { flags: 0 }), { nodeid: 2 }), 0);
  t.equal(first.ask('UNLINK', texts('disk')).errno, 0);
  fileSystem.freeze();
  const other = fileSystem.lookup(rootInode, 'other');
  const empty = { sizeBytes: 0, chunkBytes: 16_384, height: 0, root: 'zero' } as const;
  await fileSystem.rebase('1', new Map([[other.inode, empty]]));
  fileSystem.thaw();
  const { kernel, fileSystem: next } = await goOn(t, options, 1);
  const read = kernel.ask('READ', structure(fuse_read_in, { fh: handle, offset: 0n, size: 4 }), {
    nodeid: 2,
  });
  sameBytes(t, read.payload, Buffer.alloc(4, 1));
  t.match(next.dirty(), { changedFiles: 0 }, 'to the new base it never existed');
});

t.test('a listing goes on where it was, while names come and go', async (t) => {
  const names = Array.from({ length: 60 }, (_, index) => `name-${index}`);
  const { first, options } = await start(t, (fs) => {
    for (const name of names) void fs.makeNode(rootInode, name, regularFile, caller);
  });
  const handle = handleAt(first.ask('OPENDIR', Buffer.alloc(8)), 0);
  const found: string[] = [];
  let position = 0n;
  const read = (kernel: FakeKernel): boolean => {
    const body = structure(fuse_read_in, { fh: handle, offset: position, size: 300 });
    const { payload, errno } = kernel.ask('READDIR', body);
    if (errno !== 0) throw new Error(`error ${errno}`);
    for (let at = 0; at < payload.length;) {
      const nameBytes = payload.readUInt32LE(at + fuse_dirent.at.namelen);
      found.push(payload.toString('utf8', at + fuse_dirent.bytes, at + fuse_dirent.bytes + nameBytes));
      position = payload.readBigUInt64LE(at + fuse_dirent.at.off);
      at += Math.ceil((fuse_dirent.bytes + nameBytes) / 8) * 8;
    }
    return payload.length > 0;
  };
  for (let piece = 0; piece < 3; piece++) read(first);
  const seen = found.filter((name) => name.startsWith('name-'));
  const gone = [seen[0] ?? '', seen[3] ?? ''];
  for (const name of gone) t.equal(first.ask('UNLINK', texts(name)).errno, 0);
  let life = 1;
  let { kernel, options: current } = await goOn(t, options, life);
  while (read(kernel)) {
    life += 1;
    ({ kernel, options: current } = await goOn(t, current, life));
  }
  t.same(found.sort(), ['.', '..', 'disk', ...names].sort(), 'each name once');
  t.equal(kernel.ask('RELEASEDIR', structure(fuse_release_in, { fh: handle })).errno, 0);
});
