import type { Command } from 'commander';
import { resumeVm } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import { addMountOptions } from '../mount-options.js';
import { runGuest } from '../run-guest.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Mount a VM unless it is mounted, and resume its suspended guest. Returns when the guest runs; its state arrives as it is touched.',
    )
    .argument('<vm>', 'name of the VM', parseVmName);
  addMountOptions(command)
    .option('--no-prefetch', 'bring nothing before the guest asks for it')
    .addHelpText('after', examples('isr resume web', 'isr resume web --ephemeral'))
    .action(bind(runGuest(resumeVm)));
}
