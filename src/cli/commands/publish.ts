import type { Command } from 'commander';
import type { ProgressListener } from '../../base/index.js';
import { connectDaemon, NoLocalChanges, VmSession, type PublishResult } from '../../daemon/index.js';
import { readOverlaySummary } from '../../fs/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describePublish, exitCodeOfPublish } from '../describe.js';
import type { ExitCode } from '../exit-codes.js';
import { withProgress } from '../progress.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Publish this host's changes as the next version, mounted or not. If the lease was lost meanwhile, they are kept as a branch (exit code 4).",
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr publish web', 'isr publish web --json'))
    .action(bind(publish));
}

async function publish(context: CommandContext, vmName: string): Promise<ExitCode> {
  const client = await connectDaemon(await context.vmPaths(vmName), vmName);
  const result = await withProgress(context.output, `Publishing ${vmName}`, (onProgress) => {
    const options = { signal: context.signal, ...(onProgress === undefined ? {} : { onProgress }) };
    return client === undefined
      ? publishUnmounted(context, vmName, options)
      : client.publish({ releaseLease: false, ...options });
  });
  context.output.result({ vmName, ...result }, describePublish(vmName, result));
  return exitCodeOfPublish(result);
}

/** Nobody works with the VM here any more, so the lease goes back with the commit. */
async function publishUnmounted(
  context: CommandContext,
  vmName: string,
  options: { readonly signal: AbortSignal; readonly onProgress?: ProgressListener },
): Promise<PublishResult> {
  const { overlay } = await context.vmPaths(vmName);
  if (((await readOverlaySummary(overlay))?.changedFiles ?? 0) === 0) throw new NoLocalChanges(vmName);
  const session = await VmSession.open({
    home: await context.home(),
    repositoryUrl: await context.repositoryUrl(),
    vmName,
    version: undefined,
    ephemeral: false,
    purpose: 'publish',
    signal: context.signal,
  });
  try {
    const result = await session.publish({ releaseLease: true, ...options });
    await session.close();
    return result;
  } finally {
    await session[Symbol.asyncDispose]();
  }
}
