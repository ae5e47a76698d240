import type { Command } from 'commander';
import { publishVm } from '../../vm/index.js';
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
  const target = await context.target(vmName);
  const result = await withProgress(context.output, `Publishing ${vmName}`, (onProgress) =>
    publishVm(target, { signal: context.signal, ...(onProgress === undefined ? {} : { onProgress }) }),
  );
  context.output.result({ vmName, ...result }, describePublish(vmName, result));
  return exitCodeOfPublish(result);
}
