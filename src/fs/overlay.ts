import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { limits } from '../base/index.js';
import type { BaseFile } from '../fetch/index.js';
import type { FileMap, Manifest } from '../repo/index.js';
import { DataFiles } from './data-file.js';
import { FileSystemError, localDiskError, OverlayDamaged, OverlayMismatch } from './errors.js';
import type { PageEdges } from './file-content.js';
import { isUnlinked, type FileInode, type Inode } from './inode.js';
import { InodeTable } from './inode-table.js';
import { Journal } from './journal.js';
import { manifestChanges } from './manifest-changes.js';
import {
  announce,
  noneAnnounced,
  readOverlayState,
  stateRecords,
  type OverlayState,
} from './overlay-state.js';
import { pageBytes } from './page-bitmap.js';
import {
  wroteRecord,
  type AnnouncedCommits,
  type AppliedRequest,
  type Change,
  type Committing,
  type Flushed,
  type Mark,
} from './records.js';

export interface OverlayOptions {
  /** Made if absent; its parent must exist. Belongs to this process alone while the overlay is open. */
  readonly directory: string;
  readonly base: { readonly manifest: Manifest | undefined; readonly identity: string };
  readonly openFile: (map: FileMap) => BaseFile;
  /** For a new overlay: the number of its first inode after the root. */
  readonly firstInodeNumber: number;
  /** What `bootId` of `system/` says. Where it says nothing, only what was flushed survives a crash. */
  readonly bootId: string | undefined;
  /** Inodes without a name that a mount which goes on still has open; undefined: no mount goes on. */
  readonly pinned: ReadonlySet<number> | undefined;
  /** How far the journal may grow before it is written anew. */
  readonly journalGrowthBytes: number;
  /** Told of failures that no caller waits for. */
  readonly onError: (error: unknown) => void;
}

interface OverlayParts {
  readonly options: OverlayOptions;
  readonly table: InodeTable;
  readonly dataFiles: DataFiles;
  readonly journal: Journal;
  /** The number of the next record. */
  readonly sequence: number;
  readonly announced: AnnouncedCommits;
  /** As of `OverlayState`. */
  readonly applied: readonly AppliedRequest[];
}

/**
 * The changes to a version on this host: a journal of records, and a data file for each inode that was written to.
 *
 * Acknowledged is what the kernel was given: data first, then the record that makes it count. Flushed is what `flush`
 * made durable: data, then all records so far and one more that says whose data they may claim. After power loss only
 * what such a record covers is believed, so no page claims data that did not reach the disk. Space is given back
 * when the records that gave it up are durable, not before.
 */
