import { readFileSync, statSync } from 'node:fs';
import { systemErrorCode } from '../base/index.js';
import { decodeConfiguration, mergeConfiguration, type ConfigurationFile } from './configuration.js';
import type { Configuration } from './types.js';

interface ReadFile {
  readonly stamp: string;
  readonly said: ConfigurationFile;
}

/**
 * What configuration files say now, for what may change while a process runs. Reads a file again when it was replaced or
 * written; one that cannot be used counts as it was. Synchronous: looks at each file's date, a few microseconds.
 */
export class LiveConfiguration {
  readonly #paths: readonly string[];
  readonly #read = new Map<string, ReadFile>();

  /** Later files win over earlier ones. */
  constructor(paths: readonly string[]) {
    this.#paths = paths;
  }

  current(): Configuration {
    return mergeConfiguration(this.#paths.map((path) => this.#said(path)));
  }

  #said(path: string): ConfigurationFile {
    const known = this.#read.get(path);
    try {
      const stamp = stampOf(path);
      if (stamp === known?.stamp) return known.said;
      const said = stamp === absent ? {} : decodeConfiguration(path, readFileSync(path, 'utf8'));
      this.#read.set(path, { stamp, said });
      return said;
    } catch {
      return known?.said ?? {};
    }
  }
}

const absent = '';

function stampOf(path: string): string {
  try {
    const { ino, size, mtimeNs } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return absent;
    throw error;
  }
}
