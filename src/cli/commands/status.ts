import type { Command } from 'commander';
import { connectDaemon, findDaemon, type DaemonStatus } from '../../daemon/index.js';
import { readOverlaySummary } from '../../fs/index.js';
import type { HostIdentity, LeaseState } from '../../repo/index.js';
import { StoreUnreachable } from '../../store/index.js';
import { readGuestRecord, type GuestRecord } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeChanges, describeLease } from '../describe.js';
import { formatBytes, formatCount, formatDate, formatFields, formatSeconds, formatTable } from '../format.js';

type UnknownLease = { readonly state: 'unknown'; readonly reason: string };

/** What this host has of a VM. `mount` is there while a daemon serves it. */
interface LocalVm {
  readonly repositoryId: string;
  readonly vmName: string;
  /** `dead`: a daemon died and left its mount behind; `silent`: it lives and does not answer. */
  readonly daemonState: 'none' | 'alive' | 'dead' | 'silent';
  readonly mount: DaemonStatus | undefined;
  /** Whether the guest's memory still belongs to its saved state. */
  readonly guest: GuestRecord;
  readonly dirtyBytes: number;
  readonly changedFiles: number;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Say where a VM is mounted, which version, who has its lease, what is local and what is not published. Without a VM: every VM that this host has something of.',
    )
    .argument('[vm]', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr status', 'isr status web', 'isr status web --json'))
    .action(bind(status));
}

async function status(context: CommandContext, vmName: string | undefined): Promise<undefined> {
  if (vmName === undefined) await statusOfAll(context);
  else await statusOfOne(context, vmName);
  return undefined;
}

async function statusOfAll(context: CommandContext): Promise<void> {
  const home = await context.home();
  const named = await context.repositoryUrlIfNamed();
  const repositories =
    named === undefined ? await home.repositoriesWithState() : [await context.repositoryId()];
  const vms: LocalVm[] = [];
  for (const repositoryId of repositories) {
    for (const vmName of await home.vmsWithState(repositoryId)) {
      const vm = await inspectLocal(context, repositoryId, vmName);
      if (vm.daemonState !== 'none' || vm.changedFiles > 0) vms.push(vm);
    }
  }
  context.output.result(
    { home: home.path, vms },
    vms.length === 0
      ? 'No VM is mounted on this host, and no changes are unpublished.'
      : formatTable(vms, [
          { title: 'VM', cell: ({ vmName }) => vmName },
          { title: 'STATE', cell: describeState },
          { title: 'VERSION', cell: ({ mount }) => (mount === undefined ? '-' : originOf(mount)) },
          { title: 'UNPUBLISHED', align: 'right', cell: ({ dirtyBytes }) => formatBytes(dirtyBytes) },
          { title: 'PATH', cell: ({ mount }) => mount?.mountPath ?? '-' },
        ]),
  );
}

async function statusOfOne(context: CommandContext, vmName: string): Promise<void> {
  const { identity } = await context.home();
  const vm = await inspectLocal(context, await context.repositoryId(), vmName);
  if (vm.mount !== undefined) {
    const { repositoryId, daemonState, guest } = vm;
    context.output.result(
      { repositoryId, daemonState, guest, ...vm.mount },
      describeMounted(vm.mount, vm.guest, identity),
    );
    return;
  }
  const { lease, newest } = await askStore(context, vmName);
  context.output.result(
    { ...vm, lease, newestVersion: newest ?? null },
    formatFields([
      ['VM', vmName],
      ['State', describeState(vm)],
      ['Newest version', newest === undefined ? 'unknown' : String(newest)],
      ['Lease', describeAnyLease(lease, identity)],
      ['To do', adviseUnmounted(vm, lease, identity)],
    ]),
  );
}

async function inspectLocal(context: CommandContext, repositoryId: string, vmName: string): Promise<LocalVm> {
  const home = await context.home();
  const paths = home.vmPaths(repositoryId, vmName);
  const guest = await readGuestRecord(paths);
  const client = await connectDaemon(paths, vmName);
  if (client !== undefined) {
    const mount = await client.status().catch(() => undefined);
    const { dirtyBytes, changedFiles } = mount ?? { dirtyBytes: 0, changedFiles: 0 };
    const daemonState = mount === undefined ? 'silent' : 'alive';
    return { repositoryId, vmName, daemonState, mount, guest, dirtyBytes, changedFiles };
  }
  const daemonState = (await findDaemon(paths)).state === 'none' ? 'none' : 'dead';
  const overlay = await readOverlaySummary(paths.overlay);
  return {
    repositoryId,
    vmName,
    daemonState,
    mount: undefined,
    guest,
    dirtyBytes: overlay?.dirtyBytes ?? 0,
    changedFiles: overlay?.changedFiles ?? 0,
  };
}

