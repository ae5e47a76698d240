import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../../base/index.js';
import { DamagedObject, Sealer, type BlobKind, type RepositorySecrets } from '../../repo/index.js';
import { decodeEntry, type EntryHeader } from './entry.js';
import { diskBytes, entryPath, isShardName } from './layout.js';
import { sweepCache, type SweepResult } from './sweep.js';

/** What a cache directory holds of each kind of blob. */
export interface CacheContent {
  readonly entries: number;
  readonly bytes: number;
  readonly kinds: Readonly<Record<BlobKind, { readonly entries: number; readonly bytes: number }>>;
}

/** Looks at every entry. Others may use the cache meanwhile. */
export async function cacheContent(cachePath: string): Promise<CacheContent> {
  const kinds = {
    chunk: { entries: 0, bytes: 0 },
    'map-node': { entries: 0, bytes: 0 },
    manifest: { entries: 0, bytes: 0 },
    delta: { entries: 0, bytes: 0 },
    'delta-index': { entries: 0, bytes: 0 },
  };
  for await (const path of entryFiles(cachePath)) {
    const kind = (Object.keys(kinds) as BlobKind[]).find((name) => path.endsWith(`.${name}`));
    const size = await lstat(path).then(({ size }) => size, ifGone);
    if (kind === undefined || size === undefined) continue;
    kinds[kind].entries += 1;
    kinds[kind].bytes += diskBytes(size);
  }
  const all = Object.values(kinds);
  return {
    entries: all.reduce((sum, { entries }) => sum + entries, 0),
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
    kinds,
  };
}

/**
 * Deletes what was not used for longest until less than `bytes` are left, or nothing but what is pinned. Nothing that is lost so
 * cannot be fetched again.
 */
export function evictCache(cachePath: string, bytes: number): SweepResult {
  return sweepCache({ cachePath, limitBytes: bytes, unpinnedShareMin: 0, now: Date.now() });
}

export interface CacheVerification {
  readonly entries: number;
  readonly bytes: number;
  /** Entries that were damaged. */
  readonly deleted: number;
  /** Entries of which only their repository's key could tell, and it is not on this host. They stay. */
  readonly unknown: number;
}

/**
 * Opens every entry with the keys of this host, and deletes what is damaged. Entries of repositories whose key is not here
 * are left alone if they are whole.
 */
export async function verifyCache(
  cachePath: string,
  secrets: readonly Pick<RepositorySecrets, 'repositoryId' | 'encryptionKey'>[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<CacheVerification> {
  const sealers = new Map(secrets.map((each) => [each.repositoryId, new Sealer(each)]));
  const result = { entries: 0, bytes: 0, deleted: 0, unknown: 0 };
  for await (const path of entryFiles(cachePath)) {
    options.signal?.throwIfAborted();
    const entry = await readFile(path).catch(ifGone);
    if (entry === undefined) continue;
    result.entries += 1;
    result.bytes += diskBytes(entry.length);
    const verdict = judge(cachePath, path, entry, sealers);
    if (verdict === 'unknown') result.unknown += 1;
    if (verdict !== 'damaged') continue;
    await rm(path, { force: true });
    result.deleted += 1;
  }
  return result;
}

function judge(
  cachePath: string,
  path: string,
  entry: Uint8Array,
  sealers: ReadonlyMap<string, Sealer>,
): 'good' | 'damaged' | 'unknown' {
  const decoded = decodeEntry(entry);
  if (decoded === undefined) return 'damaged';
  const { header, sealed, repositoryId } = decoded;
  if (entryPath(cachePath, header.id, header.kind) !== path) return 'damaged';
  const owner = repositoryId === undefined ? undefined : sealers.get(repositoryId);
  if (repositoryId !== undefined && owner === undefined) return 'unknown';
  const candidates = owner === undefined ? [...sealers.values()] : [owner];
  if (candidates.some((sealer) => opens(sealer, sealed, header))) return 'good';
  return owner === undefined ? 'unknown' : 'damaged';
}

function opens(sealer: Sealer, sealed: Uint8Array, header: EntryHeader): boolean {
  try {
    sealer.open(Uint8Array.from(sealed), header, header.kind);
    return true;
  } catch (error) {
    if (error instanceof DamagedObject) return false;
    throw error;
  }
}

async function* entryFiles(cachePath: string): AsyncGenerator<string, void, undefined> {
  for (const shard of (await readdir(cachePath).catch(ifGone)) ?? []) {
    if (!isShardName(shard)) continue;
    for (const name of (await readdir(join(cachePath, shard)).catch(ifGone)) ?? [])
      yield join(cachePath, shard, name);
  }
}

/** Others may delete entries meanwhile. */
function ifGone(error: unknown): undefined {
  if (systemErrorCode(error) !== 'ENOENT') throw error;
  return undefined;
}
