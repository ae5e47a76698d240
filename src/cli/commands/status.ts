import type { Command } from 'commander';
import type { DaemonStatus } from '../../daemon/index.js';
import type { FetchStatus } from '../../fetch/index.js';
import type { HostIdentity, LeaseState } from '../../repo/index.js';
import { StoreUnreachable } from '../../store/index.js';
import { inspectVm, type LocalVm, type SituationCode } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeLease, describeWithoutStore } from '../describe.js';
import { describeFill } from '../describe-fill.js';
import { formatBytes, formatCount, formatDate, formatFields, formatSeconds, formatTable } from '../format.js';

type UnknownLease = { readonly state: 'unknown'; readonly reason: string };

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
  const vms: (LocalVm & { readonly repositoryId: string })[] = [];
  for (const repositoryId of repositories) {
    for (const vmName of await home.vmsWithState(repositoryId)) {
      const vm = await inspectVm({ home, repositoryId, repositoryUrl: named ?? '', vmName });
      if (vm.situation.code !== 'idle') vms.push({ ...vm, repositoryId });
    }
  }
  context.output.result(
    {
      home: home.path,
      vms: vms.map((vm) => ({ repositoryId: vm.repositoryId, ...asJson(vm), mount: vm.mount })),
    },
    vms.length === 0
      ? 'No VM is mounted on this host, and no changes are unpublished.'
      : formatTable(vms, [
          { title: 'VM', cell: ({ vmName }) => vmName },
          { title: 'STATE', cell: ({ situation }) => situation.code },
          { title: 'VERSION', cell: ({ mount }) => (mount === undefined ? '-' : originOf(mount)) },
          { title: 'UNPUBLISHED', align: 'right', cell: ({ dirtyBytes }) => formatBytes(dirtyBytes) },
          { title: 'PATH', cell: ({ mount }) => mount?.mountPath ?? '-' },
        ]),
  );
}

async function statusOfOne(context: CommandContext, vmName: string): Promise<void> {
  const { identity } = await context.home();
  const target = await context.target(vmName);
  const vm = await inspectVm(target);
  const { repositoryId } = target;
  if (vm.mount !== undefined) {
    context.output.result(
      { repositoryId, ...asJson(vm), ...vm.mount },
      describeMounted(vm, vm.mount, identity),
    );
    return;
  }
  const { lease, newest } = await askStore(context, vmName);
  context.output.result(
    { repositoryId, ...asJson(vm), lease, newestVersion: newest ?? null },
    formatFields([
      ['VM', vmName],
      ['State', vm.situation.happened],
      ...(vm.gaveUp === undefined ? [] : [['Daemon', `gave up: ${vm.gaveUp}`] as const]),
      ['Unpublished', describeUnpublished(vm)],
      ['Newest version', newest === undefined ? 'unknown' : String(newest)],
      ['Lease', describeAnyLease(lease, identity)],
      ['To do', adviseUnmounted(vm, lease, identity)],
    ]),
  );
}

