import type { Command } from 'commander';
import type { Branch, Commit } from '../../repo/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { branchAsJson, commitAsJson } from '../describe.js';
import { formatBytes, formatDate, formatTable } from '../format.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'List the versions of a VM, newest first, and branches: work that was published after its lease was lost.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr versions web', 'isr versions web --json'))
    .action(bind(listVersions));
}

async function listVersions(context: CommandContext, vmName: string): Promise<undefined> {
  const { history } = await context.logOfExisting(vmName);
  const commits: Commit[] = [];
  for await (const commit of history.commits()) commits.push(commit);
  const { store } = await context.repository();
  const branches = store.capabilities.lists ? await history.branches() : undefined;
  const table = formatTable(
    [...commits, ...(branches ?? [])],
    [
      { title: 'VERSION', cell: nameOf },
      { title: 'DATE', cell: (row) => formatDate(recordOf(row).createdAt) },
      { title: 'HOST', cell: (row) => recordOf(row).host.hostName },
      { title: 'FROM', align: 'right', cell: (row) => String(recordOf(row).parent ?? '-') },
      { title: 'SIZE', align: 'right', cell: (row) => formatBytes(recordOf(row).logicalBytes) },
      { title: 'STORED', align: 'right', cell: (row) => formatBytes(recordOf(row).storedBytes) },
    ],
  );
  if (branches === undefined)
    context.output.remark(`Branches are not shown: ${store.description} cannot list.`);
  context.output.result(
    { vmName, versions: commits.map(commitAsJson), branches: branches?.map(branchAsJson) ?? null },
    table,
  );
}

function nameOf(row: Commit | Branch): string {
  return 'version' in row ? String(row.version) : row.name;
}

function recordOf(row: Commit | Branch): Branch['commit'] {
  return 'version' in row ? row : row.commit;
}
