import { accessSync, constants } from 'node:fs';
import { InvalidInput } from '../../base/index.js';
import { fillPlaceholders, type Accelerator, type QemuConfig } from '../vm-config.js';
import { runPaths } from './paths.js';
import type { HypervisorContext } from './types.js';

/**
 * QEMU's arguments for a cold boot or a resume. Both must describe the same machine; they differ in `-incoming` and in
 * what only firmware reads. File names of the VM are relative: its directory is QEMU's working directory.
 */
export function qemuArguments(
  config: QemuConfig,
  context: HypervisorContext,
  purpose: 'start' | 'resume',
): readonly string[] {
  const { memory } = config;
  const paths = runPaths(context.runDirectory);
  const size = `${memory.sizeBytes / 2 ** 20}M`;
  const share = memory.shared ? 'on' : 'off';
  const own = purpose === 'start' ? config.bootArguments : [];
  return [
    ...['-name', optionValue(context.vmName)],
    ...['-machine', `${config.machine},memory-backend=ram`],
    ...['-accel', accelerator(config.accelerator)],
    ...['-m', size],
    ...[
      '-object',
      `memory-backend-file,id=ram,size=${size},mem-path=${optionValue(memory.file)},share=${share}`,
    ],
    ...['-qmp', `unix:${optionValue(paths.monitorSocket)},server=on,wait=off`],
    ...['-pidfile', paths.pidFile],
    ...(purpose === 'resume' ? ['-incoming', 'defer'] : []),
    ...[...config.arguments, ...own].map((argument) => filled(argument, context)),
  ];
}

function accelerator(choice: Accelerator): 'kvm' | 'tcg' {
  if (choice !== 'auto') return choice;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return 'kvm';
  } catch {
    return 'tcg';
  }
}

/** In QEMU's option lists a comma ends a value and two commas stand for one. */
function optionValue(value: string): string {
  return value.replaceAll(',', ',,');
}

/**
 * Only the user knows which of their arguments are option lists, JSON or plain paths, so a path that each would have to
 * quote in its own way is refused.
 */
function filled(argument: string, context: HypervisorContext): string {
  const result = fillPlaceholders(argument, {
    directory: context.directory,
    run: context.runDirectory,
    name: context.vmName,
  });
  if (result !== argument && /[,"\\]/.test(context.directory + context.runDirectory)) {
    throw new InvalidInput(
      `QEMU's arguments use a placeholder, and a path with a comma, quote or backslash cannot stand there.`,
      {
        facts: { argument, directory: context.directory, runDirectory: context.runDirectory },
        remedy: "Use names relative to the VM's directory, or mount it elsewhere.",
      },
    );
  }
  return result;
}
