import type { Command } from 'commander';
import { connectDaemon, findDaemon, NotMounted, settleDaemon, VmBusy } from '../../daemon/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeChanges } from '../describe.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Unmount a VM. Returns when everything is flushed to the disk of this host; unpublished changes stay there.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr umount web'))
    .action(bind(unmount));
}

async function unmount(context: CommandContext, vmName: string): Promise<undefined> {
  const paths = await context.vmPaths(vmName);
  const client = await connectDaemon(paths, vmName);
  if (client === undefined) {
    const found = await findDaemon(paths);
    if (found.state === 'none') throw new NotMounted(vmName);
    if (found.state === 'starting') throw new VmBusy(vmName);
    await settleDaemon(paths, vmName);
    context.output.result(
      { vmName, daemon: 'dead' },
      `Cleared what the dead daemon of ${vmName} left behind.`,
    );
    return;
  }
  // Run from inside the mount, this very process would keep it busy.
  process.chdir('/');
  const { dirtyBytes, changedFiles } = await client.unmount();
  context.output.result(
    { vmName, dirtyBytes, changedFiles },
    changedFiles === 0
      ? `${vmName} is unmounted.`
      : `${vmName} is unmounted. ${describeChanges(vmName, { dirtyBytes, changedFiles })}`,
  );
}
