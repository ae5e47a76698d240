import type { VmConfig } from '../vm-config.js';
import { CommandHypervisor } from './command.js';
import { QemuHypervisor } from './qemu.js';
import type { Hypervisor } from './types.js';

/** The adapter that a VM's `isr.toml` asks for. Holds nothing: it need not be closed. */
export function openHypervisor(config: VmConfig): Hypervisor {
  switch (config.kind) {
    case 'qemu':
      return new QemuHypervisor(config);
    case 'command':
      return new CommandHypervisor(config);
  }
}
