import type { Command } from 'commander';
import { InvalidInput, type ProgressListener } from '../../base/index.js';
import { connectDaemon, VmSession, type WarmResult } from '../../daemon/index.js';
import type { WarmRequest } from '../../fetch/index.js';
import { parseRange, parseVmName, type ByteSpan } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { formatBytes, formatCount, formatSeconds } from '../format.js';
import { placeOfTier, tierOption } from '../mount-options.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly all?: true;
  readonly file?: string;
  readonly range?: ByteSpan;
  readonly tier?: readonly string[];
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Fetch a VM's newest version, or the one that is mounted, into this host's cache ahead of use. Safe to interrupt and to repeat: what is here is not fetched again.",
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--all', 'every file (this is the default)')
    .option('--file <file>', "one file, by its path within the VM's directory")
    .option('--range <first-end>', 'only these bytes of the file, as 0-64M', parseRange)
    .addOption(tierOption())
    .addHelpText(
      'after',
      examples('isr warm web', 'isr warm web --file memory', 'isr warm web --file disk.img --range 0-64M'),
    )
    .action(bind(warm));
}

async function warm(context: CommandContext, vmName: string, options: Options): Promise<undefined> {
  const request = warmRequest(options);
  const client = await connectDaemon(await context.vmPaths(vmName), vmName);
  const result = await withProgress(context.output, `Warming ${vmName}`, (onProgress) => {
    if (client !== undefined && options.tier !== undefined) {
      throw new InvalidInput(`${vmName} is mounted, with tiers of its own.`, {
        remedy: 'Give --tier to the command that mounts, or `tiers` in config.toml.',
      });
    }
    const running = { signal: context.signal, ...(onProgress === undefined ? {} : { onProgress }) };
    return client === undefined
      ? warmUnmounted(context, vmName, request, { ...running, tiers: options.tier })
      : client.warm(request, running);
  });
  const { chunks, fetchedChunks, fetchedBytes, seconds } = result;
  context.output.result(
    { vmName, ...result },
    fetchedChunks === 0
      ? `All ${formatCount(chunks, 'chunk')} were here already.`
      : `Fetched ${fetchedChunks} of ${formatCount(chunks, 'chunk')} (${formatBytes(fetchedBytes)}) in ${formatSeconds(seconds)}; the rest was here already.`,
  );
}

function warmRequest({ all, file, range }: Options): WarmRequest {
  if (all === true && file !== undefined) {
    throw new InvalidInput('--all and --file exclude each other.', { remedy: 'Give one of them.' });
  }
  if (range !== undefined && file === undefined) {
    throw new InvalidInput('--range needs a file to be a range of.', { remedy: 'Name it with --file.' });
  }
  return { file, range };
}

/** Without a mount a session of its own reads the newest version; it takes no lease. */
async function warmUnmounted(
  context: CommandContext,
  vmName: string,
  request: WarmRequest,
  options: {
    readonly signal: AbortSignal;
    readonly onProgress?: ProgressListener;
    readonly tiers: readonly string[] | undefined;
  },
): Promise<WarmResult> {
  const session = await VmSession.open({
    ...(await context.target(vmName)),
    version: undefined,
    ephemeral: true,
    purpose: 'use',
    tiers: options.tiers?.map(placeOfTier),
    signal: context.signal,
  });
  try {
    return await session.warm(request, options);
  } finally {
    await session[Symbol.asyncDispose]();
  }
}
