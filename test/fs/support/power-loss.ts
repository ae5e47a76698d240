// First: it puts itself before the functions of `node:fs`.
import { RecordedDisk } from './recorded-disk.js';
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  openOverlay,
  readOverlaySummary,
  type InodeNumber,
  type VmFileSystem,
} from '../../../src/fs/index.js';
import type { Manifest } from '../../../src/repo/index.js';
import { seededRandom } from '../../../src/store/index.js';
import { chunkBytes, FakeVersion, manifestOf } from './fake-version.js';
import { losses, writeImage, type Below, type Loss } from './lost-image.js';
import { RandomChanges } from './random-changes.js';
import { publishInto } from './publish.js';
import { readTree } from './read-tree.js';
import { VersionHistory } from './version-history.js';

const pageBytes = 4096;

/** So small that the journal is written anew several times. */
const journalGrowthBytes = 6 * 1024;

export interface PowerLossTrial {
  readonly seed: number;
  /** Changes of the workload. */
  readonly changes: number;
  /** Power losses that are tried, spread over the workload. */
  readonly images: number;
  /** The disk forgets every so many-th sync, as only a broken one does: so as to see that it is noticed. */
  readonly forgetsOneIn?: number;
}

export interface PowerLossResult {
  readonly images: number;
  readonly events: number;
  readonly states: number;
}

/**
 * Makes random changes to an overlay whose writes and syncs are recorded; then, for many moments and many choices of
 * what reached the disk until then, opens what a power loss leaves and checks it. @throws Error saying which
 */
export async function tryPowerLosses(directory: string, trial: PowerLossTrial): Promise<PowerLossResult> {
  const random = seededRandom(trial.seed);
  const below: Below = (limit) => Math.floor(random() * limit);
  const recorded = await record(join(directory, 'overlay'), trial, below);
  const { disk, history, opened } = recorded;
  for (let image = 0; image < trial.images; image++) {
    // The overlay's own beginning, when nobody has been promised anything, is left out.
    const at = opened + below(disk.now - opened + 1);
    const loss = losses[image % losses.length] as Loss;
    const path = join(directory, 'lost');
    try {
      writeImage(disk, path, { at, loss, below });
      await checkImage(path, recorded, at, below(2) === 0);
    } catch (error) {
      throw new Error(
        `seed ${trial.seed}, image ${image}: power lost at event ${at} of ${disk.now}, on the disk: ${loss}`,
        { cause: error },
      );
    } finally {
      rmSync(path, { recursive: true, force: true });
    }
  }
  return { images: trial.images, events: disk.now, states: history.state + 1 };
}

interface Recorded {
  readonly disk: RecordedDisk;
  readonly history: VersionHistory;
  readonly version: FakeVersion;
  readonly manifest: Manifest;
  /** When the overlay had been opened for the first time. */
  readonly opened: number;
}

async function record(path: string, trial: PowerLossTrial, below: Below): Promise<Recorded> {
  const version = new FakeVersion();
  const manifest = manifestOf({
    one: { file: version.addFile(randomContent(below, 3 * pageBytes + 100)) },
    two: { file: version.addFile(randomContent(below, 2 * pageBytes)) },
    sub: { directory: { three: { file: version.addFile(randomContent(below, 5 * pageBytes)) } } },
  });
  mkdirSync(path, { recursive: true });
  using disk = RecordedDisk.begin(path, trial.forgetsOneIn);
  const recorded = { disk, history: new VersionHistory(), version, manifest };
  const workload = new Workload(recorded, path, below, trial);
  const opened = await workload.run();
  return { ...recorded, opened };
}

class Workload {
  readonly #recorded: Omit<Recorded, 'opened'>;
  readonly #path: string;
  readonly #below: Below;
  readonly #trial: PowerLossTrial;
  readonly #flushes: Promise<void>[] = [];
  #identity = 1;

  constructor(recorded: Omit<Recorded, 'opened'>, path: string, below: Below, trial: PowerLossTrial) {
    this.#recorded = recorded;
    this.#path = path;
    this.#below = below;
    this.#trial = trial;
  }