function asJson(vm: LocalVm): object {
  const { vmName, daemon, gaveUp, guest, situation, dirtyBytes, changedFiles } = vm;
  return {
    vmName,
    daemonState: daemon,
    gaveUp,
    guest: guest.guest,
    guestSince: guest.since,
    situation: { ...situation, next: situation.next ?? null },
    dirtyBytes,
    changedFiles,
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

function describeAnyLease(lease: LeaseState | UnknownLease, here: HostIdentity): string {
  return lease.state === 'unknown' ? `unknown: ${lease.reason}` : describeLease(lease, here);
}

function adviseUnmounted(vm: LocalVm, lease: LeaseState | UnknownLease, here: HostIdentity): string {
  const { vmName, situation } = vm;
  const { code, next } = situation;
  if (next !== undefined) return `\`${next}\`${alternatives[code]?.(vmName) ?? ''}`;
  if (lease.state === 'unknown')
    return `make the store reachable, then \`isr resume ${vmName}\` or \`isr mount ${vmName}\``;
  if (lease.state === 'held' && lease.holder.hostId !== here.hostId) {
    return `suspend it there, or take the lease over with \`isr lease break ${vmName}\``;
  }
  return `\`isr resume ${vmName}\` or \`isr mount ${vmName}\``;
}

/** What else a user may want, where going on is not all that can be wanted. */
const alternatives: Partial<Record<SituationCode, (vmName: string) => string>> = {
  'guest-crashed': (vmName) =>
    ` boots it from its disks; \`isr discard ${vmName}\` goes back to the last published version`,
  unpublished: (vmName) => `, or drop them with \`isr discard ${vmName}\``,
  'publish-unfinished': (vmName) => `, or drop the changes with \`isr discard ${vmName}\``,
};

function describeUnpublished({ dirtyBytes, changedFiles }: LocalVm): string {
  return changedFiles === 0
    ? 'nothing'
    : `${formatBytes(dirtyBytes)} in ${formatCount(changedFiles, 'file')}`;
}

function originOf(mount: DaemonStatus): string {
  return mount.branch ?? String(mount.version ?? '-');
}

function describeMounted(vm: LocalVm, mount: DaemonStatus, here: HostIdentity): string {
  const { situation } = vm;
  const { chunks, daemon, engine, fetch } = mount;
  const fields: [string, string][] = [
    ['VM', mount.vmName],
    ['Mounted at', `${mount.mountPath}, since ${formatDate(new Date(mount.startedAt))}`],
    ['Version', `${originOf(mount)}${mount.ephemeral ? ' (ephemeral: changes are thrown away)' : ''}`],
    ['State', situation.happened],
    ...(situation.next === undefined ? [] : [['To do', `\`${situation.next}\``] as [string, string]]),
    ['Repository', mount.repository],
    ['Lease', describeAnyLease(mount.lease, here)],
    ...(mount.withoutStore === undefined
      ? []
      : [['Store', describeWithoutStore(mount.vmName, mount.withoutStore)] as [string, string]]),
    ['Local', chunks === undefined ? 'not known yet' : describeChunks(chunks)],
    ['Unpublished', `${formatBytes(mount.dirtyBytes)} in ${formatCount(mount.changedFiles, 'file')}`],
    ['Demand', describeFetches(fetch.fetches.demand)],
    ['Around demand', describeFetches(fetch.fetches.around)],
    ['Replay', describeFetches(fetch.fetches.replay)],
    ['Background', describeFetches(fetch.fetches.background)],
    [
      'Cache hits',
      `${fetch.memoryHits} in memory (${formatBytes(fetch.memoryBytes)}), ${fetch.localHits} on disk`,
    ],
    ['Link', describeLink(fetch.link)],
    ...fetch.tiers.map((tier) => ['Tier', describeTier(tier)] as [string, string]),
    ...(fetch.deltas.chunks === 0 ? [] : [['Deltas', describeDeltas(fetch.deltas)] as [string, string]]),
    ['Trouble', describeTrouble(fetch.trouble)],
    ...(mount.replay === undefined ? [] : [['Replayed', describeReplay(mount.replay)] as [string, string]]),
    ...(mount.fill === undefined ? [] : [['Fill', describeFill(mount.fill, mount)] as [string, string]]),
    ...(mount.trickle === undefined ? [] : [['Ahead', describeTrickle(mount)] as [string, string]]),
    ['Requests', `${engine.requests} through ${engine.name}, ${engine.requestsWaiting} waiting`],
    ['Errors', describeErrors(mount)],
    ['Daemon', `process ${daemon.workerPid}, ${formatBytes(daemon.residentBytes)} resident`],
    ['Supervisor', describeSupervision(daemon)],
    ['Protection', describeProtection(daemon.protection)],
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
  if (engine.waitingForSpaceSince !== undefined) {
    const since = formatDate(new Date(engine.waitingForSpaceSince));
    fields.push(['Waiting', `for room on this host's disk since ${since}: free some, and the guest goes on`]);
  }
  return formatFields(fields);
}

function describeSupervision(daemon: DaemonStatus['daemon']): string {
  const { supervisorPid, unsupervised, restarts, lastRestart } = daemon;
  if (supervisorPid === undefined) return `none: ${unsupervised ?? ''}; the mount ends with its daemon`;
  const history =
    lastRestart === undefined
      ? 'no restarts'
      : `${formatCount(restarts, 'restart')}, the last at ${formatDate(new Date(lastRestart.at))}: the worker ${lastRestart.reason}`;
  return `process ${supervisorPid}, ${history}`;
}

function describeProtection(protection: DaemonStatus['daemon']['protection']): string {
  const { ioFlusher, oomScoreAdj } = protection;
  const oom = `OOM score adjusted by ${oomScoreAdj}`;
  return ioFlusher ? `I/O flusher, ${oom}` : `${oom}; to protect it from memory pressure, run it as root`;
}

function describeChunks({ local, total }: { readonly local: number; readonly total: number }): string {
  const percent = total === 0 ? 100 : Math.floor((100 * local) / total);
  return `${local} of ${formatCount(total, 'chunk')} (${percent} %)`;
}

function describeFetches(counts: DaemonStatus['fetch']['fetches']['demand']): string {
  return `${counts.requests} requests, ${formatBytes(counts.bytes)}, ${formatSeconds(counts.waitMs / 1000)} waited`;
}

function describeLink({ roundTripMs, bytesPerSecond, caps }: FetchStatus['link']): string {
  const measured =
    roundTripMs === undefined
      ? 'not measured yet'
      : `round trip ${roundTripMs.toFixed(1)} ms${bytesPerSecond === undefined ? '' : `, ${formatBytes(bytesPerSecond)}/s`}`;
  const capped = [
    caps.bytesPerSecond === undefined ? [] : [`at most ${formatBytes(caps.bytesPerSecond)}/s`],
    caps.backgroundBytesPerSecond === undefined
      ? []
      : [`at most ${formatBytes(caps.backgroundBytesPerSecond)}/s in the background`],
    caps.requestsInFlight === undefined
      ? []
      : [`at most ${formatCount(caps.requestsInFlight, 'request')} at once`],
  ];
  return [measured, ...capped.flat()].join('; ');
}

function describeDeltas({ chunks, savedBytes }: FetchStatus['deltas']): string {
  return `${formatCount(chunks, 'chunk')} made out of earlier ones, ${formatBytes(savedBytes)} not fetched`;
}

function describeTier(tier: FetchStatus['tiers'][number]): string {
  const { place, hits, misses, damaged, failures, bytes, skipped } = tier;
  const counts = `${place}: ${hits} found (${formatBytes(bytes)}), ${misses} not, ${damaged} damaged, ${formatCount(failures, 'failure')}`;
  if (skipped === undefined) return counts;
  return `${counts}; skipped until ${formatDate(new Date(skipped.until))}: ${skipped.reason}`;
}

/** What went wrong on the way and was put right. */
function describeTrouble(trouble: FetchStatus['trouble']): string {
  const kinds: readonly (readonly [number, string])[] = [
    [trouble.retries, 'retried'],
    [trouble.timeouts, 'stood still'],
    [trouble.hedges, `asked twice for being slow (${trouble.hedgesWon} to effect)`],
    [trouble.damaged, 'damaged'],
    [trouble.truncated, 'cut short'],
    [trouble.changed, 'changed since'],
    [trouble.unreachable, 'not reached'],
    [trouble.refused, 'refused'],
  ];
  const happened = kinds.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  return happened.length === 0 ? 'none' : `requests: ${happened.join(', ')}`;
}

function describeReplay({
  chunks,
  localChunks,
  pulledChunks,
  isDone,
  isHeld,
}: NonNullable<DaemonStatus['replay']>): string {
  const progress = `${localChunks} of ${formatCount(chunks, 'chunk')} on this host, ${pulledChunks} in the page cache`;
  if (isHeld) return `waits, for the guest touches other chunks than the trace names: ${progress}`;
  return isDone ? `done: ${progress}` : progress;
}

/** What of the changes is in the store before they are published. */
function describeTrickle({ trickle, dirtyBytes }: DaemonStatus): string {
  if (trickle === undefined) return 'nothing';
  const { aheadBytes, uploadedBytes, lastError, isUploading } = trickle;
  const share = `${formatBytes(Math.min(aheadBytes, dirtyBytes))} of what is unpublished is stored already, ${formatBytes(uploadedBytes)} uploaded`;
  if (lastError !== undefined) return `${share}; the last try failed: ${lastError}`;
  return isUploading ? `${share}, and more on its way` : share;
}

function describeErrors({ engine, fetch }: DaemonStatus): string {
  const total = engine.errors + fetch.errors;
  if (total === 0) return 'none';
  return `${engine.errors} answered to programs, ${fetch.errors} in fetches${fetch.lastError === undefined ? '' : `; last: ${fetch.lastError}`}`;
}
