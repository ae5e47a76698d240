import type { ObjectStore, RequestOptions } from '../store/index.js';
import { LeaseHeld, LeaseLost, VersionMissing } from './errors.js';
import type { LogEntry } from './format/log-entry.js';
import { nameKey } from './format/object-keys.js';
import { checkVmName, encodeVmName } from './format/vm-name.js';
import { Branches } from './history/branches.js';
import { Log, type NextEntry, type PlacedCommit, type PlacedEntry } from './history/log.js';
import { sameManifest } from './history/same-manifest.js';
import { Traces } from './history/traces.js';
import type { RandomBytes } from './keys/secrets.js';
import type { Records } from './records.js';
import type {
  Branch,
  Commit,
  CommitDraft,
  HeldLease,
  HostIdentity,
  LeaseState,
  SeenPosition,
  StoredTrace,
  Trace,
  VersionNumber,
  VmHead,
} from './types.js';

const free: LeaseState = { state: 'free' };

/**
 * The versions of one VM, who may publish the next one, and work that lost that right. The VM need not exist yet: the
 * first lease, commit or branch makes it.
 *
 * Every method asks the store anew. All of them throw `DamagedObject`, `UnknownFormat`, `RolledBack` and the errors of
 * the store; those that write throw `ReadOnlyKey`.
 */
export class VmHistory {
  readonly vmName: string;
  readonly #store: ObjectStore;
  readonly #records: Records;
  readonly #log: Log;
  readonly #branches: Branches;
  readonly #traces: Traces;
  readonly #now: () => Date;

  /** `InvalidVmName`. */
  constructor(
    store: ObjectStore,
    records: Records,
    vmName: string,
    surroundings: {
      readonly now: () => Date;
      readonly randomBytes: RandomBytes;
      readonly seen: SeenPosition | undefined;
    },
  ) {
    this.vmName = checkVmName(vmName);
    const vm = { name: vmName, id: records.sealer.vmId(vmName) };
    this.#store = store;
    this.#records = records;
    this.#log = new Log(store, records, vm, surroundings.seen);
    this.#branches = new Branches(records, vm, surroundings.randomBytes);
    this.#traces = new Traces(store, records, vm.id);
    this.#now = surroundings.now;
  }

  /**
   * The newest state of the log. `seen` is what this host saw last: `RolledBack` when the store shows less or
   * something else. What this object saw is checked in any case.
   */
  async head(options: RequestOptions & { readonly seen?: SeenPosition } = {}): Promise<VmHead> {
    const newest = await this.#log.newest(options);
    if (newest === undefined) return { position: 0, latest: undefined, lease: free };
    const latest = await this.#log.commitUpTo(newest, options);
    return {
      position: newest.position,
      latest: latest === undefined ? undefined : this.#commitOf(latest),
      lease: newest.entry.lease,
    };
  }

  /** What this host should remember, after any method that read or wrote the log. */
  seenPosition(): SeenPosition | undefined {
    return this.#log.seen;
  }

  /** `VersionMissing`. */
  async commit(version: VersionNumber): Promise<Commit> {
    for await (const commit of this.commits()) {
      if (commit.version === version) return commit;
      if (commit.version < version) break;
    }
    throw new VersionMissing(this.vmName, version);
  }

  /** Newest first. Each is checked against the digest in the one after it. */
  async *commits(): AsyncIterable<Commit> {
    const newest = await this.#log.newest();
    let placed = newest === undefined ? undefined : await this.#log.commitUpTo(newest);
    while (placed !== undefined) {
      yield this.#commitOf(placed);
      placed = await this.#log.commitBefore(placed);
    }
  }

  /** In order of creation. */
  branches(): Promise<readonly Branch[]> {
    return this.#branches.list();
  }

