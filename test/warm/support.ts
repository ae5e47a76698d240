import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { createFetcher, type Fetcher } from '../../src/fetch/index.js';
import { loadManifest, Repository, type Commit, type Trace } from '../../src/repo/index.js';
import type { WarmVersion } from '../../src/warm/index.js';
import { ScriptedStore } from '../fetch/support.js';
import { ModelFile, publish, sourceOf } from '../repo/publish-support.js';

export const chunkBytes = limits.chunkBytesMin;

/** A file of so many chunks, all different. */
export function fullFile(chunks: number, seed = 0): ModelFile {
  const file = new ModelFile(chunkBytes, chunks * chunkBytes);
  for (let index = 0; index < chunks; index += 1) file.write(index, seed + index + 1);
  return file;
}

/** A repository in memory, and hosts that have nothing of it. */
export class WarmLab {
  readonly store: ScriptedStore;
  readonly repository: Repository;
  readonly root: string;
  readonly #t: Test;
  readonly #commits: Commit[] = [];

  private constructor(t: Test, root: string, store: ScriptedStore, repository: Repository) {
    this.#t = t;
    this.root = root;
    this.store = store;
    this.repository = repository;
  }

  static async create(t: Test): Promise<WarmLab> {
    const root = await mkdtemp(join(tmpdir(), 'isr-warm-'));
    t.teardown(() => rm(root, { recursive: true, force: true }));
    const store = new ScriptedStore();
    const { repository } = await Repository.create(store, { chunkBytes });
    t.teardown(() => repository[Symbol.asyncDispose]());
    return new WarmLab(t, root, store, repository);
  }

  /** Makes the next version of these files. */
  async publish(files: Readonly<Record<string, ModelFile>>): Promise<void> {
    const published = await publish(this.repository, {
      source: sourceOf(files),
      parent: this.#commits.at(-1)?.version,
      lease: await this.repository.history('vm').acquireLease({ hostId: '1'.repeat(32), hostName: 'alpha' }),
    });
    if (published.outcome !== 'published') throw new Error(`the version is ${published.outcome}`);
    this.#commits.push(published.commit);
    for (const [position, file] of Object.values(files).entries())
      file.published(published.files.get(position + 2));
  }

  get newest(): Commit {
    const newest = this.#commits.at(-1);
    if (newest === undefined) throw new Error('nothing was published');
    return newest;
  }

  /** The newest version on a host; equal names are the same host. */
  async open(host: string, trace?: Trace, tiers: readonly string[] = []): Promise<WarmVersion> {
    const fetcher = await this.fetcher(host, tiers);
    const earlier = this.#commits.at(-2);
    return {
      manifest: await loadManifest(this.newest.manifest, fetcher),
      ...{ fetcher, chunkBytes, trace },
      earlier: async () =>
        earlier === undefined ? undefined : await loadManifest(earlier.manifest, fetcher),
    };
  }

  async fetcher(host: string, tiers: readonly string[] = []): Promise<Fetcher> {
    const { repository } = this;
    const fetcher = await createFetcher({
      ...{ repository, cachePath: join(this.root, host), chunkBytes, tiers },
      ...{ localCacheBytes: 2 ** 40, memoryCacheBytes: 0 },
      repositoryId: repository.header.repositoryId,
    });
    this.#t.teardown(() => fetcher[Symbol.asyncDispose]());
    return fetcher;
  }
}