/** What only the store knows; local state is shown even when it does not answer. A VM that does not exist is an error. */
async function askStore(
  context: CommandContext,
  vmName: string,
): Promise<{ readonly lease: LeaseState | UnknownLease; readonly newest: number | undefined }> {
  try {
    const { head, latest } = await context.logOfExisting(vmName);
    return { lease: head.lease, newest: latest.version };
  } catch (error) {
    if (!(error instanceof StoreUnreachable)) throw error;
    return { lease: { state: 'unknown', reason: error.message }, newest: undefined };
  }
}

function describeState({ daemonState, changedFiles, mount }: LocalVm): string {
  switch (daemonState) {
    case 'alive':
      return mount?.ephemeral === true ? 'mounted, ephemeral' : 'mounted';
    case 'silent':
      return 'mounted, but its daemon does not answer';
    case 'dead':
      return 'its daemon died';
    case 'none':
      return changedFiles > 0 ? 'unpublished changes' : 'nothing here';
  }
}

function describeAnyLease(lease: LeaseState | UnknownLease, here: HostIdentity): string {
  return lease.state === 'unknown' ? `unknown: ${lease.reason}` : describeLease(lease, here);
}

function adviseUnmounted(vm: LocalVm, lease: LeaseState | UnknownLease, here: HostIdentity): string {
  const { vmName } = vm;
  if (vm.daemonState === 'dead')
    return `mount it again with \`isr mount ${vmName}\`: what was acknowledged is kept`;
  if (vm.guest === 'saved') return `finish the suspend with \`isr suspend ${vmName}\``;
  if (vm.guest === 'ran')
    return `the guest crashed: boot it with \`isr start ${vmName}\`, or go back with \`isr discard ${vmName}\``;
  if (vm.changedFiles > 0) return describeChanges(vmName, vm);
  if (lease.state === 'unknown')
    return `make the store reachable, then \`isr resume ${vmName}\` or \`isr mount ${vmName}\``;
  if (lease.state === 'held' && lease.holder.hostId !== here.hostId) {
    return `suspend it there, or take the lease over with \`isr lease break ${vmName}\``;
  }
  return `\`isr resume ${vmName}\` or \`isr mount ${vmName}\``;
}

const guestWords: Readonly<Record<GuestRecord, string>> = {
  fresh: 'has not run here since this version',
  ran: 'has run since this version',
  saved: 'saved, not published yet',
};

function originOf(mount: DaemonStatus): string {
  return mount.branch ?? String(mount.version ?? '-');
}

function describeMounted(mount: DaemonStatus, guest: GuestRecord, here: HostIdentity): string {
  const { chunks, daemon, engine, fetch } = mount;
  const fields: [string, string][] = [
    ['VM', mount.vmName],
    ['Mounted at', `${mount.mountPath}, since ${formatDate(new Date(mount.startedAt))}`],
    ['Version', `${originOf(mount)}${mount.ephemeral ? ' (ephemeral: changes are thrown away)' : ''}`],
    ['Guest', guestWords[guest]],
    ['Repository', mount.repository],
    ['Lease', describeAnyLease(mount.lease, here)],
    ['Local', chunks === undefined ? 'not known yet' : describeChunks(chunks)],
    ['Unpublished', `${formatBytes(mount.dirtyBytes)} in ${formatCount(mount.changedFiles, 'file')}`],
    ['Demand', describeFetches(fetch.fetches.demand)],
    ['Background', describeFetches(fetch.fetches.background)],
    [
      'Cache hits',
      `${fetch.memoryHits} in memory (${formatBytes(fetch.memoryBytes)}), ${fetch.localHits} on disk`,
    ],
    ['Requests', `${engine.requests} through ${engine.name}, ${engine.requestsWaiting} waiting`],
    ['Errors', describeErrors(mount)],
    ['Daemon', `process ${daemon.workerPid}, ${formatBytes(daemon.residentBytes)} resident`],
  ];
  if (engine.dirtyLimitLifted === false) {
    fields.push([
      'Dirty pages',
      'at most 1 % of memory, which slows a guest down that writes much; root may lift it',
    ]);
  }
  if (fetch.waitingForStore !== undefined) {
    const { since, reason } = fetch.waitingForStore;
    fields.push(['Waiting', `for the store since ${formatDate(new Date(since))}: ${reason}`]);
  }
  return formatFields(fields);
}

function describeChunks({ local, total }: { readonly local: number; readonly total: number }): string {
  const percent = total === 0 ? 100 : Math.floor((100 * local) / total);
  return `${local} of ${formatCount(total, 'chunk')} (${percent} %)`;
}

function describeFetches(counts: DaemonStatus['fetch']['fetches']['demand']): string {
  return `${counts.requests} requests, ${formatBytes(counts.bytes)}, ${formatSeconds(counts.waitMs / 1000)} waited`;
}

function describeErrors({ engine, fetch }: DaemonStatus): string {
  const total = engine.errors + fetch.errors;
  if (total === 0) return 'none';
  return `${engine.errors} answered to programs, ${fetch.errors} in fetches${fetch.lastError === undefined ? '' : `; last: ${fetch.lastError}`}`;
}
