import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A machine that the suite resumes; its work after a resume is always the same. */
export interface BenchGuest {
  readonly name: string;
  readonly title: string;
  readonly memoryMiB: number;
  /** The name of its disk, if it has one. */
  readonly disk: string | undefined;
  /** Everything that its image depends on, as text: images are kept by it. */
  recipe(): Promise<string>;
  /** Makes the directory of the VM, ready to boot. */
  build(directory: string): Promise<void>;
}

/** Everything that the suite keeps between runs. */
export function cacheDirectory(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'isr-bench');
}

/** A file beside the sources of the suite. The compiled files run from the same path below `build/`. */
export function sourcePath(name: string): string {
  const here = dirname(dirname(fileURLToPath(import.meta.url)));
  return existsSync(join(here, 'delay.c')) ? join(here, name) : resolve(here, '../../../bench/resume', name);
}

/** The name of the console's socket in the run directory. */
export const consoleSocket = 'console.sock';

/** isr.toml of a guest with a serial console on a socket, whose output also goes to `console.log`. */
export function guestConfig(guest: {
  readonly memoryMiB: number;
  readonly arguments: readonly string[];
  readonly kernelParameters: string;
}): string {
  return `format = 1

[hypervisor]
kind = "qemu"
machine = "q35"
accelerator = "tcg"
arguments = [
  "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
  "-chardev", "socket,id=console,path={run}/${consoleSocket},server=on,wait=off,logfile={run}/console.log,logappend=on",
  "-serial", "chardev:console",
  ${guest.arguments.map((argument) => `"${argument}", `).join('')}
]
boot_arguments = [
  "-kernel", "vmlinuz", "-initrd", "initrd",
  "-append", "console=ttyS0 quiet panic=-1 mitigations=off ${guest.kernelParameters}",
]

[memory]
file = "mem"
size = "${guest.memoryMiB}M"
share = true

[state]
file = "state"
`;
}

export async function makeEmptyFile(path: string, lengthBytes: number): Promise<void> {
  const file = await open(path, 'w');
  await file.truncate(lengthBytes).finally(() => file.close());
}
