import { parentPort, workerData } from 'node:worker_threads';
import { LocalReader, unknownLocally, type SharedLocalReads } from '../../../src/resident/index.js';

export interface HammerData {
  readonly reads: SharedLocalReads;
  readonly inodes: readonly number[];
  readonly pages: number;
  /** Not 0: stop. Then: how many pages were answered. */
  readonly state: Int32Array;
}

export interface HammerResult {
  readonly answered: number;
  /** What the first wrong page held. */
  readonly wrong: string | undefined;
}

/** Reads pages until told to stop; each must be zeros, or wholly one that its file and number allow. */
const { reads, inodes, pages, state } = workerData as HammerData;
const reader = new LocalReader(reads);
const into = Buffer.alloc(4096);
let answered = 0;
let wrong: string | undefined;
parentPort?.postMessage('ready');
for (let round = 0; Atomics.load(state, 0) === 0; round += 1) {
  const file = round % inodes.length;
  const number = (round * 31) % pages;
  const count = reader.read(inodes[file] ?? 0, number * 4096, into);
  if (count === unknownLocally || count === 0) continue;
  answered += 1;
  Atomics.store(state, 1, answered);
  const first = into.readUInt32LE(0);
  const allowed = [0, 1, 2].map((kind) => (kind === 0 ? 0 : kind * 2 ** 24 + file * 2 ** 20 + number));
  let torn = false;
  for (let at = 4; at < 4096; at += 4) torn ||= into.readUInt32LE(at) !== first;
  if (count !== 4096 || torn || !allowed.includes(first)) {
    wrong ??= `page ${number} of file ${file}: ${count} bytes, ${first.toString(16)}, ${torn ? 'torn' : 'whole'}`;
  }
}
parentPort?.postMessage({ answered, wrong } satisfies HammerResult);
