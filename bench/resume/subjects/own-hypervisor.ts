import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openHypervisor, parseVmConfig, type Hypervisor } from '../../../src/vm/index.js';
import { consoleSocket } from '../guests/bench-guest.js';
import { vmName } from '../prepared.js';

/** The guest in a directory that isr has nothing to do with, run with the command line that isr would use. */
export class OwnHypervisor implements AsyncDisposable {
  readonly consolePath: string;
  readonly #directory: string;
  readonly #runDirectory: string;
  #hypervisor: Hypervisor | undefined;

  private constructor(directory: string, runDirectory: string) {
    this.#directory = directory;
    this.#runDirectory = runDirectory;
    this.consolePath = join(runDirectory, consoleSocket);
  }

  static async prepare(directory: string, runDirectory: string): Promise<OwnHypervisor> {
    await mkdir(runDirectory);
    return new OwnHypervisor(directory, runDirectory);
  }

  async resume(): Promise<void> {
    const configPath = join(this.#directory, 'isr.toml');
    this.#hypervisor = openHypervisor(parseVmConfig(await readFile(configPath, 'utf8'), configPath));
    await this.#hypervisor.resume(this.#context);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#hypervisor?.kill(this.#context);
  }

  get #context(): { vmName: string; directory: string; runDirectory: string } {
    return { vmName, directory: this.#directory, runDirectory: this.#runDirectory };
  }
}
