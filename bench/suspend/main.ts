/**
 * The suspends of `make bench-resume`: a guest that dirtied a part of its memory since its last version is suspended to a
 * repository behind a link. Prints a table; every run goes to bench/results/suspend.json. docs/benchmarks.md has the method.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { largeGuest } from '../resume/guests/large.js';
import { smallGuest } from '../resume/guests/small.js';
import { parseLink, type LinkKind } from '../resume/link.js';
import { prepare } from '../resume/prepared.js';
import { resultsDirectory, revisionOf } from '../resume/results.js';
import { choose } from '../support/choose.js';
import { median } from '../support/statistics.js';
import { stopSignal } from '../support/stop-signal.js';
import { formatTable } from '../support/table.js';
import { suspendOnce, type SuspendRecord } from './runs.js';

const stop = stopSignal();

const { values } = parseArgs({
  options: {
    guest: { type: 'string', default: 'small' },
    link: { type: 'string', default: '100/20' },
    /** Percents of the memory. */
    dirty: { type: 'string', default: '5,20,50' },
    /** `no`, `yes`, or both with a comma; `yes` in the first round only. */
    trickle: { type: 'string', default: 'no,yes' },
    runs: { type: 'string', default: '3' },
    prepared: { type: 'string', default: 'own' },
  },
});

await main();

async function main(): Promise<void> {
  const links = values.link.split(',').map(parseLink);
  const percents = values.dirty.split(',').map(parsePercent);
  const trickles = values.trickle.split(',').map((text) => text === 'yes');
  const revision = await revisionOf();
  const runs: SuspendRecord[] = [];
  for (const guest of choose([smallGuest, largeGuest], values.guest, 'guest')) {
    const reuse = values.prepared === 'any';
    const prepared = await prepare(guest, { reuse, chunkSize: undefined, say });
    for (const kind of links)
      for (let round = 0; round < Number(values.runs); round += 1)
        for (const trickle of trickles)
          for (const dirtyPercent of percents) {
            stop.throwIfAborted();
            // It waits for minutes until everything is quiet.
            if (trickle && round > 0) continue;
            const record = await suspendOnce({
              ...{ prepared, kind, dirtyPercent, trickle, revision },
              signal: stop,
            });
            runs.push(record);
            await writeRuns(runs);
            sayRun(record);
          }
  }
  print(runs);
}

function parsePercent(text: string): number {
  const percent = Number(text);
  // Beyond that the guests have no room.
  if (!(percent > 0 && percent <= 50))
    throw new Error(`not a part of the memory: ${text} (percents, at most 50)`);
  return percent;
}

async function writeRuns(runs: readonly SuspendRecord[]): Promise<void> {
  await mkdir(resultsDirectory, { recursive: true });
  await writeFile(join(resultsDirectory, 'suspend.json'), `${JSON.stringify({ runs }, null, 1)}\n`);
}

/** How long the least that must be stored takes on the link. */
function linkSeconds({ changed }: SuspendRecord, { mbps }: LinkKind): number {
  return (changed.compressedBytes * 8) / (mbps * 1e6);
}

/** Medians; a row for each guest, link and part of the memory, without and with trickle. */
function print(runs: readonly SuspendRecord[]): void {
  const placeOf = ({ guest, link, dirtyPercent, trickle }: SuspendRecord): string =>
    `${guest}, ${link}, ${dirtyPercent} %${trickle ? ', trickle' : ''}`;
  const rows = [...new Set(runs.map(placeOf))].map((place) => {
    const here = runs.filter((record) => placeOf(record) === place);
    const middle = (figure: (record: SuspendRecord) => number): number => median(here.map(figure));
    const megabytes = (figure: (record: SuspendRecord) => number): string =>
      (middle(figure) / 1e6).toFixed(1);
    const storedBytes = (record: SuspendRecord): number => record.aheadBytes + record.suspendBytes;
    return [
      place,
      `${here.length}`,
      megabytes((record) => record.dirtyBytes),
      megabytes((record) => record.changed.compressedBytes),
      megabytes(storedBytes),
      middle((record) => storedBytes(record) / record.changed.compressedBytes).toFixed(2),
      megabytes((record) => record.suspendBytes),
      `${middle((record) => record.saveSeconds).toFixed(2)} s`,
      `${middle((record) => record.seconds).toFixed(2)} s`,
      middle((record) => record.seconds / linkSeconds(record, record.linkKind)).toFixed(2),
    ];
  });
  const titles = [
    ...['', 'runs', 'MB dirty', 'MB least', 'MB stored', 'to least'],
    ...['MB in suspend', 'saved', 'suspended', 'to link'],
  ];
  console.log(`\n${formatTable(titles, rows)}`);
}

function sayRun(record: SuspendRecord): void {
  const { guest, link, dirtyPercent, trickle, seconds, suspendBytes, aheadBytes, waitSeconds } = record;
  const ahead = trickle ? `, ${(aheadBytes / 1e6).toFixed(1)} MB ahead in ${waitSeconds.toFixed(0)} s` : '';
  say(
    `${guest}, ${link}, ${dirtyPercent} % dirty: suspended in ${seconds.toFixed(2)} s, ` +
      `${(suspendBytes / 1e6).toFixed(1)} MB${ahead}`,
  );
}

function say(text: string): void {
  console.log(`* ${text}`);
}
