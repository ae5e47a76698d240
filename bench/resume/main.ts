/**
 * `make bench-resume`: one suspended guest resumed over a link, by isr and by what else there is. Prints a table; every run
 * and a summary go to bench/results/resume.json, plots beside it. docs/benchmarks.md has the method.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { choose } from '../support/choose.js';
import { stopSignal } from '../support/stop-signal.js';
import { largeGuest } from './guests/large.js';
import type { GuestWork } from './guests/console.js';
import { smallGuest } from './guests/small.js';
import { Link, linkName, parseLink, type LinkKind } from './link.js';
import { prepare } from './prepared.js';
import { touchedPages } from './bound.js';
import { drawPlots } from './plots/index.js';
import { printResults } from './report.js';
import {
  addRun,
  addTouched,
  readResults,
  revisionOf,
  startResults,
  writeResults,
  type Results,
} from './results.js';
import { guestTitle, runSubject, type RunRecord } from './runs.js';
import { subjects } from './subjects/index.js';
import { summarize } from './summary.js';

const guests = [smallGuest, largeGuest];
const linkDefaults = '100/20,1000/1';

/** The link of the summary. */
const judgedLink: LinkKind = { mbps: 100, rttMs: 20 };

const stop = stopSignal();

const { values } = parseArgs({
  options: {
    guest: { type: 'string' },
    /** `100/20`: megabits a second, milliseconds; several with commas. */
    link: { type: 'string', default: linkDefaults },
    subjects: { type: 'string' },
    /** `scan`: the guest reads all of its memory before it works, which is the worst case. */
    work: { type: 'string', default: 'go' },
    runs: { type: 'string', default: '5' },
    /** `no`: stop when the work is done. `yes`: the first run of each subject goes on until everything is local. */
    resident: { type: 'string', default: 'yes' },
    /** `yes`: keep the runs that are in resume.json. */
    append: { type: 'string', default: 'no' },
    /** Of the repositories; `isr init` has a default. */
    'chunk-size': { type: 'string' },
    /** `any`: also what an earlier build of isr has published. */
    prepared: { type: 'string', default: 'own' },
    /** No run begins after so long. */
    'limit-seconds': { type: 'string' },
  },
});

await main();

async function main(): Promise<void> {
  const links = values.link.split(',').map(parseLink);
  const work = parseWork(values.work);
  const chosen = choose(subjects, values.subjects, 'subject');
  const rounds = Number(values.runs);
  const revision = await revisionOf();
  const limitSeconds = Number(values['limit-seconds'] ?? Infinity);
  const deadlineMs = performance.now() + 1000 * limitSeconds;
  if (values.append !== 'yes') await startResults();
  for (const guest of choose(guests, values.guest, 'guest')) {
    const chunkSize = values['chunk-size'];
    const prepared = await prepare(guest, { reuse: values.prepared === 'any', chunkSize, say });
    await addTouched(guestTitle(guest.name, work), await touchedPages(prepared, work));
    for (const kind of links) {
      const directory = await mkdtemp(join(tmpdir(), 'isr-bench-link-'));
      try {
        await using link = await Link.open(kind, prepared.root, directory);
        for (let round = 0; round < rounds; round += 1) {
          // In turns, and another one first each time: what drifts meets all alike.
          for (let turn = 0; turn < chosen.length; turn += 1) {
            const subject = chosen[(turn + round) % chosen.length];
            if (subject === undefined || performance.now() > deadlineMs) continue;
            stop.throwIfAborted();
            const untilResident = values.resident === 'yes' && round === 0;
            try {
              const record = await runSubject({
                ...{ prepared, link, subject, work, revision, untilResident, chunkSize },
                signal: stop,
              });
              await addRun(record);
              sayRun(record);
            } catch (error) {
              // The others can go on; but the suite has failed.
              stop.throwIfAborted();
              process.exitCode = 1;
              say(`${guest.name}, ${linkName(kind)}, ${subject.name} FAILED: ${String(error)}`);
            }
          }
        }
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    }
  }
  const results = await finish();
  await drawPlots(results.runs);
  printResults(results);
}

/** Works out what compares the runs. */
async function finish(): Promise<Results> {
  const { runs, touched = {} } = await readResults();
  const summaries = [...new Set(runs.map(({ guest }) => guest))].flatMap((guest) =>
    distinctLinks(runs).flatMap((kind) => summarize(runs, guest, kind, touched[guest]) ?? []),
  );
  const summary = summaries.find(({ guest, link }) => guest === 'large' && link === linkName(judgedLink));
  const results = { summary, summaries, touched, runs };
  await writeResults(results);
  return results;
}

function distinctLinks(runs: readonly RunRecord[]): readonly LinkKind[] {
  return [...new Map(runs.map(({ link, linkKind }) => [link, linkKind])).values()];
}

function parseWork(text: string): GuestWork {
  if (text !== 'go' && text !== 'scan') throw new Error(`there is no work ${text}; there are go, scan`);
  return text;
}

function sayRun({ guest, link, subject, seconds, bytes, demandFaults, stalledMs }: RunRecord): void {
  const faults = demandFaults === undefined ? '' : `, ${demandFaults} demands (${stalledMs ?? 0} ms)`;
  say(
    `${guest}, ${link}, ${subject}: first ${seconds.first.toFixed(2)} s, work ${seconds.work.toFixed(2)} s, ` +
      `${(bytes.first / 1e6).toFixed(1)} and ${(bytes.work / 1e6).toFixed(1)} MB${faults}`,
  );
}

function say(text: string): void {
  console.log(`* ${text}`);
}