export class Overlay {
  readonly table: InodeTable;
  /** Told of every write, when it is acknowledged. Must not throw. */
  onWrite: ((file: FileInode, firstPage: number, pageCount: number) => void) | undefined;
  readonly #options: OverlayOptions;
  readonly #dataFiles: DataFiles;
  readonly #journal: Journal;
  /**
   * What earlier processes of the mount did for its requests. The answers of this one's own are given before
   * anything else happens, so that the journal's newest records are enough for the next.
   */
  readonly #applied: ReadonlyMap<number, number | null>;
  /** Which version the changes were made to. */
  #identity: string;
  #sequence: number;
  #announced: AnnouncedCommits;
  /** All records below are durable. */
  #durableSequence = 0;
  /** Files whose data may not be durable. */
  readonly #dirty = new Set<FileInode>();
  /** Dirty files that took another's name: were the name durable before the data, both contents could be lost. */
  readonly #replacements = new Set<FileInode>();
  /** Give space back; may run when all records so far are durable. */
  #discards: (() => void)[] = [];
  #discarding: Promise<void> | undefined;
  /** Where the journal's beginning ends. */
  #begunBytes: number;
  #compacting = false;
  /** The last replacement of the journal, settled. */
  #replacing: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(parts: OverlayParts) {
    this.#options = parts.options;
    this.table = parts.table;
    this.#dataFiles = parts.dataFiles;
    this.#journal = parts.journal;
    this.#identity = parts.options.base.identity;
    this.#sequence = parts.sequence;
    this.#announced = parts.announced;
    this.#applied = new Map(parts.applied);
    this.#begunBytes = parts.journal.lengthBytes;
    parts.table.onGone = (inode) => this.#forget(inode);
  }

  /**
   * Makes a new overlay of the base, or opens the one that is there. Throws `OverlayMismatch` if that has another
   * base, `OverlayDamaged`, `OverlayFormatUnknown`, or `FileSystemError` for the local disk.
   */
  static async open(options: OverlayOptions): Promise<Overlay> {
    const dataDirectory = join(options.directory, 'data');
    try {
      mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw localDiskError(error, `making ${dataDirectory}`);
    }
    const dataFiles = new DataFiles(dataDirectory);
    dataFiles.keepSpares();
    try {
      return existsSync(journalPath(options.directory))
        ? await Overlay.#reopen(options, dataFiles)
        : Overlay.#begin(options, dataFiles);
    } catch (error) {
      dataFiles.close();
      throw error;
    }
  }

  static #begin(options: OverlayOptions, dataFiles: DataFiles): Overlay {
    const { base, firstInodeNumber, openFile } = options;
    if (base.manifest === undefined)
      throw new Error(`there is no overlay in ${options.directory} to go on with`);
    // What a creation or a removal that was interrupted left behind.
    for (const inode of dataFiles.list()) dataFiles.remove(inode);
    const table = new InodeTable({ nextInode: firstInodeNumber, removed: 0, dataFiles, openFile });
    for (const change of manifestChanges(base.manifest, firstInodeNumber)) table.apply(change);
    const sequence = 0;
    const announced = noneAnnounced;
    const { bootId } = options;
    const records = stateRecords({ identity: base.identity, bootId, table, sequence, announced });
    const journal = Journal.begin(journalPath(options.directory), records);
    syncDirectory(dirname(options.directory));
    return new Overlay({ options, table, dataFiles, journal, sequence, announced, applied: [] });
  }

  static async #reopen(options: OverlayOptions, dataFiles: DataFiles): Promise<Overlay> {
    const { directory, base } = options;
    const state = await readOverlayState(journalPath(directory), { ...options, dataFiles });
    if (state.header.base !== base.identity) {
      throw new OverlayMismatch(directory, state.header.base, base.identity);
    }
    if (state.hasGap && state.end !== 'rebooted') {
      throw new OverlayDamaged(journalPath(directory), 'a record in the middle is torn');
    }
    if (state.end === 'rebooted' && options.pinned !== undefined) {
      throw new OverlayDamaged(journalPath(directory), 'it is older than the mount that it belongs to');
    }
    const journal =
      state.end === 'rebooted'
        ? await beginAfterReboot(options, state)
        : Journal.resume(journalPath(directory), state.lengthBytes);
    const { table, sequence, announced } = state;
    const applied = options.pinned === undefined ? [] : state.applied;
    const overlay = new Overlay({ options, table, dataFiles, journal, sequence, announced, applied });
    const opened: Mark = { type: 'opened', ...(options.pinned === undefined ? {} : { goesOn: true }) };
    overlay.#append(JSON.stringify(opened));
    if (state.end === 'killed') overlay.#recover();
    overlay.#discardOrphans();
    return overlay;
  }

  /** What `announceCommit` was told since the base was adopted. */
  get announced(): AnnouncedCommits {
    return this.#announced;
  }

  /** The inode that a request made or named which an earlier process of the mount carried out; null for none. */
  recall(request: number): number | null | undefined {
    return this.#applied.get(request);
  }

  /** Everything that is open has been opened again: what has no name and is not open goes. */
  unpin(): void {
    const { pinned } = this.table;
    this.table.pinned = new Set();
    for (const number of pinned) {
      const inode = this.table.inodes.get(number);
      if (inode !== undefined) this.table.dropIfUnused(inode);
    }
  }

  /** Acknowledges a change of names or attributes: it is in the journal, then in the table. */
  commit(change: Change): void {
    const { overlayJournalRemovalBytes, overlayJournalReserveBytes } = limits;
    this.#append(
      JSON.stringify(change),
      givesUp(change) ? overlayJournalReserveBytes : overlayJournalRemovalBytes,
    );
    this.#announced = changedSince(this.#announced);
    this.table.apply(change);
  }

  /**
   * The state as it is now is about to become a version, known by `commit`; nothing may be written until this resolves,
   * and then it is durable. If the process dies before `rebase`, whoever opens the overlay again can find out whether
   * the version came to exist, and whether the overlay is still the same.
   */
  async announceCommit(commit: string): Promise<void> {
    this.#append(JSON.stringify({ type: 'committing', commit } satisfies Committing));
    this.#announced = announce(this.#announced, commit);
    await this.#flush([], 'some');
  }

  /** As `commit`; `inode` takes the name of another. */
  commitReplacement(change: Change, inode: Inode): void {
    this.commit(change);
    if (inode.kind === 'file' && this.#dirty.has(inode)) this.#replacements.add(inode);
  }

  /** As `commit`; the change truncates `file`, or makes it grow. */
  commitResize(change: Change, file: FileInode): void {
    const { content } = file;
    const bytesBefore = content.sizeBytes;
    const pagesBefore = content.pages.end;
    this.commit(change);
    if (content.sizeBytes >= bytesBefore) return;
    const firstPage = Math.floor(content.sizeBytes / pageBytes);
    this.onWrite?.(file, firstPage, Math.ceil(bytesBefore / pageBytes) - firstPage);
    this.#dirty.add(file);
    content.clearTail();
    const firstGone = Math.ceil(content.sizeBytes / pageBytes);
    if (pagesBefore > firstGone) this.#discardLater(() => content.discardFrom(firstGone));
  }

  /** Acknowledges a write whose edges were loaded. Throws with no page marked as present that was not before. */
  write(file: FileInode, offsetBytes: number, data: Uint8Array, edges: PageEdges, timeNs: bigint): void {
    const { content } = file;
    const endBytes = offsetBytes + data.length;
    this.#beforeStore();
    this.#dirty.add(file);
    content.store(offsetBytes, data, edges);
    const first = Math.floor(offsetBytes / pageBytes);
    const count = Math.ceil(endBytes / pageBytes) - first;
    this.#acknowledge(file, first, count, Math.max(content.sizeBytes, endBytes), timeNs);
    this.onWrite?.(file, first, count);
  }

  /** Acknowledges zeros in a range whose edges were loaded, and a new size. */
  writeZeros(
    file: FileInode,
    range: { readonly startBytes: number; readonly endBytes: number; readonly sizeBytes: number },
    edges: PageEdges,
    timeNs: bigint,
  ): void {
    this.#beforeStore();
    this.#dirty.add(file);
    const { first, count } = file.content.storeZeros(range.startBytes, range.endBytes, edges);
    this.#acknowledge(file, first, count, range.sizeBytes, timeNs);
    const firstPage = Math.floor(range.startBytes / pageBytes);
    this.onWrite?.(file, firstPage, Math.ceil(range.endBytes / pageBytes) - firstPage);
  }

  /** An inode has lost a user: a handle, or the kernel. */
  released(inode: Inode): void {
    this.table.dropIfUnused(inode);
  }

  /** Makes everything acknowledged durable. */
  flush(): Promise<void> {
    const files = [...this.#dirty];
    for (const file of files) this.#recordTimes(file);
    return this.#flush(files, 'all');
  }

  /** Makes the data of a file durable, and all names and attributes; with `dataOnly` perhaps not when it was written. */
  flushFile(file: FileInode, dataOnly: boolean): Promise<void> {
    if (!dataOnly) this.#recordTimes(file);
    return this.#flush([file], 'some');
  }

  /**
   * Makes what was published the base, in one step that is durable when this resolves. `files` has the content of
   * every file that has a name, as it is now; nothing may be written meanwhile.
   */
  rebase(identity: string, files: ReadonlyMap<number, FileMap>): Promise<void> {
    return this.#replaceJournal(async () => {
      const { bootId } = this.#options;
      const state = {
        ...{ identity, bootId, table: this.table, sequence: this.#sequence },
        ...{ rebased: files, announced: noneAnnounced, applied: [...this.#applied] },
      };
      await this.#journal.replace(stateRecords(state), this.#journal.lengthBytes);
      this.#begunBytes = this.#journal.lengthBytes;
      this.#identity = identity;
      this.#announced = noneAnnounced;
      this.table.rebase(files);
      for (const file of this.table.files()) {
        if (isUnlinked(file)) continue;
        this.#dirty.delete(file);
        this.#replacements.delete(file);
        file.content.data.remove();
      }
    });
  }

  /** Flushes and closes. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#discarding;
      await this.#replacing;
      await this.flush();
      this.#append(JSON.stringify({ type: 'closed' } satisfies Mark));
      await this.#journal.sync();
    } finally {
      await this.#journal.close();
      this.#dataFiles.close();
    }
  }

  /** `leavingBytes`: as in `Journal.append`; for records that nothing depends on. */
  #append(record: string, leavingBytes = 0): void {
    this.#journal.append(record, leavingBytes);
    this.#sequence += 1;
    const grownBytes = this.#journal.lengthBytes - this.#begunBytes;
    if (grownBytes <= this.#options.journalGrowthBytes) return;
    if (!this.#compacting && this.#closing === undefined) this.#compact();
  }

  /** Writes in place make no record: the first after an announced commit does, before it happens. */
  #beforeStore(): void {
    if (this.#announced.changedSince) return;
    this.#append(JSON.stringify({ type: 'changed' } satisfies Mark));
    this.#announced = changedSince(this.#announced);
  }

  /** The data is stored: now the journal, then the table, may say so. */
  #acknowledge(file: FileInode, first: number, count: number, sizeBytes: number, timeNs: bigint): void {
    const { content } = file;
    const added = count === 0 || content.pages.hasAll(first, count) ? 0 : count;
    if (added > 0 || sizeBytes !== content.sizeBytes) {
      content.recordedAt = this.#sequence;
      const record = wroteRecord(file.number, first, added, sizeBytes, timeNs);
      this.#append(record, limits.overlayJournalRemovalBytes);
      content.markWritten(first, added, sizeBytes);
      file.timesUnrecorded = false;
    } else {
      file.timesUnrecorded = true;
    }
    file.modifyTimeNs = file.changeTimeNs = timeNs;
  }

  async #flush(files: readonly FileInode[], extent: 'all' | 'some'): Promise<void> {
    const upTo = this.#sequence;
    // What has no name is gone after a crash: its data need not last.
    const unsynced = [...new Set([...files, ...this.#replacements])].filter(
      (file) => this.#dirty.has(file) && !isUnlinked(file),
    );
    // Writes in place need no record: what there is says already which pages count.
    const needsRecord =
      upTo !== this.#durableSequence ||
      unsynced.some(({ content }) => content.recordedAt >= content.believedBelow);
    if (upTo === this.#durableSequence) runAll(this.#takeDiscards());
    const stores = unsynced.map(({ content }) => content.stores);
    await syncData(unsynced);
    if (needsRecord) await this.#recordFlush(upTo, unsynced, extent);
    unsynced.forEach((file, index) => {
      this.#replacements.delete(file);
      if (file.content.stores === stores[index]) this.#dirty.delete(file);
    });
  }

  /** The data of these files is durable: now the records that speak of it, and one that says so. */
  async #recordFlush(upTo: number, synced: readonly FileInode[], extent: 'all' | 'some'): Promise<void> {
    await this.#dataFiles.syncEntries();
    const inodes = extent === 'all' ? extent : synced.map(({ number }) => number);
    this.#append(JSON.stringify({ type: 'flushed', upTo, inodes } satisfies Flushed));
    const sequence = this.#sequence;
    const discards = this.#takeDiscards();
    try {
      await this.#journal.sync();
    } catch (error) {
      this.#discards.unshift(...discards);
      throw error;
    }
    this.#durableSequence = Math.max(this.#durableSequence, sequence);
    for (const { content } of synced) content.believedBelow = Math.max(content.believedBelow, upTo);
    runAll(discards);
  }

  /** Times that writes in place have changed in memory only. */
  #recordTimes(file: FileInode): void {
    if (!file.timesUnrecorded) return;
    const patch = {
      inode: file.number,
      modified: String(file.modifyTimeNs),
      changed: String(file.changeTimeNs),
    };
    try {
      this.commit({ type: 'change', attributes: [patch] });
      file.timesUnrecorded = false;
    } catch (error) {
      // A full disk is no reason not to flush the data.
      if (!(error instanceof FileSystemError && error.errno === 'ENOSPC')) throw error;
    }
  }

  #discardLater(discard: () => void): void {
    this.#discards.push(discard);
    if (this.#discarding !== undefined || this.#closing !== undefined) return;
    this.#discarding = this.#flushForDiscards().finally(() => {
      this.#discarding = undefined;
    });
  }

  async #flushForDiscards(): Promise<void> {
    try {
      while (this.#discards.length > 0) await this.#flush([], 'some');
    } catch (error) {
      this.#options.onError(error);
    }
  }

  #takeDiscards(): (() => void)[] {
    const discards = this.#discards;
    this.#discards = [];
    return discards;
  }

  /** Nobody can reach the inode any more. */
  #forget(inode: Inode): void {
    if (inode.kind !== 'file') return;
    this.#dirty.delete(inode);
    this.#replacements.delete(inode);
    this.#discardLater(() => inode.content.data.remove());
  }

  /** Writes the journal anew when it has grown long. */
  #compact(): void {
    this.#compacting = true;
    this.#replaceJournal(async () => {
      const keptFrom = this.#journal.lengthBytes;
      const { bootId } = this.#options;
      const state = {
        ...{ identity: this.#identity, bootId, table: this.table, sequence: this.#sequence },
        announced: this.#announced,
        applied: [...this.#applied],
      };
      const records = [...stateRecords(state)];
      // Pages of the state must be durable before a journal that claims them without a `flushed` record.
      await this.flush();
      await this.#journal.replace(records, keptFrom);
    })
      .catch((error: unknown) => this.#options.onError(error))
      .finally(() => {
        this.#begunBytes = this.#journal.lengthBytes;
        this.#compacting = false;
      });
  }

  /**
   * One replacement at a time. It begins in a turn of its own: within a turn a record may be in the journal and not
   * yet in the table.
   */
  #replaceJournal(replace: () => Promise<void>): Promise<void> {
    const replacing = this.#replacing.then(replace);
    this.#replacing = replacing.catch(() => undefined);
    return replacing;
  }

  /** The process died, the host did not: everything is there, but not everything was finished or is durable. */
  #recover(): void {
    for (const file of this.table.files()) {
      const { content } = file;
      if (content.pages.count === 0) continue;
      this.#dirty.add(file);
      content.recordedAt = this.#sequence - 1;
      // A write in place past the end, whose record was not made.
      content.clearTail();
      // Writes in place make no record; the disk remembers when the last was. None was since an announced commit.
      if (!this.#announced.changedSince) continue;
      const storedNs = content.data.modifyTimeNs();
      if (storedNs === undefined || storedNs <= file.changeTimeNs) continue;
      file.modifyTimeNs = file.changeTimeNs = storedNs;
      file.timesUnrecorded = true;
    }
  }

  /** Data files without pages: of inodes that are gone, or of an overlay that was rebased. */
  #discardOrphans(): void {
    for (const number of this.#dataFiles.list()) {
      if ((this.table.file(number)?.content.pages.count ?? 0) > 0) continue;
      this.#discards.push(() => {
        const content = this.table.file(number)?.content;
        if (content !== undefined && content.pages.count > 0) return;
        content?.data.remove();
        this.#dataFiles.remove(number);
      });
    }
  }
}

