import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { clearDeadDaemon, connectDaemon, findDaemon } from '../../src/daemon/index.js';
import { openHostHome, type VmPaths } from '../../src/host/index.js';
import { openHypervisor, parseVmConfig } from '../../src/vm/index.js';

const isrProgram = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** One "host" of a benchmark or demo: a home of its own, and the `isr` command run in it. */
export class TrialHost {
  readonly home: string;

  constructor(home: string) {
    this.home = home;
  }

  /** Runs `isr` as a user would and returns the result it prints with `--json`. Throws with its message if it fails. */
  async isr<T = unknown>(parameters: readonly string[], repositoryUrl: string): Promise<T> {
    const child = spawn(process.execPath, [isrProgram, '--json', ...parameters], {
      env: { ...process.env, ISR_HOME: this.home, ISR_REPO: repositoryUrl, ISR_PASSPHRASE: 'only a trial' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exited = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
    });
    const [stdout, stderr, exitCode] = await Promise.all([text(child.stdout), text(child.stderr), exited]);
    if (exitCode !== 0)
      throw new Error(`isr ${parameters.join(' ')} ended with ${exitCode}: ${stdout}${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Where the host keeps a VM's files, among them the console log of its guest. */
  async vmPaths(repositoryId: string, vmName: string): Promise<VmPaths> {
    const home = await openHostHome(this.home);
    return home.makeVmPaths(repositoryId, vmName);
  }

  /** Ends the VM's guest and its mount, whatever state they are in. For the end of a trial. */
  async killGuestAndUnmount(repositoryId: string, vmName: string): Promise<void> {
    const paths = await this.vmPaths(repositoryId, vmName);
    const client = await connectDaemon(paths, vmName);
    if (client === undefined) {
      await clearDeadDaemon(paths);
      return;
    }
    try {
      const configPath = join(client.mountPath, 'isr.toml');
      const hypervisor = openHypervisor(parseVmConfig(await readFile(configPath, 'utf8'), configPath));
      await hypervisor.kill({ vmName, directory: client.mountPath, runDirectory: paths.run });
      await client.unmount();
    } catch {
      await killDaemon(paths);
    }
  }
}

/** SIGTERM makes a daemon unmount, lazily if it must; SIGKILL leaves a stale mount, which is cleared here. */
async function killDaemon(paths: VmPaths): Promise<void> {
  const signals: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGKILL'];
  for (const signal of signals) {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const found = await findDaemon(paths);
      if (found.state !== 'alive') break;
      if (attempt === 0) process.kill(found.record.pid, signal);
      await sleep(100);
    }
  }
  await clearDeadDaemon(paths);
}
