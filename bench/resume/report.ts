import { median } from '../support/statistics.js';
import { formatTable } from '../support/table.js';
import type { Results } from './results.js';
import type { RunRecord } from './runs.js';
import { subjects } from './subjects/index.js';
import type { Ratios } from './summary.js';

/** A table for each guest and link, and how a resume with a trace compares. */
export function printResults({ runs, summaries = [] }: Results): void {
  printRuns(runs);
  if (summaries.length === 0) return;
  console.log('\nA resume with a trace: to first tick / to work done\n');
  const pair = ({ first, work }: Ratios): string => `${first.toFixed(2)} / ${work.toFixed(2)}`;
  const rows = summaries.map((each) => [
    `${each.guest}, ${each.link}`,
    ...[each.seconds, each.boundSeconds, each.toBound, each.overNoPrefetch].map(pair),
    each.overNoPrefetch.bytes.toFixed(2),
    pair(each.overGzipCopy),
  ]);
  const titles = ['', 'seconds', 'bound', 'to bound', 'faster than exact', 'its bytes', 'than gzip'];
  console.log(formatTable(titles, rows));
}

/** Medians, and the spread of the time to work done. */
function printRuns(runs: readonly RunRecord[]): void {
  for (const place of new Set(runs.map(({ guest, link }) => `${guest} guest, ${link}`))) {
    const here = runs.filter(({ guest, link }) => `${guest} guest, ${link}` === place);
    const rows = subjects.flatMap(({ name, title }) =>
      [...new Set(here.map(({ subject }) => subject))]
        .filter((subject) => subject === name || subject.startsWith(`${name}, `))
        .map((subject) => [
          `${title}${subject.slice(name.length)}`,
          ...rowOf(here.filter((run) => run.subject === subject)),
        ]),
    );
    console.log(`\n${place}\n`);
    console.log(formatTable(header, rows));
  }
}

const header = [
  ...['', 'runs', 'first tick', 'work done', 'least', 'most', 'resident'],
  ...['MB first', 'MB work', 'MB all', 'demands', 'stalled'],
];

function rowOf(runs: readonly RunRecord[]): readonly string[] {
  const middle = (
    figure: (run: RunRecord) => number | undefined,
    format: (value: number) => string,
  ): string => {
    const values = runs.map(figure).filter((value) => value !== undefined);
    return values.length === 0 ? '-' : format(median(values));
  };
  const seconds = (value: number): string => `${value.toFixed(2)} s`;
  const megabytes = (value: number): string => (value / 1e6).toFixed(1);
  const works = runs.map((run) => run.seconds.work);
  return [
    `${runs.length}`,
    middle((run) => run.seconds.first, seconds),
    seconds(median(works)),
    seconds(Math.min(...works)),
    seconds(Math.max(...works)),
    middle((run) => run.seconds.resident, seconds),
    middle((run) => run.bytes.first, megabytes),
    middle((run) => run.bytes.work, megabytes),
    middle((run) => run.bytes.resident, megabytes),
    middle((run) => run.demandFaults, String),
    middle(
      (run) => run.stalledMs,
      (value) => seconds(value / 1000),
    ),
  ];
}
