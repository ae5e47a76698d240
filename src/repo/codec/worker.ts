import { existsSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { DamagedObject } from '../errors.js';
import type { SealingSecrets } from '../format/key-schedule.js';
import { Sealer } from '../format/sealer.js';
import type { ThreadJob, ThreadResult } from './messages.js';
import { sealUnlessKnown } from './seal-unless-known.js';
import { SealedFileReader } from './sealed-file-reader.js';
import { keepSealed } from './sealed-file-writer.js';

/* The code of a codec thread: one sealer for its whole life, one job at a time. */

const sealer = new Sealer(workerData as SealingSecrets);
const files = new SealedFileReader();

/** Jobs between collections: about 4 MiB of garbage. */
const jobsPerCollection = 32;
let jobsSinceCollection = 0;

/**
 * V8 weighs the buffers that jobs leave behind by their handles, so that tens of MiB a thread pile up before it collects
 * them: measured, 80 MB of a daemon's resident set for no speed. The pool has turned on the flag that makes this possible.
 */
const collect = runInNewContext('gc') as (options: { readonly type: 'minor' }) => void;

export default function run(job: ThreadJob): unknown {
  if (++jobsSinceCollection >= jobsPerCollection) {
    jobsSinceCollection = 0;
    collect({ type: 'minor' });
  }
  try {
    return withoutCopy(perform(job));
  } catch (error) {
    if (!(error instanceof DamagedObject)) throw error;
    return { outcome: 'damaged', key: error.key, what: error.what } satisfies ThreadResult;
  }
}

function perform(job: ThreadJob): ThreadResult {
  switch (job.work) {
    case 'seal':
      return sealUnlessKnown(sealer, job);
    case 'open':
      return { outcome: 'opened', plaintext: sealer.open(job.sealed, job.reference, job.kind) };
    case 'openFile': {
      const sealed = files.read(job.path, job.offsetBytes, job.reference.sealedBytes);
      if (sealed === undefined) return { outcome: 'unreadable' };
      return { outcome: 'opened', plaintext: sealer.open(sealed, job.reference, job.kind) };
    }
    case 'keep':
      return { outcome: 'keeping', blobs: job.blobs.map((blob) => keepSealed(sealer, blob)) };
    case 'look':
      return { outcome: 'looked', areThere: job.paths.map((path) => existsSync(path)) };
  }
}

/** Hands the result's bytes over to the receiving thread. */
function withoutCopy(result: ThreadResult): unknown {
  switch (result.outcome) {
    case 'sealed':
      return move({ [transferableSymbol]: result.sealed.buffer, [valueSymbol]: result });
    case 'opened':
      return move({ [transferableSymbol]: result.plaintext.buffer, [valueSymbol]: result });
    case 'zero':
    case 'unchanged':
    case 'damaged':
    case 'unreadable':
    case 'keeping':
    case 'looked':
      return result;
  }
}
