import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { InvalidInput, type ProgressListener } from '../../base/index.js';
import { connectDaemon, openVersion, type DaemonClient } from '../../daemon/index.js';
import type { WarmPlan, WarmRequest, WarmResult, WarmScope } from '../../warm/index.js';
import { parseDuration, parseRange, parseVmName, type ByteSpan } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describePlan, describeWarmed } from '../describe-warm.js';
import { placeOfTier, tierOption } from '../mount-options.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly workingSet?: true;
  readonly all?: true;
  readonly file?: string;
  readonly range?: ByteSpan;
  readonly to?: string;
  readonly deadline?: number;
  readonly pin?: true;
  readonly plan?: true;
  readonly tier?: readonly string[];
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Fetch a VM's newest version, or the one that is mounted, into this host's cache ahead of use: what the next resume will want, unless said otherwise. Safe to interrupt and to repeat: what is here is not fetched again.",
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option(
      '--working-set',
      'what resumes touched, in that order; where none was recorded, what the last session wrote (default)',
    )
    .option('--all', 'everything, what is likely to be wanted first')
    .option('--file <file>', "one file, by its path within the VM's directory")
    .option('--range <first-end>', 'only these bytes of the file, as 0-64M', parseRange)
    .option('--to <directory>', 'put it into this directory too, for --tier: on a disk to carry along')
    .option(
      '--deadline <time>',
      'stop after this time, as 30s or 5m; until then the working set, then the rest, likeliest first',
      parseDuration,
    )
    .option('--pin', 'keep it in the cache, whatever else comes: see "isr cache pin"')
    .option('--plan', 'only say what that would fetch, and what a resume would take now')
    .addOption(tierOption())
    .addHelpText(
      'after',
      examples(
        'isr warm web',
        'isr warm web --plan',
        'isr warm web --deadline 30s',
        'isr warm web --all --to /media/usb/isr',
        'isr warm web --file disk.img --range 0-64M',
      ),
    )
    .action(bind(warm));
}

async function warm(context: CommandContext, vmName: string, options: Options): Promise<undefined> {
  const scope = scopeOf(options);
  const client = await connectDaemon(await context.vmPaths(vmName), vmName);
  if (client !== undefined && options.tier !== undefined) {
    throw new InvalidInput(`${vmName} is mounted, with tiers of its own.`, {
      remedy: 'Give --tier to the command that mounts, or `tiers` in config.toml.',
    });
  }
  if (options.plan === true) {
    const plan = await planFor(context, vmName, scope, client, options);
    context.output.result({ vmName, scope: scope.kind, ...plan }, describePlan(plan));
    return;
  }
  const request: WarmRequest = {
    scope,
    deadlineAtMs: options.deadline === undefined ? undefined : Date.now() + options.deadline,
    to: options.to === undefined ? undefined : await placeToFill(options.to, client),
    pin: options.pin,
  };
  const result = await withProgress(context.output, `Warming ${vmName}`, (onProgress) =>
    warmFor(context, vmName, request, client, options, onProgress),
  );
  context.output.result({ vmName, scope: scope.kind, ...result }, describeWarmed(result));
}

function scopeOf({ workingSet, all, file, range, deadline, plan, to }: Options): WarmScope {
  if ([workingSet, all, file].filter((choice) => choice !== undefined).length > 1) {
    throw new InvalidInput('--working-set, --all and --file exclude each other.', {
      remedy: 'Give one of them.',
    });
  }
  if (range !== undefined && file === undefined) {
    throw new InvalidInput('--range needs a file to be a range of.', { remedy: 'Name it with --file.' });
  }
  if (plan !== undefined && (deadline !== undefined || to !== undefined)) {
    throw new InvalidInput('--plan says what fetching takes, and needs neither --deadline nor --to.', {
      remedy: 'Leave them out.',
    });
  }
  if (file !== undefined) return { kind: 'file', path: file, range };
  // Time that is left after the working set is for the rest.
  const isAll = all === true || (deadline !== undefined && workingSet === undefined);
  return { kind: isAll ? 'all' : 'working-set' };
}

/** The daemon has another working directory, and must never touch its own mount. */
async function placeToFill(directory: string, client: DaemonClient | undefined): Promise<string> {
  const wanted = resolve(directory);
  const parent = await realpath(dirname(wanted)).catch(() => dirname(wanted));
  const path = await realpath(wanted).catch(() => join(parent, basename(wanted)));
  if (client !== undefined && `${path}/`.startsWith(`${client.mountPath}/`)) {
    throw new InvalidInput(`${path} is in the mount itself.`, { remedy: 'Name a directory elsewhere.' });
  }
  return path;
}

async function warmFor(
  context: CommandContext,
  vmName: string,
  request: WarmRequest,
  client: DaemonClient | undefined,
  options: Options,
  onProgress: ProgressListener | undefined,
): Promise<WarmResult> {
  const running = { signal: context.signal, ...(onProgress === undefined ? {} : { onProgress }) };
  if (client !== undefined) return client.warm(request, running);
  const version = await openNewest(context, vmName, options);
  try {
    return await version.warm(request, running);
  } finally {
    await version[Symbol.asyncDispose]();
  }
}

async function planFor(
  context: CommandContext,
  vmName: string,
  scope: WarmScope,
  client: DaemonClient | undefined,
  options: Options,
): Promise<WarmPlan> {
  const running = { signal: context.signal };
  if (client !== undefined) return client.planWarming(scope, running);
  const version = await openNewest(context, vmName, options);
  try {
    return await version.planWarming(scope, running);
  } finally {
    await version[Symbol.asyncDispose]();
  }
}

async function openNewest(
  context: CommandContext,
  vmName: string,
  { tier }: Options,
): ReturnType<typeof openVersion> {
  const { history, latest } = await context.logOfExisting(vmName);
  return openVersion({
    home: await context.home(),
    repository: await context.repository(),
    ...{ history, commit: latest, tiers: (tier ?? []).map(placeOfTier) },
  });
}
