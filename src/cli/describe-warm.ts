import type { Prediction, WarmPlan, WarmResult, WarmStage } from '../warm/index.js';
import { formatBytes, formatCount, formatFields, formatSeconds, formatTable } from './format.js';

const reasons: Readonly<Record<WarmStage, string>> = {
  trace: 'the next resume will touch it',
  small: 'device state, configuration',
  seen: 'earlier resumes touched it',
  written: 'the last session wrote it',
  rest: 'the rest',
  file: 'the file',
};

/** What was fetched, in one sentence or two. */
export function describeWarmed(result: WarmResult): string {
  const { chunks, fetchedChunks, fetchedBytes, seconds, ended, stages } = result;
  const done =
    fetchedChunks === 0
      ? `All ${formatCount(chunks, 'chunk')} were here already.`
      : `Fetched ${fetchedChunks} of ${formatCount(chunks, 'chunk')} (${formatBytes(fetchedBytes)}) in ${formatSeconds(seconds)}; the rest was here already.`;
  if (ended === 'complete') return done;
  const last = stages.at(-1);
  const reached =
    last === undefined ? 'nothing is here yet' : `it was at: ${reasons[last.stage]}; what came stays`;
  return `Fetched ${formatCount(fetchedChunks, 'chunk')} (${formatBytes(fetchedBytes)}) until the time was up; ${reached}.`;
}

/** What warming would fetch, and what a resume would take. */
export function describePlan(plan: WarmPlan): string {
  const table = formatTable(plan.stages, [
    { title: 'WANTED BECAUSE', cell: ({ stage }) => reasons[stage] },
    { title: 'CHUNKS', align: 'right', cell: ({ chunks }) => String(chunks) },
    { title: 'STORED', align: 'right', cell: ({ bytes }) => formatBytes(bytes) },
    {
      title: 'HERE',
      align: 'right',
      cell: ({ localChunks, localBytes }) => `${localChunks} (${formatBytes(localBytes)})`,
    },
  ]);
  const { link, resume } = plan;
  const fields = [
    [
      'To fetch',
      `${formatBytes(plan.absentBytes)} with ${formatCount(plan.requests, 'request')}${inSeconds(plan.seconds)}`,
    ],
    [
      'Link',
      link === undefined
        ? 'not measured: nothing had to come over it'
        : `${formatBytes(link.bytesPerSecond)}/s, round trip ${link.roundTripMs.toFixed(1)} ms`,
    ],
    ...(resume === undefined
      ? [['A resume now', 'cannot be predicted: none was recorded yet'] as const]
      : ([
          ['First tick', describePrediction(resume.firstTick)],
          ['First useful work', describePrediction(resume.work)],
        ] as const)),
  ] as const;
  return `${table}\n\n${formatFields(fields)}`;
}

function describePrediction({ bytes, absentBytes, seconds }: Prediction): string {
  const time = seconds === undefined ? 'unknown' : `${formatSeconds(seconds)} after the command`;
  return `${time}, after ${formatBytes(bytes)}, of which ${formatBytes(absentBytes)} are not here`;
}

function inSeconds(seconds: number | undefined): string {
  return seconds === undefined ? '' : `, in about ${formatSeconds(seconds)}`;
}
