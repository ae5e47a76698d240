import { limits, systemErrorCode } from '../base/index.js';
import type { BaseFile } from '../fetch/index.js';
import type { FileMap } from '../repo/index.js';
import type { DataFiles } from './data-file.js';
import { localDiskError, OverlayDamaged, OverlayFormatUnknown } from './errors.js';
import { InodeTable } from './inode-table.js';
import { Journal, type JournalContent } from './journal.js';
import {
  decodeRecord,
  overlayFormat,
  type AnnouncedCommits,
  type AppliedRequest,
  type Flushed,
  type OverlayHeader,
  type OverlayRecord,
  type Ready,
} from './records.js';

export interface OverlayState {
  readonly header: OverlayHeader;
  readonly table: InodeTable;
  /** Where the last valid record ends. */
  readonly lengthBytes: number;
  /** The number of the record that follows. */
  readonly sequence: number;
  /**
   * `closed`: as `close` left it. `killed`: the process died, the host did not; all that was acknowledged is there.
   * `rebooted`: only what was flushed is believed.
   */
  readonly end: 'closed' | 'killed' | 'rebooted';
  /** Requests of the mount that were carried out before, if it goes on; the newest are enough. */
  readonly applied: readonly AppliedRequest[];
  /** Whether records are missing in the middle: damage, unless the journal was being written or power was lost. */
  readonly hasGap: boolean;
  readonly announced: AnnouncedCommits;
}

/** Of an overlay that was never given to a commit. */
export const noneAnnounced: AnnouncedCommits = { commits: [], changedSince: true };

/** Reads a journal into a table; no data file is touched. */
export async function readOverlayState(
  path: string,
  options: {
    readonly bootId: string | undefined;
    readonly dataFiles: DataFiles;
    readonly openFile: (map: FileMap) => BaseFile;
    /** Inodes that stay although they have no name. */
    readonly pinned?: ReadonlySet<number> | undefined;
  },
): Promise<OverlayState> {
  const content = await readJournal(path);
  try {
    return replay(path, content, options);
  } catch (error) {
    if (error instanceof OverlayDamaged || error instanceof OverlayFormatUnknown) throw error;
    throw new OverlayDamaged(path, 'its records contradict each other', { cause: error });
  }
}

/** The records that a journal begins with. */
export function* stateRecords(state: {
  readonly identity: string;
  readonly bootId: string | undefined;
  readonly table: InodeTable;
  readonly sequence: number;
  readonly announced: AnnouncedCommits;
  readonly applied?: readonly AppliedRequest[];
  /** The content that becomes the base, as in `InodeTable.rebase`. */
  readonly rebased?: ReadonlyMap<number, FileMap>;
}): Generator<string, void> {
  const header: OverlayHeader = {
    type: 'overlay',
    format: overlayFormat,
    base: state.identity,
    bootId: state.bootId ?? null,
    nextInode: state.table.nextInode,
    removed: state.rebased === undefined ? state.table.goneCount : 0,
    ...(state.announced.commits.length === 0 ? {} : { announced: state.announced }),
    ...(state.applied === undefined || state.applied.length === 0 ? {} : { applied: state.applied }),
  };
  yield JSON.stringify(header);
  for (const record of state.table.store(state.rebased)) yield JSON.stringify(record);
  yield JSON.stringify({ type: 'ready', sequence: state.sequence } satisfies Ready);
}

