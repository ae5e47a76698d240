import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { InvalidInput } from '../../base/index.js';
import type { StoredTrace } from '../../repo/index.js';
import { ageInResumes, likelyTouches, timesSeen } from '../../trace/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { TraceMissing } from '../errors.js';
import { formatBytes, formatCount, formatDate, formatTable } from '../format.js';
import { filesOfTrace, lastTouchMs } from '../trace-files.js';
import { traceAsSvg } from '../trace-svg.js';
import { traceForTerminal } from '../trace-terminal.js';

interface ShowOptions {
  readonly number?: number;
  readonly svg?: string;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'What resumes of a VM touched, in which order: recorded with each resume, merged, and used by the next one to have it there first.',
    )
    .addHelpText('after', examples('isr trace ls web', 'isr trace show web --svg web.svg'));
  command
    .command('ls')
    .description(
      'List the traces of a VM, newest first. The newest has what is still of use of the older ones.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr trace ls web', 'isr trace ls web --json'))
    .action(bind(listTraces));
  command
    .command('show')
    .description('Draw a trace: which chunks of which files, when.')
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--number <number>', 'which trace (default: the newest)', parseTraceNumber)
    .option('--svg <file>', 'draw chunks over time and over the files into this file')
    .addHelpText('after', examples('isr trace show web', 'isr trace show web --svg web.svg'))
    .action(bind(showTrace));
  command
    .command('rm')
    .description('Forget all traces of a VM: the next resume learns anew.')
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr trace rm web'))
    .action(bind(removeTraces));
}

async function listTraces(context: CommandContext, vmName: string): Promise<undefined> {
  const traces = await readTraces(context, vmName);
  const table = formatTable(traces, [
    { title: 'TRACE', align: 'right', cell: ({ number }) => String(number) },
    { title: 'DATE', cell: ({ trace }) => formatDate(trace.recordedAt) },
    { title: 'VERSION', align: 'right', cell: ({ trace }) => String(trace.version) },
    { title: 'RESUMES', align: 'right', cell: ({ trace }) => String(trace.resumes) },
    { title: 'CHUNKS', align: 'right', cell: ({ trace }) => String(trace.entries.length) },
    { title: 'LIKELY', align: 'right', cell: ({ trace }) => String(likelyTouches(trace).length) },
    { title: 'STORED', align: 'right', cell: ({ storedBytes }) => formatBytes(storedBytes) },
  ]);
  context.output.result(
    { vmName, traces: traces.map(summaryAsJson) },
    traces.length === 0 ? `No resume of ${vmName} was recorded yet.` : table,
  );
}

async function showTrace(context: CommandContext, vmName: string, options: ShowOptions): Promise<undefined> {
  const traces = await readTraces(context, vmName);
  const wanted = options.number;
  const stored = wanted === undefined ? traces[0] : traces.find(({ number }) => number === wanted);
  if (stored === undefined) throw new TraceMissing(vmName, wanted);
  const { trace } = stored;
  if (options.svg !== undefined) await writeFile(options.svg, traceAsSvg(vmName, stored));
  const touchedBytes = trace.entries.length * trace.chunkBytes;
  const description = `Trace ${stored.number} of ${vmName}, from ${formatDate(trace.recordedAt)}, version ${trace.version}: ${formatCount(trace.resumes, 'resume')}, ${formatCount(trace.entries.length, 'chunk')} (${formatBytes(touchedBytes)}), of which ${likelyTouches(trace).length} are likely to be touched by the next.`;
  const drawn = options.svg === undefined ? '' : `\nDrawn in ${options.svg}.`;
  const touches = trace.entries.map((entry) => ({
    path: entry.path,
    chunkIndex: entry.chunkIndex,
    atMs: entry.atMs,
    timesSeen: timesSeen(entry),
    ageInResumes: ageInResumes(entry),
  }));
  context.output.result(
    { vmName, ...summaryAsJson(stored), svg: options.svg ?? null, touches },
    `${description}\n\n${traceForTerminal(trace)}${drawn}`,
  );
}

async function removeTraces(context: CommandContext, vmName: string): Promise<undefined> {
  const { history } = await context.logOfExisting(vmName);
  const removed = await history.removeTraces({ signal: context.signal });
  context.output.result({ vmName, removed }, `Forgot ${formatCount(removed, 'trace')} of ${vmName}.`);
}

async function readTraces(context: CommandContext, vmName: string): Promise<readonly StoredTrace[]> {
  const { history } = await context.logOfExisting(vmName);
  return history.traces({ signal: context.signal });
}

function summaryAsJson({ number, storedBytes, trace }: StoredTrace): object {
  return {
    number,
    version: trace.version,
    recordedAt: trace.recordedAt,
    resumes: trace.resumes,
    chunkBytes: trace.chunkBytes,
    chunks: trace.entries.length,
    likelyChunks: likelyTouches(trace).length,
    lastTouchMs: lastTouchMs(trace),
    files: filesOfTrace(trace).map(({ path, entries }) => ({ path, chunks: entries.length })),
    storedBytes,
  };
}

function parseTraceNumber(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new InvalidInput(`${text} is not the number of a trace.`, { remedy: '"isr trace ls" lists them.' });
}