export function journalPath(directory: string): string {
  return join(directory, 'journal');
}

/** Only what was flushed is in the state; records and data that came later are left behind for good. */
async function beginAfterReboot(options: OverlayOptions, state: OverlayState): Promise<Journal> {
  const { table, sequence, announced } = state;
  for (const { content } of table.files()) {
    content.clearTail();
    if (content.stores > 0) await content.data.sync();
  }
  const { directory, base, bootId } = options;
  return Journal.begin(
    journalPath(directory),
    stateRecords({ identity: base.identity, bootId, table, sequence, announced }),
  );
}

/** Data files that are synced at once: enough to keep a disk busy, and leaves threads of Node.js for others. */
const syncsAtOnce = 2;

async function syncData(files: readonly FileInode[]): Promise<void> {
  const queue = files.values();
  const worker = async (): Promise<void> => {
    for (const { content } of queue) await content.data.sync();
  };
  await Promise.all(Array.from({ length: syncsAtOnce }, worker));
}

function changedSince(announced: AnnouncedCommits): AnnouncedCommits {
  return announced.changedSince ? announced : { ...announced, changedSince: true };
}

/** Whether a change only gives names or content up, and so makes room. */
function givesUp({ created, entries, truncate }: Change): boolean {
  if (created !== undefined) return false;
  return truncate !== undefined || (entries?.every(({ inode }) => inode === null) ?? false);
}

function runAll(tasks: readonly (() => void)[]): void {
  for (const task of tasks) task();
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
