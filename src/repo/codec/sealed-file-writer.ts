import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, writevSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemErrorCode } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { Sealer } from '../format/sealer.js';
import type { KeepJob, KeepOutcome } from './messages.js';

/** Writes sealed bytes that are authentic to a file of their own, in one step. For one thread. */
export function keepSealed(sealer: Sealer, job: KeepJob): KeepOutcome {
  const { sealed, reference, kind, path } = job;
  try {
    sealer.authenticate(sealed, reference, kind);
  } catch (error) {
    if (!(error instanceof DamagedObject)) throw error;
    return { outcome: 'damaged', key: error.key, what: error.what };
  }
  if (existsSync(path)) return { outcome: 'there' };
  try {
    write(job);
    return { outcome: 'kept' };
  } catch {
    remove(job.temporaryPath);
    return { outcome: 'unwritable', sealed };
  }
}

/** What stays is removed when the directory is swept. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    return;
  }
}

function write({ sealed, path, temporaryPath, before, after }: KeepJob): void {
  const file = openSync(temporaryPath, 'wx', 0o600);
  try {
    const parts = [before, sealed, after];
    const lengthBytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (writevSync(file, parts, 0) !== lengthBytes) throw new Error('the disk took only a part');
  } finally {
    closeSync(file);
  }
  try {
    renameSync(temporaryPath, path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    // The first file of its directory.
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    renameSync(temporaryPath, path);
  }
}