  /** Answers when the overlay was first open. */
  async run(): Promise<number> {
    const { disk, history } = this.#recorded;
    let fileSystem = await this.#open();
    const opened = disk.now;
    let changes = new RandomChanges(fileSystem, this.#below);
    history.add(0, changes.names(), changes.contents());
    history.flushed(0, opened);
    for (let done = 0; done < this.#trial.changes; done++) {
      switch (this.#below(24)) {
        case 0:
          this.#flush(fileSystem.syncAll());
          break;
        case 1:
        case 2: {
          const { handle, inode } = changes.openFile();
          if (handle === undefined) break;
          this.#flush(fileSystem.fsync(handle, this.#below(2) === 0), inode);
          break;
        }
        case 3:
          if (this.#below(4) > 0) break;
          changes.releaseAll();
          await this.#publish(fileSystem);
          break;
        case 4:
          if (this.#below(4) > 0) break;
          changes.releaseAll();
          fileSystem = await this.#reopen(fileSystem);
          changes = new RandomChanges(fileSystem, this.#below);
          break;
        case 5:
          await Promise.all(this.#flushes.splice(0));
          break;
        default: {
          const began = disk.now;
          const changed = changes.make();
          if (changed !== undefined) history.add(began, changes.names(), changed);
        }
      }
      // What was begun goes on meanwhile.
      if (this.#below(2) === 0) await new Promise(setImmediate);
    }
    await Promise.all(this.#flushes.splice(0));
    changes.releaseAll();
    await fileSystem.close();
    history.flushed(history.state, disk.now);
    return opened;
  }

  #open(): Promise<VmFileSystem> {
    const { manifest, version } = this.#recorded;
    return openOverlay({
      directory: this.#path,
      base: { manifest, identity: String(this.#identity) },
      openFile: version.openFile,
      bootId: 'boot 1',
      journalGrowthBytes,
      onError: (error) => {
        throw error;
      },
    });
  }

  #flush(flushing: Promise<void>, inode?: number): void {
    const { disk, history } = this.#recorded;
    const { state } = history;
    this.#flushes.push(flushing.then(() => history.flushed(state, disk.now, inode)));
  }

  async #reopen(fileSystem: VmFileSystem): Promise<VmFileSystem> {
    const { disk, history } = this.#recorded;
    await Promise.all(this.#flushes.splice(0));
    await fileSystem.close();
    history.flushed(history.state, disk.now);
    return this.#open();
  }

  /** As a publish does: the state is announced, becomes a version, and then the base. */
  async #publish(fileSystem: VmFileSystem): Promise<void> {
    const { disk, history, version } = this.#recorded;
    fileSystem.freeze({ force: true });
    try {
      this.#identity += 1;
      await fileSystem.announceCommit(`commit ${this.#identity}`);
      const files = await publishInto(version, fileSystem.publishSource(chunkBytes));
      await fileSystem.rebase(String(this.#identity), files);
      history.flushed(history.state, disk.now);
    } finally {
      fileSystem.thaw();
    }
  }
}

/** Opens it as after a reboot. With `goesOn`, a second time: what was found stays. */
async function checkImage(path: string, recorded: Recorded, at: number, goesOn: boolean): Promise<void> {
  const { version, manifest, history } = recorded;
  const summary = await readOverlaySummary(path);
  assert.ok(summary !== undefined, 'there is an overlay');
  const open = (bootId: string): Promise<VmFileSystem> =>
    openOverlay({
      directory: path,
      base: { manifest, identity: summary.identity },
      openFile: version.openFile,
      bootId,
      onError: (error) => {
        throw error;
      },
    });
  const fileSystem = await open('boot 2');
  const found = await readTree(fileSystem);
  history.check(found, at);
  await growAll(fileSystem, found.contents);
  await fileSystem.close();
  if (!goesOn) return;
  const again = await open('boot 3');
  for (const [inode, bytes] of (await readTree(again)).contents) {
    const before = found.contents.get(inode);
    assert.ok(
      before !== undefined && bytes.subarray(0, before.length).equals(before),
      'what was found stays',
    );
  }
  await again.close();
}

/** Nothing that was cut off comes back. */
async function growAll(fileSystem: VmFileSystem, contents: ReadonlyMap<number, Buffer>): Promise<void> {
  for (const [inode, { length }] of contents) {
    await fileSystem.setAttributes(inode as InodeNumber, { sizeBytes: length + 2 * pageBytes });
  }
  for (const [inode, bytes] of (await readTree(fileSystem)).contents) {
    const { length = 0 } = contents.get(inode) ?? {};
    const shown = bytes.subarray(length).findIndex((byte) => byte !== 0);
    assert.equal(shown, -1, `inode ${inode} shows something ${shown} bytes after its end`);
  }
}

function randomContent(below: Below, lengthBytes: number): Buffer {
  const content = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 16) content.fill(1 + below(255), at);
  return content;
}
