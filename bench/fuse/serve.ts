/**
 * Serves the benchmark's data through one engine, as a daemon of its own would: one mount whose version is decoded in
 * memory and whose overlay has data, and one whose version lies sealed in the local cache. Usage: serve CONFIG, which is
 * JSON. Says `ready`, and unmounts when its standard input ends.
 */
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ResourceStack } from '../../src/base/index.js';
import { createFetcher } from '../../src/fetch/index.js';
import { openOverlay, rootInode, type VmFileSystem } from '../../src/fs/index.js';
import { mountFuseNative, mountKernel, type EngineName, type MountEngine } from '../../src/fuse/index.js';
import {
  directorySource,
  loadManifest,
  publishVersion,
  Repository,
  type BlobReference,
} from '../../src/repo/index.js';
import { openStore } from '../../src/store/index.js';
import { warmVersion } from '../../src/warm/index.js';
import { overlayPrefix, servedPaths, type ServeConfig } from './served.js';

const mebibyte = 1024 * 1024;

/** All of the version fits. */
const ampleMemoryBytes = 512 * mebibyte;

/** The chunks that requests under way share, and next to nothing that would answer later ones. */
const scarceMemoryBytes = 8 * mebibyte;

const engines: Readonly<Record<EngineName, MountEngine>> = {
  'fuse-native': mountFuseNative,
  kernel: mountKernel,
};

async function serve(config: ServeConfig, resources: ResourceStack): Promise<void> {
  const paths = servedPaths(config.root);
  await mkdir(config.root);
  const store = resources.use(await openStore(join(config.root, 'store'), { create: true }));
  const repository = resources.use((await Repository.create(store)).repository);
  const manifestReference = await publish(repository, config.dataDirectory);

  const show = async (
    mountPath: string,
    overlay: string,
    memoryCacheBytes: number,
  ): Promise<VmFileSystem> => {
    const fetcher = resources.use(
      await createFetcher({
        repository,
        cachePath: paths.localCache,
        localCacheBytes: 2 ** 40,
        repositoryId: repository.header.repositoryId,
        memoryCacheBytes,
        chunkBytes: repository.header.chunkBytes,
      }),
    );
    const manifest = await loadManifest(manifestReference, fetcher);
    const { chunkBytes } = repository.header;
    const version = {
      manifest,
      fetcher,
      chunkBytes,
      trace: undefined,
      earlier: () => Promise.resolve(undefined),
    };
    await warmVersion(version, { scope: { kind: 'all' } }, {});
    const fileSystem = resources.use(
      await openOverlay({
        directory: overlay,
        base: { manifest, identity: 'bench' },
        openFile: (map) => fetcher.openFile(map),
        chunkMemory: fetcher.sharedMemory,
      }),
    );
    await mkdir(mountPath);
    const { threads } = config;
    resources.use(
      await engines[config.engine](fileSystem, {
        mountPath,
        sourceName: 'isr:bench',
        allowOther: false,
        ...(threads === undefined ? {} : { threads }),
      }),
    );
    return fileSystem;
  };
  const decoded = await show(paths.decoded, paths.overlay, ampleMemoryBytes);
  for (const { name } of decoded.readDirectory(rootInode)) {
    await copyIntoOverlay(decoded, join(config.dataDirectory, name), `${overlayPrefix}${name}`);
  }
  await decoded.syncAll();
  await show(paths.sealed, join(config.root, 'overlay-sealed'), scarceMemoryBytes);
}

/** Returns where the version's manifest lies. */
async function publish(repository: Repository, directory: string): Promise<BlobReference> {
  const source = await directorySource(directory, { chunkBytes: repository.header.chunkBytes });
  try {
    const published = await publishVersion({
      repository,
      vmName: 'bench',
      mountPath: '/bench',
      source,
      parent: undefined,
      lease: undefined,
      host: { hostId: '0'.repeat(32), hostName: 'bench' },
      reader: repository.blobs,
    });
    if (published.outcome !== 'published') throw new Error(`the version was ${published.outcome}`);
    return published.commit.manifest;
  } finally {
    await source[Symbol.asyncDispose]();
  }
}

async function copyIntoOverlay(fileSystem: VmFileSystem, path: string, name: string): Promise<void> {
  const { handle } = await fileSystem.create(rootInode, name, 0o644, constants.O_RDWR, { uid: 0, gid: 0 });
  const file = await open(path);
  const block = Buffer.alloc(mebibyte);
  try {
    for (let offset = 0; ;) {
      const { bytesRead } = await file.read(block, 0, block.length, offset);
      if (bytesRead === 0) break;
      await fileSystem.write(handle, offset, block.subarray(0, bytesRead));
      offset += bytesRead;
    }
  } finally {
    await file.close();
    fileSystem.release(handle);
  }
}

const resources = new ResourceStack();
try {
  await serve(JSON.parse(process.argv[2] ?? '') as ServeConfig, resources);
  process.stdout.write('ready\n');
  await new Promise((resolve) => process.stdin.once('end', resolve).resume());
} finally {
  await resources[Symbol.asyncDispose]();
}
