import type { Command } from 'commander';
import { InvalidInput } from '../../base/index.js';
import { connectDaemon, readStallReport, type Explanation } from '../../daemon/index.js';
import type { WaitPart, WaitParts } from '../../fetch/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { NothingToExplain } from '../errors.js';
import { formatBytes, formatCount, formatDate, formatMilliseconds, formatTable } from '../format.js';
import { causeTexts, partLabels } from '../stall-advice.js';

interface Options {
  readonly worst: number;
}

const worstShown = 10;
const filesShown = 10;

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Say what the programs of a VM waited for since its guest was resumed last: which files, for whom, and what would have avoided it. Also after the VM was unmounted.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--worst <count>', 'how many of the longest waits to list', parseCount, worstShown)
    .addHelpText('after', examples('isr explain web', 'isr explain web --worst 50', 'isr explain web --json'))
    .action(bind(explain));
}

async function explain(context: CommandContext, vmName: string, options: Options): Promise<undefined> {
  const explanation = await readExplanation(context, vmName);
  context.output.result(
    {
      ...explanation,
      version: explanation.version ?? null,
      longest: explanation.longest.map((stall) => ({
        ...stall,
        chunkIndex: stall.chunkIndex ?? null,
        joined: stall.joined ?? null,
        advice: causeTexts[stall.cause].advice(vmName),
      })),
    },
    describe(explanation, options.worst),
  );
}

/** As the daemon has it, or as it was when the VM was unmounted. */
async function readExplanation(context: CommandContext, vmName: string): Promise<Explanation> {
  const paths = await context.vmPaths(vmName);
  const client = await connectDaemon(paths, vmName);
  const found = client === undefined ? await readStallReport(paths) : await client.explain();
  if (found === undefined) throw new NothingToExplain(vmName);
  return found;
}

function describe(explanation: Explanation, worst: number): string {
  const { vmName, stalls, wallMs, durationMs, causes } = explanation;
  const since = formatDate(new Date(explanation.startedAt));
  const begin = explanation.isResume ? `was resumed at ${since}` : `was mounted at ${since}`;
  const version = explanation.version === undefined ? '' : ` from version ${explanation.version}`;
  const origin = `${vmName} ${begin}${version}, and watched for ${formatMilliseconds(explanation.elapsedMs)}.`;
  if (stalls === 0) return `${origin}\nNothing had to wait.`;
  const advice = causes.map(
    ({ cause }) => `* ${causeTexts[cause].label}: ${causeTexts[cause].advice(vmName)}`,
  );
  return [
    `${origin}\nPrograms stood still for ${formatMilliseconds(wallMs)}, in ${formatCount(stalls, 'wait')}. Waits at the same time each counted, it is ${formatMilliseconds(durationMs)}.`,
    partsTable(explanation),
    causesTable(explanation),
    filesTable(explanation),
    worstTable(explanation, worst),
    advice.join('\n'),
  ].join('\n\n');
}

function partsTable({ partsMs, durationMs }: Explanation): string {
  return formatTable(largestFirst(partsMs), [
    { title: 'WAITED FOR', cell: ([part]) => partLabels[part] },
    { title: 'TIME', align: 'right', cell: ([, ms]) => formatMilliseconds(ms) },
    { title: '', align: 'right', cell: ([, ms]) => percent(ms, durationMs) },
  ]);
}

function causesTable({ causes, durationMs }: Explanation): string {
  return formatTable(causes, [
    { title: 'BECAUSE', cell: ({ cause }) => causeTexts[cause].label },
    { title: 'WAITS', align: 'right', cell: ({ stalls }) => String(stalls) },
    { title: 'TIME', align: 'right', cell: (sums) => formatMilliseconds(sums.durationMs) },
    { title: '', align: 'right', cell: (sums) => percent(sums.durationMs, durationMs) },
  ]);
}

function filesTable({ files }: Explanation): string {
  const table = formatTable(files.slice(0, filesShown), [
    { title: 'FILE', cell: ({ path }) => (path === '' ? '(others)' : path) },
    { title: 'WAITS', align: 'right', cell: ({ stalls }) => String(stalls) },
    { title: 'TIME', align: 'right', cell: ({ durationMs }) => formatMilliseconds(durationMs) },
    { title: 'MOSTLY FOR', cell: ({ partsMs, durationMs }) => mostly(partsMs, durationMs) },
  ]);
  const more = files.length - filesShown;
  return more > 0 ? `${table}\nand ${formatCount(more, 'more file')}` : table;
}

function worstTable({ longest }: Explanation, worst: number): string {
  const shown = longest.toSorted((one, other) => other.durationMs - one.durationMs).slice(0, worst);
  return formatTable(shown, [
    { title: 'WORST', align: 'right', cell: ({ durationMs }) => formatMilliseconds(durationMs) },
    { title: 'AFTER', align: 'right', cell: ({ atMs }) => formatMilliseconds(atMs) },
    { title: 'FILE', cell: ({ path }) => path },
    { title: 'AT', align: 'right', cell: ({ offsetBytes }) => formatBytes(offsetBytes) },
    { title: 'LENGTH', align: 'right', cell: ({ lengthBytes }) => formatBytes(lengthBytes) },
    { title: 'JOINED', cell: ({ joined }) => joined ?? '-' },
    { title: 'MOSTLY FOR', cell: ({ partsMs, durationMs }) => mostly(partsMs, durationMs) },
    { title: 'BECAUSE', cell: ({ cause }) => causeTexts[cause].label },
  ]);
}

function mostly(partsMs: WaitParts, durationMs: number): string {
  const named = largestFirst(partsMs).filter(([, ms], place) => place === 0 || 4 * ms > durationMs);
  return named.map(([part, ms]) => `${partLabels[part]} ${percent(ms, durationMs)}`).join(', ');
}

function largestFirst(partsMs: WaitParts): readonly (readonly [WaitPart, number])[] {
  const parts = Object.entries(partsMs) as [WaitPart, number][];
  return parts.filter(([, ms]) => ms > 0).sort(([, one], [, other]) => other - one);
}

function percent(ms: number, ofMs: number): string {
  return `${ofMs === 0 ? 0 : Math.round((100 * ms) / ofMs)} %`;
}

function parseCount(text: string): number {
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new InvalidInput(`${text} is not a number of waits.`, { remedy: 'Give a whole number, as 50.' });
}
