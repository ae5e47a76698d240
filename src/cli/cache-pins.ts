import { InvalidInput } from '../base/index.js';
import {
  createFetcher,
  listPins,
  pinBlobs,
  unpinBlobs,
  versionBlobs,
  type Fetcher,
  type Pin,
  type PinResidency,
  type VersionBlob,
} from '../fetch/index.js';
import type { HostHome } from '../host/index.js';
import { loadManifest, type Repository } from '../repo/index.js';
import { chooseVersion } from './choose-version.js';
import type { CommandContext } from './context.js';
import { formatBytes, formatCount, formatTable } from './format.js';
import { withProgress } from './progress.js';

/** Versions and branches, as people call them. */
function title({ ofVersion }: Pick<Pin, 'ofVersion'>): string {
  return /^\d+$/.test(ofVersion) ? `version ${ofVersion}` : `branch ${ofVersion}`;
}

export interface PinOptions {
  readonly version?: string;
  readonly local?: true;
}

export async function pin(context: CommandContext, vmName: string, options: PinOptions): Promise<undefined> {
  const home = await context.home();
  const repository = await context.repository();
  const chosen = await chooseVersion(context, vmName, options.version);
  const fetcher = await openFetcher(home, repository);
  try {
    const { pin, pinnedBytes, pinnedBytesMax } = await withProgress(
      context.output,
      `Pinning ${vmName}`,
      async () => {
        const fetching = { fetchClass: 'background', signal: context.signal } as const;
        const reference = chosen.commit.manifest;
        const manifest = await loadManifest(reference, fetcher, { signal: context.signal });
        const blobs = versionBlobs({ manifest, reference }, fetcher, fetching);
        return pinBlobs({
          cachePath: home.cachePath,
          limitBytes: home.configuration.localCacheBytes,
          name: { repositoryId: repository.header.repositoryId, vmName, version: options.version },
          ofVersion: String(chosen.version ?? chosen.branch),
          blobs: options.local === true ? localOf(blobs, fetcher) : blobs,
          signal: context.signal,
        });
      },
    );
    const residency = (await listPins(home.cachePath)).find((one) => isSame(one, pin));
    const { localBytes = 0, localEntries = 0 } = residency ?? {};
    context.output.result(
      { ...pin, localEntries, localBytes, pinnedBytes, pinnedBytesMax },
      `Pinned ${vmName}, ${chosen.title}: ${formatCount(pin.entries, 'entry', 'entries')}, ${formatBytes(pin.bytes)}` +
        (localEntries === pin.entries
          ? ', all here.'
          : `, of which ${formatBytes(localBytes)} are here. What comes later is kept too; \`isr warm ${vmName}\` fetches it.`) +
        ` Pins take ${formatBytes(pinnedBytes)} of at most ${formatBytes(pinnedBytesMax)}.`,
    );
  } finally {
    await fetcher[Symbol.asyncDispose]();
  }
}

export interface UnpinOptions {
  readonly version?: string;
  readonly all?: true;
}

export async function unpin(
  context: CommandContext,
  vmName: string | undefined,
  options: UnpinOptions,
): Promise<undefined> {
  if ((vmName === undefined) !== (options.all === true) || (options.all && options.version !== undefined)) {
    throw new InvalidInput('What to unpin is not clear.', {
      remedy: 'Name a VM (and perhaps a version of it), or give --all.',
    });
  }
  const { cachePath } = await context.home();
  const repositoryId = vmName === undefined ? undefined : await context.repositoryId();
  const removed = await unpinBlobs(
    cachePath,
    (one) =>
      vmName === undefined ||
      (one.repositoryId === repositoryId &&
        one.vmName === vmName &&
        (options.version === undefined || one.ofVersion === options.version)),
    { signal: context.signal },
  );
  const names = removed.map((one) => `${one.vmName}, ${title(one)}`).join('; ');
  context.output.result(
    { unpinned: removed },
    removed.length === 0 ? 'Nothing of that was pinned.' : `No longer pinned: ${names}.`,
  );
}

/** One line a pin, for `isr cache ls`. */
export function describePins(pins: readonly PinResidency[]): string {
  return formatTable(pins, [
    { title: 'Pinned', cell: ({ vmName }) => vmName },
    {
      title: 'Version',
      cell: ({ ofVersion, version }) => `${ofVersion}${version === undefined ? ' (newest)' : ''}`,
    },
    { title: 'Takes', align: 'right', cell: ({ bytes }) => formatBytes(bytes) },
    { title: 'Here', align: 'right', cell: ({ localBytes }) => formatBytes(localBytes) },
  ]);
}

async function* localOf(
  blobs: AsyncIterable<VersionBlob>,
  fetcher: Fetcher,
): AsyncGenerator<VersionBlob, void> {
  for await (const blob of blobs) {
    if (blob.kind !== 'chunk' || fetcher.isLocal(blob.reference)) yield blob;
  }
}

function isSame(one: Pin, other: Pin): boolean {
  return (
    one.repositoryId === other.repositoryId && one.vmName === other.vmName && one.version === other.version
  );
}

function openFetcher(home: HostHome, repository: Repository): Promise<Fetcher> {
  const { configuration, cachePath } = home;
  const { chunkBytes, repositoryId } = repository.header;
  return createFetcher({
    ...{ repository, repositoryId, cachePath, chunkBytes, tiers: configuration.tiers },
    localCacheBytes: configuration.localCacheBytes,
    memoryCacheBytes: configuration.memoryCacheBytes,
  });
}
