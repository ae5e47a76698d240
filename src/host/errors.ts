import { IsrError } from '../base/index.js';

/** `config.toml` cannot be used as it is. */
export class InvalidConfiguration extends IsrError {
  override readonly code = 'INVALID_CONFIGURATION';
  constructor(path: string, problem: string, options: { cause?: unknown } = {}) {
    super(`The configuration file ${path} ${problem}.`, {
      facts: { path },
      remedy: 'Correct the file; docs/operations.md lists its keys.',
      ...options,
    });
  }
}

/** This host has no key for the repository. */
export class KeyMissing extends IsrError {
  override readonly code = 'KEY_MISSING';
  constructor(repositoryId: string) {
    super(`This host has no key for repository ${repositoryId}.`, {
      facts: { repositoryId },
      remedy:
        'Export the key on a host that has it with `isr key export FILE`, and bring it here with `isr key import FILE`.',
    });
  }
}

/** A key for this repository is here already, and it is not the one that was to be saved. */
export class KeyConflict extends IsrError {
  override readonly code = 'KEY_CONFLICT';
  constructor(repositoryId: string, path: string) {
    super(`This host already has a different key for repository ${repositoryId}.`, {
      facts: { repositoryId, path },
      remedy: `Find out which one is right. To replace the old key, move ${path} away first.`,
    });
  }
}

/** A file that isr itself wrote in its home does not read back as what was written. */
export class HomeDamaged extends IsrError {
  override readonly code = 'HOME_DAMAGED';
  constructor(path: string, remedy: string, options: { cause?: unknown } = {}) {
    super(`The file ${path} is damaged.`, { facts: { path }, remedy, ...options });
  }
}

/** The home, or the directory for its sockets, cannot be made or does not belong to this user alone. */
export class HomeUnusable extends IsrError {
  override readonly code = 'HOME_UNUSABLE';
  constructor(path: string, problem: string, options: { cause?: unknown } = {}) {
    super(`${path} cannot be used for isr's state: ${problem}.`, {
      facts: { path },
      remedy: 'Name another directory with --home or ISR_HOME, or make this one yours.',
      ...options,
    });
  }
}
