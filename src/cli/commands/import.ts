import type { Command } from 'commander';
import { InvalidInput } from '../../base/index.js';
import { AlreadyMounted, lockVm, settleDaemon } from '../../daemon/index.js';
import {
  directorySource,
  loadManifest,
  publishVersion,
  type Commit,
  type Published,
} from '../../repo/index.js';
import { readLocalChanges } from '../../vm/index.js';
import { parseMountPath, parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { UnpublishedChanges } from '../errors.js';
import { exitCodes, type ExitCode } from '../exit-codes.js';
import { formatBytes, formatSeconds } from '../format.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly at?: string;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Publish a directory of state files as a VM's next version, without a mount. Chunks that the previous version has are not stored again.",
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .argument('<directory>', 'the state files: memory, disks, device state, isr.toml')
    .option(
      '--at <path>',
      'fixed absolute path of the VM (default: that of its previous version)',
      parseMountPath,
    )
    .addHelpText(
      'after',
      examples(
        'isr import web ./web --at /vms/web',
        'isr import web /vms/web-copy   # next version, same path',
      ),
    )
    .action(bind(importDirectory));
}

async function importDirectory(
  context: CommandContext,
  vmName: string,
  directory: string,
  options: Options,
): Promise<ExitCode> {
  const startedMs = performance.now();
  const repository = await context.repository();
  const home = await context.home();
  const paths = await home.makeVmPaths(repository.header.repositoryId, vmName);
  const found = await settleDaemon(paths, vmName);
  if (found.state === 'alive') throw new AlreadyMounted(vmName, found.record.mountPath);
  const unlock = lockVm(paths, vmName);
  try {
    // They were made from a version that would no longer be the newest.
    if ((await readLocalChanges(await context.target(vmName))).changedFiles > 0)
      throw new UnpublishedChanges(vmName);
    const { history, head } = await context.log(vmName);
    const mountPath = options.at ?? mountPathOf(vmName, head.latest);
    // Free: the commit itself loses against a host that takes the lease meanwhile. Held: by this host, or `LeaseHeld`.
    const lease = head.lease.state === 'free' ? undefined : await history.acquireLease(home.identity);
    const base =
      head.latest === undefined
        ? undefined
        : { manifest: await loadManifest(head.latest.manifest, repository.blobs) };
    await using source = await directorySource(directory, {
      chunkBytes: repository.header.chunkBytes,
      ...(base === undefined ? {} : { base }),
    });
    const published = await withProgress(context.output, `Importing ${vmName}`, (onProgress) =>
      publishVersion({
        repository,
        vmName,
        mountPath,
        source,
        parent: head.latest?.version,
        parentsDeltas: head.latest?.deltas,
        lease,
        releaseLease: true,
        host: home.identity,
        reader: repository.blobs,
        signal: context.signal,
        ...(onProgress === undefined ? {} : { onProgress }),
      }),
    );
    await context.log(vmName);
    return reportImport(context, vmName, published, (performance.now() - startedMs) / 1000);
  } finally {
    unlock();
  }
}

function mountPathOf(vmName: string, latest: Commit | undefined): string {
  if (latest !== undefined) return latest.mountPath;
  throw new InvalidInput(`The first version of ${vmName} needs the path that the VM has on every host.`, {
    remedy: 'Give it with --at PATH.',
  });
}

function reportImport(
  context: CommandContext,
  vmName: string,
  published: Published,
  seconds: number,
): ExitCode {
  const { outcome } = published;
  switch (outcome) {
    case 'unchanged':
      context.output.result(
        { vmName, outcome, version: published.commit.version, storedBytes: 0, seconds },
        `Nothing differs from version ${published.commit.version} of ${vmName}; no version was made.`,
      );
      return exitCodes.ok;
    case 'published': {
      const { version, mountPath, logicalBytes } = published.commit;
      const { storedBytes } = published;
      context.output.result(
        { vmName, outcome, version, mountPath, logicalBytes, storedBytes, seconds },
        `Published version ${version} of ${vmName} for ${mountPath}: ${formatBytes(logicalBytes)}, ${formatBytes(storedBytes)} stored, in ${formatSeconds(seconds)}.`,
      );
      return exitCodes.ok;
    }
    case 'branched': {
      const { branch, storedBytes } = published;
      context.output.result(
        { vmName, outcome, branch: branch.name, storedBytes, seconds },
        `Another host took the lease of ${vmName} meanwhile, so the import is kept as branch ${branch.name}.`,
      );
      return exitCodes.conflict;
    }
  }
}
