import { decodeBranch, encodeBranch } from '../format/log-entry.js';
import { branchKey, branchPrefix, type VmId } from '../format/object-keys.js';
import type { RandomBytes } from '../keys/secrets.js';
import type { Records, StoredRecord } from '../records.js';
import type { Branch, CommitDraft } from '../types.js';
import { sameManifest } from './same-manifest.js';

/** Work that lost its lease, beside the log. */
export class Branches {
  readonly #records: Records;
  readonly #vm: { readonly name: string; readonly id: VmId };
  readonly #randomBytes: RandomBytes;

  constructor(records: Records, vm: { readonly name: string; readonly id: VmId }, randomBytes: RandomBytes) {
    this.#records = records;
    this.#vm = vm;
    this.#randomBytes = randomBytes;
  }

  async list(): Promise<readonly Branch[]> {
    const branches: Branch[] = [];
    for await (const record of this.#records.readAll(branchPrefix(this.#vm.id))) {
      branches.push(this.#decode(record));
    }
    return branches.sort((one, other) => one.commit.createdAt.getTime() - other.commit.createdAt.getTime());
  }

  async save(draft: CommitDraft): Promise<Branch> {
    const saved = (await this.list()).find(({ commit }) => sameManifest(commit, draft));
    if (saved !== undefined) return saved;
    const name = branchName(draft);
    const key = branchKey(this.#vm.id, Buffer.from(this.#randomBytes(16)).toString('hex'));
    const { vmName: _, ...commit } = draft;
    await this.#records.create(key, encodeBranch({ name, commit }), 'save a branch');
    return { name, commit: draft };
  }

  #decode({ payload, key }: StoredRecord): Branch {
    const { name, commit } = decodeBranch(payload, key);
    return { name, commit: { ...commit, vmName: this.#vm.name } };
  }
}

/** `HOST-vN-TIMESTAMP`, in characters that need no quoting anywhere. */
function branchName({ host, parent, createdAt }: CommitDraft): string {
  const hostName = host.hostName
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 100);
  const timestamp = createdAt.toISOString().replace(/[-:.]/g, '');
  return `${hostName === '' ? 'host' : hostName}-v${parent ?? 0}-${timestamp}`;
}
