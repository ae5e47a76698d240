import type { Command } from 'commander';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeLease } from '../describe.js';
import { formatBytes, formatDate, formatTable } from '../format.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description('List the VMs of the repository with their newest versions.')
    .addHelpText('after', examples('isr ls', 'isr ls --json'))
    .action(bind(listVms));
}

async function listVms(context: CommandContext): Promise<undefined> {
  const repository = await context.repository();
  const home = await context.home();
  const vms = [];
  for (const vmName of await repository.vmNames()) {
    const { head } = await context.log(vmName);
    vms.push({ vmName, latest: head.latest, lease: head.lease });
  }
  context.output.result(
    {
      repositoryId: repository.header.repositoryId,
      vms: vms.map(({ vmName, latest, lease }) => ({
        vmName,
        lease,
        mountPath: latest?.mountPath ?? null,
        version: latest?.version ?? null,
        createdAt: latest?.createdAt ?? null,
        hostName: latest?.host.hostName ?? null,
        logicalBytes: latest?.logicalBytes ?? null,
      })),
    },
    vms.length === 0
      ? 'No VMs yet. Publish one with: isr import VM DIR --at PATH'
      : formatTable(vms, [
          { title: 'VM', cell: ({ vmName }) => vmName },
          { title: 'VERSION', align: 'right', cell: ({ latest }) => String(latest?.version ?? '-') },
          {
            title: 'DATE',
            cell: ({ latest }) => (latest === undefined ? '-' : formatDate(latest.createdAt)),
          },
          { title: 'HOST', cell: ({ latest }) => latest?.host.hostName ?? '-' },
          {
            title: 'SIZE',
            align: 'right',
            cell: ({ latest }) => (latest === undefined ? '-' : formatBytes(latest.logicalBytes)),
          },
          { title: 'PATH', cell: ({ latest }) => latest?.mountPath ?? '-' },
          { title: 'LEASE', cell: ({ lease }) => describeLease(lease, home.identity) },
        ]),
  );
}
