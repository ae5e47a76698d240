import type { Command } from 'commander';
import { connectDaemon, NotMounted } from '../../daemon/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Let the isr that is installed now serve a mount that an older one made. Programs that use the mount, a running guest among them, do not notice.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr upgrade web'))
    .action(bind(upgrade));
}

async function upgrade(context: CommandContext, vmName: string): Promise<undefined> {
  const client = await connectDaemon(await context.vmPaths(vmName), vmName);
  if (client === undefined) throw new NotMounted(vmName);
  await client.upgrade();
  const { workerPid, program } = (await client.status()).daemon;
  context.output.result({ vmName, workerPid, program }, `${vmName} is served by ${program} now.`);
}
