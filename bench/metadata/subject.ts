/**
 * One way of keeping an overlay's names, measured in a process of its own: `subject.js NAME DIRECTORY WHAT`, where WHAT is
 * `changes`, `fill` or `open`.
 */
import { join } from 'node:path';
import { openOverlay, rootInode, type OpenOverlayOptions } from '../../src/fs/index.js';
import { Journal } from '../../src/fs/journal.js';
import type { Manifest } from '../../src/repo/index.js';
import { median } from '../support/statistics.js';

/** What is used of `lmdb`. */
interface RootDatabase {
  put(key: unknown, value: unknown): Promise<boolean>;
  transactionSync(work: () => void): void;
  batch(work: () => void): Promise<boolean>;
  getRange(range: { readonly start: unknown }): Iterable<{ readonly key: unknown; readonly value: unknown }>;
  readonly flushed: PromiseLike<unknown>;
  close(): Promise<void>;
}

/** Loaded by name: the project does not install it, see `bench/run.ts`. */
const lmdbPackage: string = 'lmdb';
const { open: openLmdb } = (await import(lmdbPackage)) as { open: (options: object) => RootDatabase };

const changes = 4000;
const flushes = 100;
const entries = 100_000;

export interface ChangesResult {
  /** Until a change survives the death of the process. */
  readonly changeUs: number;
  /** Until a change and everything before it survives power loss. */
  readonly flushUs: number;
}

export interface OpenResult {
  readonly openMs: number;
  /** More than before opening. */
  readonly residentBytes: number;
}

/** A way of keeping names. */
interface Subject {
  readonly open: (directory: string) => Promise<void>;
  /** Makes a file; acknowledged when it is settled. */
  readonly change: (number: number) => unknown;
  readonly flush: () => Promise<unknown>;
  readonly close: () => Promise<unknown>;
}

const caller = { uid: 0, gid: 0 };
const regularFile = 0o100_644;
const now = 1_700_000_000_000_000_000n;

/** What a file system has to remember of a new file. */
function recordOf(number: number): object {
  return {
    ...{ inode: number, permissions: 0o644, uid: 0, gid: 0, origin: 'new' },
    ...{ accessed: String(now), modified: String(now), changed: String(now) },
    ...{ extendedAttributes: {}, body: { kind: 'file', size: 0, baseLimit: 0, base: null } },
  };
}

const emptyManifest: Manifest = {
  inodes: new Map([
    [
      1,
      {
        ...{ number: 1, kind: 'directory', entries: new Map(), permissions: 0o755, uid: 0, gid: 0 },
        ...{ accessTimeNs: now, modifyTimeNs: now, changeTimeNs: now, extendedAttributes: new Map() },
      },
    ],
  ]),
};

/** The journal alone, as the overlay uses it. */
function journal(): Subject {
  let file: Journal;
  return {
    open: (directory) => {
      file = Journal.begin(join(directory, 'journal'), ['{"type":"overlay"}']);
      return Promise.resolve();
    },
    change: (number) => {
      const entry = { directory: 1, name: `file-${number}`, inode: number };
      const attributes = [{ inode: 1, modified: String(now), changed: String(now) }];
      file.append(
        JSON.stringify({ type: 'change', created: recordOf(number), entries: [entry], attributes }),
      );
    },
    flush: () => file.sync(),
    close: () => file.close(),
  };
}

/** All that a name-space call does below an engine. */
function overlay(): Subject {
  const options = (directory: string): OpenOverlayOptions => ({
    directory,
    base: { manifest: emptyManifest, identity: '1' },
    openFile: () => {
      throw new Error('nothing is read');
    },
  });
  let fileSystem: Awaited<ReturnType<typeof openOverlay>>;
  return {
    open: async (directory) => {
      fileSystem = await openOverlay(options(directory));
    },
    change: (number) => fileSystem.makeNode(rootInode, `file-${number}`, regularFile, caller),
    flush: () => fileSystem.flush(),
    close: () => fileSystem.close(),
  };
}

/** The same state in LMDB: an inode, an entry of its directory, the directory's times. */
function lmdb(options: object, transact: (database: RootDatabase, work: () => void) => unknown): Subject {
  let database: RootDatabase;
  return {
    open: (directory) => {
      database = openLmdb({ path: join(directory, 'lmdb'), ...options });
      return Promise.resolve();
    },
    change: (number) =>
      transact(database, () => {
        void database.put(['inode', number], recordOf(number));
        void database.put(['entry', 1, `file-${number}`], number);
        void database.put(['times', 1], { modified: String(now), changed: String(now) });
      }),
    flush: () => Promise.resolve(database.flushed),
    close: () => database.close(),
  };
}

const synchronous = (database: RootDatabase, work: () => void): unknown => database.transactionSync(work);
const queued = (database: RootDatabase, work: () => void): unknown => database.batch(work);

const subjects: Readonly<Record<string, () => Subject>> = {
  journal,
  overlay,
  'lmdb, transactionSync': () => lmdb({ overlappingSync: true }, synchronous),
  'lmdb, batch': () => lmdb({ overlappingSync: true, separateFlushed: true }, queued),
  'lmdb, transactionSync, noSync': () => lmdb({ noSync: true, overlappingSync: false }, synchronous),
};

/** Until the data is in memory, which every call then reads; a subject that reads from its file need not. */
async function load(name: string, directory: string): Promise<unknown> {
  if (name === 'overlay') {
    const subject = overlay();
    await subject.open(directory);
    return subject;
  }
  const database = openLmdb({ path: join(directory, 'lmdb') });
  return [
    database,
    new Map(Array.from(database.getRange({ start: ['inode'] }), ({ key, value }) => [key, value])),
  ];
}

async function measureChanges(subject: Subject): Promise<ChangesResult> {
  const times: number[] = [];
  for (let number = 2; number < changes + 2; number += 1) {
    const startedMs = performance.now();
    const made = subject.change(number);
    if (made instanceof Promise) await made;
    times.push(performance.now() - startedMs);
  }
  await subject.flush();
  const flushTimes: number[] = [];
  for (let number = changes + 2; number < changes + flushes + 2; number += 1) {
    const startedMs = performance.now();
    const made = subject.change(number);
    if (made instanceof Promise) await made;
    await subject.flush();
    flushTimes.push(performance.now() - startedMs);
  }
  return { changeUs: median(times) * 1000, flushUs: median(flushTimes) * 1000 };
}

async function main([name = '', directory = '', what]: readonly string[]): Promise<unknown> {
  const make = subjects[name];
  if (make === undefined) throw new Error(`there is no subject ${name}`);
  if (what === 'open') {
    const before = process.memoryUsage().rss;
    const startedMs = performance.now();
    const loaded = await load(name, directory);
    const openMs = performance.now() - startedMs;
    const residentBytes = process.memoryUsage().rss - before;
    return loaded === undefined ? undefined : ({ openMs, residentBytes } satisfies OpenResult);
  }
  const subject = make();
  await subject.open(directory);
  try {
    if (what === 'changes') return await measureChanges(subject);
    for (let number = 2; number < entries; number += 1) {
      const made = subject.change(number);
      if (made instanceof Promise && number % 1000 === 0) await made;
    }
    return undefined;
  } finally {
    await subject.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  console.log(JSON.stringify((await main(process.argv.slice(2))) ?? null));
  process.exit(0);
}
