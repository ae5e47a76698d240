import { IsrError } from '../base/index.js';
import type { HostIdentity } from './types.js';

/** An object whose bytes are not what was written: flipped, cut, extended, swapped with another, or nonsense inside. */
export class DamagedObject extends IsrError {
  override readonly code = 'DAMAGED_OBJECT';
  /** The object's key in the store, or what else it is called. */
  readonly key: string;
  /** What is wrong with it, as the end of a sentence. */
  readonly what: string;

  constructor(key: string, what: string, options: { cause?: unknown } = {}) {
    super(`The object ${key} is damaged: ${what}.`, {
      facts: { key, what },
      remedy: 'Run "isr verify" to see what is affected, and put back an intact copy of the object.',
      ...options,
    });
    this.key = key;
    this.what = what;
  }
}

/** Something was written in a version of the format that this program does not know. */
export class UnknownFormat extends IsrError {
  override readonly code = 'UNKNOWN_FORMAT';

  constructor(what: string, found: number | string, supported: number) {
    super(`${what} has format version ${found}; this program knows version ${supported}.`, {
      facts: { what, found, supported },
      remedy: 'Use a version of isr that knows this format.',
    });
  }
}

/** The key belongs to another repository. */
export class WrongKey extends IsrError {
  override readonly code = 'WRONG_KEY';

  constructor(store: string, facts: { readonly repositoryId: string; readonly keyRepositoryId: string }) {
    super(
      `The key is for repository ${facts.keyRepositoryId}, but ${store} holds repository ${facts.repositoryId}.`,
      { facts: { store, ...facts }, remedy: 'Import the key of this repository with "isr key import".' },
    );
  }
}

/** A key file does not open with this passphrase. */
export class WrongPassphrase extends IsrError {
  override readonly code = 'WRONG_PASSPHRASE';

  constructor() {
    super('The passphrase does not open this key file.', {
      remedy: 'Try the passphrase that was given to "isr key export".',
    });
  }
}

/** A key file that cannot be used with any passphrase. */
export class InvalidKeyFile extends IsrError {
  override readonly code = 'INVALID_KEY_FILE';

  constructor(what: string, options: { cause?: unknown } = {}) {
    super(`The key file cannot be used: ${what}.`, {
      facts: { what },
      remedy: 'Export the key again with "isr key export" on a host that has it.',
      ...options,
    });
  }
}

/** The operation writes signed records, and the key can only read. */
export class ReadOnlyKey extends IsrError {
  override readonly code = 'READ_ONLY_KEY';

  constructor(operation: string) {
    super(`The key of this repository can only read, so it cannot ${operation}.`, {
      facts: { operation },
      remedy: 'Import a key that may publish.',
    });
  }
}

/** There is a repository in this store already. */
export class RepositoryExists extends IsrError {
  override readonly code = 'REPOSITORY_EXISTS';

  constructor(store: string) {
    super(`There already is a repository in ${store}; it was not touched.`, {
      facts: { store },
      remedy: 'Choose another place, or use the repository that is there.',
    });
  }
}

/** There is no repository in this store. */
export class RepositoryMissing extends IsrError {
  override readonly code = 'REPOSITORY_MISSING';

  constructor(store: string) {
    super(`There is no repository in ${store}.`, {
      facts: { store },
      remedy: 'Check the address, or create a repository with "isr init".',
    });
  }
}

/** A VM name outside the grammar. */
export class InvalidVmName extends IsrError {
  override readonly code = 'INVALID_VM_NAME';

  constructor(vmName: string) {
    super(`${JSON.stringify(vmName)} is not a VM name.`, {
      facts: { vmName },
      remedy: 'Use 1 to 64 letters, digits, ".", "_" and "-", starting with a letter or digit.',
    });
  }
}

/** The repository has no VM of this name, or the VM has no version yet. */
export class VmMissing extends IsrError {
  override readonly code = 'VM_MISSING';

  constructor(vmName: string) {
    super(`There is no version of a VM named ${vmName} in this repository.`, {
      facts: { vmName },
      remedy: '"isr ls" shows the VMs of this repository.',
    });
  }
}

/** The VM has no such version or branch. */
export class VersionMissing extends IsrError {
  override readonly code = 'VERSION_MISSING';

  constructor(vmName: string, version: number | string) {
    super(`The VM ${vmName} has no version ${version}.`, {
      facts: { vmName, version },
      remedy: `"isr versions ${vmName}" shows what there is.`,
    });
  }
}

/** Another host (or another mount) may publish this VM now. */
export class LeaseHeld extends IsrError {
  override readonly code = 'LEASE_HELD';
  readonly holder: HostIdentity;
  readonly since: Date;

  constructor(vmName: string, holder: HostIdentity, since: Date) {
    super(`The VM ${vmName} is in use on ${holder.hostName} since ${since.toISOString()}.`, {
      facts: { vmName, holderHostId: holder.hostId, holder: holder.hostName, since: since.toISOString() },
      remedy: `Suspend it there, or take it over with "isr lease break ${vmName}": work there then becomes a branch.`,
    });
    this.holder = holder;
    this.since = since;
  }
}

/** The right to publish is gone: somebody took the lease over, or a newer version appeared. */
export class LeaseLost extends IsrError {
  override readonly code = 'LEASE_LOST';

  constructor(vmName: string, reason: string) {
    super(`This host may no longer publish the VM ${vmName}: ${reason}.`, {
      facts: { vmName, reason },
      remedy: 'The work can be kept as a branch; mount the newest version to go on from there.',
    });
  }
}

/** The store shows an older or a different history than this host has seen before. */
export class RolledBack extends IsrError {
  override readonly code = 'ROLLED_BACK';

  constructor(vmName: string, what: string) {
    super(`The store shows another past of the VM ${vmName} than this host has seen: ${what}.`, {
      facts: { vmName, what },
      remedy: 'Find out whether the store was restored from an old copy or tampered with before going on.',
    });
  }
}