  /**
   * The right to publish the next version. What `host` holds already is simply returned. `takeOver` takes it from
   * another holder, whose next commit then fails with `LeaseLost`; otherwise that is `LeaseHeld`.
   */
  async acquireLease(host: HostIdentity, options: { readonly takeOver?: boolean } = {}): Promise<HeldLease> {
    const result = await this.#log.append<HeldLease>('take a lease', async (newest, position) => {
      const lease = newest?.entry.lease ?? free;
      if (lease.state === 'held') {
        if (lease.holder.hostId === host.hostId) return { settled: this.#heldLease(lease) };
        if (options.takeOver !== true) throw new LeaseHeld(this.vmName, lease.holder, lease.since);
      }
      if (newest === undefined) await this.#makeVm();
      const since = this.#now();
      return {
        next: this.#leaseChange(newest, host, { state: 'held', holder: host, leaseNumber: position, since }),
      };
    });
    if ('settled' in result) return result.settled;
    const { lease } = result.appended.entry;
    if (lease.state === 'free') throw new Error('a lease was appended and is free');
    return this.#heldLease(lease);
  }

  /** Gives the lease back. Nothing happens if it is not held any more; answers whether it was. */
  async releaseLease(lease: HeldLease): Promise<boolean> {
    const result = await this.#log.append('give a lease back', (newest) =>
      Promise.resolve(
        newest !== undefined && holds(newest.entry.lease, lease)
          ? { next: this.#leaseChange(newest, lease.holder, free) }
          : { settled: undefined },
      ),
    );
    return 'appended' in result;
  }

  /**
   * Makes the draft the VM's next version. With a lease, `LeaseLost` if somebody took it, or if the newest version is
   * not the draft's parent. Without one (an import), `LeaseHeld` while anybody holds it.
   * Appending again what was appended already (its answer got lost) answers the commit that is there.
   */
  async appendCommit(
    draft: CommitDraft,
    lease: HeldLease | undefined,
    options: { readonly releaseLease?: boolean } = {},
  ): Promise<Commit> {
    this.#expectOwn(draft);
    const result = await this.#log.append<Commit>('publish a version', async (newest) => {
      const latest = newest === undefined ? undefined : await this.#log.commitUpTo(newest);
      const refusal = this.#refusal(draft, lease, newest?.entry.lease ?? free, latest);
      if (refusal !== undefined) {
        const earlier = await this.#alreadyAppended(draft, latest);
        if (earlier === undefined) throw refusal;
        return { settled: earlier };
      }
      if (newest === undefined) await this.#makeVm();
      return { next: this.#commitEntry(draft, newest, latest, options.releaseLease === true) };
    });
    if ('settled' in result) return result.settled;
    const { position, entry } = result.appended;
    if (entry.commit === undefined) throw new Error('a commit was appended and is none');
    return { ...entry.commit, vmName: this.vmName, position };
  }

  /** Keeps work that may not become a version. Saving the same draft again answers the branch that is there. */
  async saveBranch(draft: CommitDraft): Promise<Branch> {
    this.#expectOwn(draft);
    await this.#makeVm();
    return this.#branches.save(draft);
  }

  /**
   * What resumes touched, as the newest trace has it. In a store that lists it needs nothing of the log: ask beside `head`,
   * and it costs no time. `DamagedObject` must not stop a resume.
   */
  async newestTrace(options: RequestOptions = {}): Promise<StoredTrace | undefined> {
    if (this.#store.capabilities.lists) return this.#traces.newest(options);
    const { latest } = await this.head(options);
    return latest?.trace === undefined ? undefined : this.#traces.newestFrom(latest.trace, options);
  }

  async readTrace(options: RequestOptions = {}): Promise<Trace | undefined> {
    return (await this.newestTrace(options))?.trace;
  }

  /** Newest first; damaged ones are left out. */
  traces(options: RequestOptions = {}): Promise<readonly StoredTrace[]> {
    return this.#traces.all(options);
  }

  /**
   * Makes the newest trace of what `revise` makes of the one before; may call it again. Undefined when other hosts
   * kept being faster: nothing was written then.
   */
  writeTrace(
    revise: (known: Trace | undefined) => Trace,
    options: RequestOptions = {},
  ): Promise<StoredTrace | undefined> {
    return this.#traces.append(revise, options);
  }

  /** Forgets all traces; answers how many there were. */
  removeTraces(options: RequestOptions = {}): Promise<number> {
    return this.#traces.removeAll(options);
  }

  /** Why the draft must not become the next version; undefined where it may. */
  #refusal(
    draft: CommitDraft,
    lease: HeldLease | undefined,
    current: LeaseState,
    latest: PlacedCommit | undefined,
  ): LeaseHeld | LeaseLost | undefined {
    if (lease === undefined) {
      if (current.state === 'held') return new LeaseHeld(this.vmName, current.holder, current.since);
    } else if (!holds(current, lease)) {
      return new LeaseLost(
        this.vmName,
        current.state === 'free'
          ? 'its lease was given back'
          : `${current.holder.hostName} took the lease over at ${current.since.toISOString()}`,
      );
    }
    const newestVersion = latest?.entry.commit.version;
    if (newestVersion === draft.parent) return undefined;
    return new LeaseLost(
      this.vmName,
      `its newest version is ${newestVersion ?? 'none'}, but the work began from ${draft.parent ?? 'none'}`,
    );
  }

  /** The commit of this very draft among those newer than its parent. */
  async #alreadyAppended(draft: CommitDraft, latest: PlacedCommit | undefined): Promise<Commit | undefined> {
    let placed = latest;
    while (placed !== undefined) {
      const commit = this.#commitOf(placed);
      if (commit.version <= (draft.parent ?? 0)) return undefined;
      if (sameManifest(commit, draft)) return commit;
      placed = await this.#log.commitBefore(placed);
    }
    return undefined;
  }

  #commitEntry(
    draft: CommitDraft,
    newest: PlacedEntry | undefined,
    latest: PlacedCommit | undefined,
    releaseLease: boolean,
  ): NextEntry {
    const { vmName: _, ...record } = draft;
    const version = ((latest?.entry.commit.version ?? 0) + 1) as VersionNumber;
    return {
      writtenAt: this.#now(),
      writer: draft.host,
      lease: releaseLease ? free : (newest?.entry.lease ?? free),
      earlierCommit: newest === undefined ? undefined : newestCommitOf(newest),
      commit: { version, ...record },
    };
  }

  #leaseChange(newest: PlacedEntry | undefined, writer: HostIdentity, lease: LeaseState): NextEntry {
    return {
      writtenAt: this.#now(),
      writer,
      lease,
      earlierCommit: newest === undefined ? undefined : newestCommitOf(newest),
      commit: undefined,
    };
  }

  /** Writes the name, so that `vmNames` shows the VM. Done before anything else of it is in the store. */
  async #makeVm(): Promise<void> {
    const key = nameKey(this.#records.sealer.vmId(this.vmName));
    await this.#records.create(key, encodeVmName(this.vmName), 'add a VM');
  }

  #commitOf({ entry, position }: PlacedCommit): Commit {
    return { ...entry.commit, vmName: this.vmName, position };
  }

  #heldLease(lease: Extract<LeaseState, { state: 'held' }>): HeldLease {
    const { holder, leaseNumber, since } = lease;
    return { vmName: this.vmName, holder, leaseNumber, since };
  }

  #expectOwn(draft: CommitDraft): void {
    if (draft.vmName !== this.vmName)
      throw new Error(`a commit of ${draft.vmName} in the log of ${this.vmName}`);
  }
}

function holds(current: LeaseState, lease: HeldLease): boolean {
  return current.state === 'held' && current.leaseNumber === lease.leaseNumber;
}

/** The newest commit at or before an entry, as a later entry refers to it. */
function newestCommitOf({ position, digest, entry }: PlacedEntry): LogEntry['earlierCommit'] {
  return entry.commit === undefined
    ? entry.earlierCommit
    : { position, digest, version: entry.commit.version };
}
