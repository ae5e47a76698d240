import type { Command } from 'commander';
import { startVm } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import { addMountOptions } from '../mount-options.js';
import { runGuest } from '../run-guest.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description('Mount a VM unless it is mounted, and boot its guest as isr.toml in its directory says.')
    .argument('<vm>', 'name of the VM', parseVmName);
  addMountOptions(command)
    .addHelpText('after', examples('isr start web', 'isr start web --ephemeral'))
    .action(bind(runGuest(startVm)));
}
