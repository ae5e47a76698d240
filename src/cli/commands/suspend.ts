import type { Command } from 'commander';
import { suspendVm } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describePublish, exitCodeOfPublish } from '../describe.js';
import type { ExitCode } from '../exit-codes.js';
import { formatSeconds } from '../format.js';
import { withProgress } from '../progress.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Save the running guest, publish what changed, give the lease back and unmount. After a failure the guest runs on or is saved on this host, and the same command goes on from there.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr suspend web'))
    .action(bind(suspend));
}

async function suspend(context: CommandContext, vmName: string): Promise<ExitCode> {
  const target = await context.target(vmName);
  // Run from inside the mount, this very process would keep it busy.
  process.chdir('/');
  const result = await withProgress(context.output, `Publishing ${vmName}`, (onProgress) =>
    suspendVm(target, {
      signal: context.signal,
      onStep: (step) => context.output.remark(`${vmName}: ${step}`),
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
  );
  const { publish, saveSeconds, seconds } = result;
  context.output.result(
    { vmName, ...result },
    `${vmName} is suspended (saved in ${formatSeconds(saveSeconds)}, ${formatSeconds(seconds)} in all). ${describePublish(vmName, publish)}`,
  );
  return exitCodeOfPublish(publish);
}
