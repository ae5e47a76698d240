import type { Command } from 'commander';
import type { PublishResult } from '../../daemon/index.js';
import { publishVm, whenOnline } from '../../vm/index.js';
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
    .option('--when-online', 'while the store does not answer, wait for it and go on')
    .addHelpText('after', examples('isr publish web', 'isr publish web --when-online'))
    .action(bind(publish));
}

async function publish(
  context: CommandContext,
  vmName: string,
  options: { readonly whenOnline?: true },
): Promise<ExitCode> {
  const target = await context.target(vmName);
  const result = await withProgress(context.output, `Publishing ${vmName}`, (onProgress) => {
    const attempt = (): Promise<PublishResult> =>
      publishVm(target, { signal: context.signal, ...(onProgress === undefined ? {} : { onProgress }) });
    if (options.whenOnline !== true) return attempt();
    return whenOnline(attempt, {
      signal: context.signal,
      onWaiting: ({ message }) => context.output.remark(`${message} Waiting for it.`),
    });
  });
  context.output.result({ vmName, ...result }, describePublish(vmName, result));
  return exitCodeOfPublish(result);
}
