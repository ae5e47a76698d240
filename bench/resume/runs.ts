import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { dropPageCache } from '../support/page-cache.js';
import { GuestConsole, type GuestWork } from './guests/console.js';
import { linkName, type Link, type LinkKind } from './link.js';
import type { Prepared } from './prepared.js';
import type { Resuming, Subject, SubjectFigures } from './subjects/subject.js';

const run = promisify(execFile);

/** A copy of everything over a slow link takes minutes; what takes longer than this has failed. */
const runTimeoutMs = 60 * 60_000;

const timelineMs = 100;

/** Seconds and bytes at three moments: the guest's first line, the end of its work, everything local. */
export interface Moments {
  readonly first: number;
  readonly work: number;
  readonly resident: number | undefined;
}

/** One run of one subject. */
export interface RunRecord {
  /** With what it does, where that is not its usual work. */
  readonly guest: string;
  readonly link: string;
  readonly linkKind: LinkKind;
  /** With the size of chunks, where it is not the default. */
  readonly subject: string;
  readonly at: string;
  /** The commit of isr, with a plus sign where files were changed. */
  readonly revision: string;
  /** Processes that wanted a processor, on average over the minute before: little, where the figures count. */
  readonly load: number;
  /** From the start of the command. */
  readonly seconds: Moments;
  /** Received over the link, headers included. */
  readonly bytes: Moments;
  /** Received so far, every `timelineMs` until the work was done. */
  readonly timeline: readonly number[];
  readonly sentBytes: number;
  readonly demandFaults: number | undefined;
  readonly stalledMs: number | undefined;
  readonly details: unknown;
}

export interface RunOptions {
  readonly prepared: Prepared;
  readonly link: Link;
  readonly subject: Subject;
  readonly work: GuestWork;
  readonly revision: string;
  readonly chunkSize: string | undefined;
  /** Whether to go on until everything is local, which takes as long as a copy. */
  readonly untilResident: boolean;
  readonly signal: AbortSignal;
}

/** How a guest that does this is called in results. */
export function guestTitle(name: string, work: GuestWork): string {
  return work === 'go' ? name : `${name}, ${work}`;
}

/** Resumes the guest once, with cold caches. Throws if it is another guest, or what it read is not what it was. */
export async function runSubject(options: RunOptions): Promise<RunRecord> {
  const { prepared, link, subject } = options;
  const directory = await mkdtemp(join(tmpdir(), 'isr-br-'));
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(runTimeoutMs)]);
  let resuming: Resuming | undefined;
  try {
    resuming = await subject.begin({ prepared, link, directory, signal });
    await dropPageCache();
    if (subject.serves !== undefined) await readAll(join(prepared.root, subject.serves));
    return await measure(options, resuming, signal);
  } finally {
    await resuming?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(options: RunOptions, resuming: Resuming, signal: AbortSignal): Promise<RunRecord> {
  const { prepared, link, subject, revision, chunkSize } = options;
  const atStart = await link.receivedBytes();
  const sentAtStart = await link.sentBytes();
  const receivedBytes = async (): Promise<number> => (await link.receivedBytes()) - atStart;
  const date = new Date();
  const [load = Number.NaN] = loadavg();

  const timeline: number[] = [];
  const sampling = setInterval(() => {
    void receivedBytes().then((bytes) => timeline.push(bytes));
  }, timelineMs);
  using _ = { [Symbol.dispose]: () => clearInterval(sampling) };
  const startMs = performance.now();
  const secondsAt = (atMs: number): number => (atMs - startMs) / 1000;
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  const returned = resuming.resume();
  returned.catch((error: unknown) => {
    failed.abort(error);
  });
  using console = await GuestConsole.connect(resuming.consolePath, both);
  const begun = await console.request(options.work, both);
  const firstBytes = await receivedBytes();
  const done = await console.line('done', begun.token, both);
  const workBytes = await receivedBytes();
  clearInterval(sampling);
  await returned;
  const figures: SubjectFigures | undefined = await resuming.figures?.();
  if (begun.nonce !== prepared.nonce || done.digest !== prepared.digest)
    throw new Error(`${subject.name}: this is another guest: ${JSON.stringify({ begun, done })}`);

  let resident: number | undefined;
  if (resuming.bringAll === undefined) resident = secondsAt(begun.atMs);
  else if (options.untilResident) {
    await resuming.bringAll();
    resident = secondsAt(performance.now());
  }
  return {
    guest: guestTitle(prepared.guest.name, options.work),
    link: linkName(link.kind),
    linkKind: link.kind,
    subject: chunkSize === undefined ? subject.name : `${subject.name}, ${chunkSize} chunks`,
    at: date.toISOString(),
    revision,
    load,
    seconds: { first: secondsAt(begun.atMs), work: secondsAt(done.atMs), resident },
    bytes: {
      first: firstBytes,
      work: workBytes,
      resident: resident === undefined ? undefined : await receivedBytes(),
    },
    timeline,
    sentBytes: (await link.sentBytes()) - sentAtStart,
    demandFaults: figures?.demandFaults,
    stalledMs: figures?.stalledMs,
    details: figures?.details,
  };
}

/** Into the page cache. */
async function readAll(directory: string): Promise<void> {
  await run('sh', ['-c', 'find "$1" -type f -exec cat {} + > /dev/null', 'sh', directory]);
}