async function readJournal(path: string): Promise<JournalContent> {
  try {
    return await Journal.read(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') throw error;
    throw localDiskError(error, `reading ${path}`);
  }
}

function replay(
  path: string,
  content: JournalContent,
  options: Parameters<typeof readOverlayState>[1],
): OverlayState {
  const [first, ...rest] = content.records;
  const header = readHeader(path, first === undefined ? undefined : decodeRecord(first));
  const sameBoot = options.bootId !== undefined && header.bootId === options.bootId;

  const table = new InodeTable({ ...header, ...options });
  const [ready, readyRecord] = applyBeginning(path, table, rest);
  const following = rest.slice(ready + 1).map(decodeRecord);
  const believed = sameBoot ? following : following.slice(0, lastFlushed(following) + 1);
  let announced = header.announced ?? noneAnnounced;
  const isDurable = sameBoot ? () => true : durability(believed);
  believed.forEach((record, index) => {
    announced = announcedAfter(announced, record);
    if (record.type === 'change') table.apply(record);
    if (record.type === 'wrote' && isDurable(record.inode, readyRecord.sequence + index)) {
      table.applyWrote(record);
    }
  });
  for (const inode of [...table.inodes.values()]) table.dropIfUnused(inode);
  for (const file of table.files()) if (file.content.pages.count > 0) file.content.data.expectExisting();
  return {
    header,
    table,
    lengthBytes: content.lengthBytes,
    applied: appliedRequests(header, believed),
    hasGap: content.hasGap,
    sequence: readyRecord.sequence + following.length,
    announced,
    end: !sameBoot ? 'rebooted' : following.at(-1)?.type === 'closed' ? 'closed' : 'killed',
  };
}

function readHeader(path: string, record: OverlayRecord | undefined): OverlayHeader {
  if (record?.type !== 'overlay') throw new OverlayDamaged(path, 'its first record is missing');
  if (!(record.format >= 1 && record.format <= overlayFormat))
    throw new OverlayFormatUnknown(path, String(record.format));
  return record;
}

/** Applies all up to `ready`, and answers where that is. One after the other: together they are far larger than the table. */
function applyBeginning(
  path: string,
  table: InodeTable,
  records: readonly string[],
): readonly [number, Ready] {
  for (const [index, text] of records.entries()) {
    const record = decodeRecord(text);
    if (record.type === 'ready') return [index, record];
    if (record.type === 'change') table.apply(record);
    else if (record.type === 'segment') table.loadPages(record);
    else throw new Error(`a record of type ${record.type} at the beginning`);
  }
  throw new OverlayDamaged(path, 'its beginning is not complete');
}

/** Keeps the newest few: an older one was made from a state that later ones contain. */
export function announce(announced: AnnouncedCommits, commit: string): AnnouncedCommits {
  const commits = [...announced.commits, commit].slice(-limits.overlayAnnouncedCommits);
  return { commits, changedSince: false };
}

function announcedAfter(announced: AnnouncedCommits, record: OverlayRecord): AnnouncedCommits {
  if (record.type === 'committing') return announce(announced, record.commit);
  const changes = record.type === 'change' || record.type === 'wrote' || record.type === 'changed';
  return changes && !announced.changedSince ? { ...announced, changedSince: true } : announced;
}

/** Those of the mount that the last records belong to. */
function appliedRequests(
  header: OverlayHeader,
  records: readonly OverlayRecord[],
): readonly AppliedRequest[] {
  const lastMount = records.findLastIndex(({ type, ...mark }) => type === 'opened' && !('goesOn' in mark));
  const applied = lastMount < 0 ? [...(header.applied ?? [])] : [];
  for (const record of records.slice(lastMount + 1)) {
    if (record.type !== 'change' || record.request === undefined) continue;
    applied.push([record.request, record.created?.inode ?? record.entries?.[0]?.inode ?? null]);
  }
  return applied.slice(-limits.requestsRecalled);
}

function lastFlushed(records: readonly OverlayRecord[]): number {
  return records.findLastIndex(({ type }) => type === 'flushed');
}

/** Whether the data that a record speaks of had reached the disk: whether a later `flushed` covers it. */
function durability(records: readonly OverlayRecord[]): (inode: number, sequence: number) => boolean {
  const flushes = records.filter((record): record is Flushed => record.type === 'flushed');
  let all = 0;
  const some = new Map<number, number>();
  for (const { inodes, upTo } of flushes) {
    if (inodes === 'all') all = Math.max(all, upTo);
    else for (const inode of inodes) some.set(inode, Math.max(some.get(inode) ?? 0, upTo));
  }
  return (inode, sequence) => sequence < Math.max(all, some.get(inode) ?? 0);
}
