import type { Command } from 'commander';
import { verifyVersion, type Damage, type VerifyReport } from '../../repo/index.js';
import { parseVmName } from '../arguments.js';
import { chooseVersion } from '../choose-version.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { exitCodes, type ExitCode } from '../exit-codes.js';
import { formatBytes, formatCount } from '../format.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly version?: string;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Read and authenticate everything that a version needs, straight from the store, and name what is damaged or missing (exit code 5).',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--version <version>', 'a version number or the name of a branch (default: the newest version)')
    .addHelpText('after', examples('isr verify web', 'isr verify web --version 3 --json'))
    .action(bind(verify));
}

async function verify(context: CommandContext, vmName: string, options: Options): Promise<ExitCode> {
  const { title, version, branch, commit } = await chooseVersion(context, vmName, options.version);
  const repository = await context.repository();
  const report = await withProgress(context.output, `Verifying ${vmName}`, (onProgress) =>
    verifyVersion({
      repository,
      commit,
      signal: context.signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
  );
  context.output.result(
    { vmName, version, branch, ...report },
    [`${title} of ${vmName}: ${describeReport(report)}`, ...report.damages.map(describeDamage)].join('\n'),
  );
  return report.intact ? exitCodes.ok : exitCodes.damaged;
}

function describeReport(report: VerifyReport): string {
  const checked = `${formatCount(report.files, 'file')}, ${formatCount(report.checkedBlobs, 'stored piece')}, ${formatBytes(report.checkedSealedBytes)} read`;
  if (report.intact) return `everything is there and authentic (${checked}).`;
  const count = formatCount(report.damages.length + report.omittedDamages, 'problem');
  const omitted = report.omittedDamages > 0 ? `, of which ${report.damages.length} are listed` : '';
  return `${count} found${omitted} (${checked}).`;
}

function describeDamage({ message, file }: Damage): string {
  if (file === undefined) return `  ${message}`;
  const end = file.offsetBytes + file.lengthBytes;
  return `  ${message} Affected: bytes ${file.offsetBytes}-${end} of ${file.path}`;
}
