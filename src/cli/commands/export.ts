import type { Command } from 'commander';
import { exportVersion } from '../../repo/index.js';
import { parseVmName } from '../arguments.js';
import { chooseVersion } from '../choose-version.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { formatBytes, formatCount } from '../format.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly version?: string;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Write a version out as plain files: sparse, every byte verified. The directory appears complete or not at all.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .argument('<directory>', 'where to write it: a new or an empty directory')
    .option('--version <version>', 'a version number or the name of a branch (default: the newest version)')
    .addHelpText('after', examples('isr export web ./web-now', 'isr export web ./web-3 --version 3'))
    .action(bind(exportFiles));
}

async function exportFiles(
  context: CommandContext,
  vmName: string,
  directory: string,
  options: Options,
): Promise<undefined> {
  const chosen = await chooseVersion(context, vmName, options.version);
  const repository = await context.repository();
  const result = await withProgress(context.output, `Exporting ${vmName}`, (onProgress) =>
    exportVersion({
      commit: chosen.commit,
      reader: repository.blobs,
      targetDirectory: directory,
      signal: context.signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
  );
  if (!result.ownersKept) {
    context.output.remark('Note: the files belong to this user now; only root can keep their owners.');
  }
  const { version, branch, title } = chosen;
  context.output.result(
    { vmName, version, branch, directory, ...result },
    `Exported ${title} of ${vmName} to ${directory}: ${formatCount(result.files, 'file')}, ${formatBytes(result.logicalBytes)} (${formatBytes(result.writtenBytes)} without holes).`,
  );
}
