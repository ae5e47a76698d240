import { connectDaemon, findDaemon, hasPublishBegun, type DaemonStatus } from '../daemon/index.js';
import { readOverlaySummary } from '../fs/index.js';
import { readGuestEntry, type GuestEntry } from './guest-record.js';
import { probeQemu } from './hypervisor/index.js';
import { pathsOf, type VmTarget } from './target.js';

/** What is known of a VM on this host, from its records and without touching its mount. */
export interface SituationFacts {
  readonly vmName: string;
  /** `dead`: a daemon died and left its mount behind; `silent`: it lives and does not answer. */
  readonly daemon: 'none' | 'alive' | 'dead' | 'silent';
  readonly ephemeral: boolean;
  readonly guest: GuestEntry;
  readonly hypervisor: 'absent' | 'running' | 'paused' | 'unknown';
  readonly changedFiles: number;
  /** A publish began and did not come to its end. */
  readonly publishUnfinished: boolean;
}

/** For programs; a code never changes its meaning. */
export type SituationCode =
  | 'idle'
  | 'mounted'
  | 'ephemeral'
  | 'running'
  | 'paused'
  | 'resume-unfinished'
  | 'suspend-unfinished'
  | 'publish-unfinished'
  | 'unpublished'
  | 'guest-crashed'
  | 'daemon-died'
  | 'daemon-silent';

/** What happened to a VM on this host, and what goes on from there. */
export interface Situation {
  readonly code: SituationCode;
  /** One sentence. */
  readonly happened: string;
  /** The one command that goes on; undefined where nothing is begun. */
  readonly next: string | undefined;
}

export interface LocalVm extends SituationFacts {
  readonly situation: Situation;
  /** While a daemon answers. */
  readonly mount: DaemonStatus | undefined;
  /** Why the supervisor of a daemon that died stopped replacing its workers. */
  readonly gaveUp: string | undefined;
  readonly dirtyBytes: number;
}

/** Asks this host's records, its daemon and its hypervisor; waits for none of them long. */
export async function inspectVm(target: VmTarget): Promise<LocalVm> {
  const { vmName } = target;
  const paths = pathsOf(target);
  const guest = await readGuestEntry(paths);
  const client = await connectDaemon(paths, vmName);
  const mount = await client?.status().catch(() => undefined);
  const found = await findDaemon(paths);
  // One that is just starting, or ended between two looks, is none.
  const unmounted = found.state === 'dead' ? 'dead' : 'none';
  const daemon = client === undefined ? unmounted : mount === undefined ? 'silent' : 'alive';
  const summary = client === undefined ? await readOverlaySummary(paths.overlay) : undefined;
  const facts: SituationFacts = {
    vmName,
    daemon,
    ephemeral: client?.ephemeral === true,
    guest,
    hypervisor: await hypervisorOf(guest, paths.run),
    changedFiles: mount?.changedFiles ?? summary?.changedFiles ?? 0,
    publishUnfinished:
      (summary !== undefined && summary.announced.commits.length > 0) || (await hasPublishBegun(paths)),
  };
  return {
    ...facts,
    situation: situationOf(facts),
    mount,
    gaveUp: daemon === 'dead' && found.state !== 'none' ? found.record.gaveUp : undefined,
    dirtyBytes: mount?.dirtyBytes ?? summary?.dirtyBytes ?? 0,
  };
}

async function hypervisorOf(
  { guest, hypervisor }: GuestEntry,
  runDirectory: string,
): Promise<SituationFacts['hypervisor']> {
  if (guest === 'fresh') return 'absent';
  // Other hypervisors are asked through the VM's own configuration, which lies in the mount.
  return hypervisor === undefined || hypervisor === 'qemu' ? probeQemu(runDirectory) : 'unknown';
}

/** docs/operations.md has this as a table. */
export function situationOf(facts: SituationFacts): Situation {
  const { daemon, ephemeral, guest } = facts;
  if (ephemeral && daemon !== 'dead')
    return say(
      'ephemeral',
      'It is mounted for a throw-away run; its changes go with the mount.',
      'umount',
      facts,
    );
  switch (guest.guest) {
    case 'fresh':
      return situationWithoutGuest(facts);
    case 'resuming':
      return say(
        'resume-unfinished',
        'A resume was interrupted before the guest ran; its saved session is whole.',
        'resume',
        facts,
      );
    case 'ran':
      return situationOfGuest(facts);
    case 'stopped':
      if (daemon === 'none' || daemon === 'dead') return crashed(facts);
      return say(
        'suspend-unfinished',
        'A suspend was interrupted when the guest was saved and not flushed to the disk yet.',
        'suspend',
        facts,
      );
    case 'saved':
      return say(
        'suspend-unfinished',
        'The guest is suspended and safe on this host; it is not published yet.',
        'suspend',
        facts,
      );
  }
}

function situationWithoutGuest(facts: SituationFacts): Situation {
  const { daemon, changedFiles, publishUnfinished } = facts;
  if (daemon === 'dead')
    return say('daemon-died', 'Its daemon died; what was acknowledged is kept.', 'mount', facts);
  if (daemon === 'silent') return silent(facts);
  if (publishUnfinished)
    return say(
      'publish-unfinished',
      daemon === 'alive'
        ? 'A publish is under way, or was interrupted; what it uploaded is not uploaded again.'
        : 'A publish was interrupted; what it uploaded is not uploaded again.',
      'publish',
      facts,
    );
  if (changedFiles > 0)
    return say('unpublished', 'Changes on this host are not published.', 'publish', facts);
  if (daemon === 'alive')
    return say('mounted', 'It is mounted, and nothing is unpublished.', undefined, facts);
  return say('idle', 'Nothing of it is under way on this host.', undefined, facts);
}

function situationOfGuest(facts: SituationFacts): Situation {
  const { daemon, guest, hypervisor } = facts;
  if (daemon === 'none' || daemon === 'dead' || hypervisor === 'absent') return crashed(facts);
  if (hypervisor === 'running') return say('running', 'The guest runs.', 'suspend', facts);
  if (hypervisor === 'paused') {
    const command = guest.step === 'suspend' ? 'suspend' : 'resume';
    const why = guest.step === undefined ? '' : `: a ${guest.step} was interrupted`;
    return say('paused', `The guest is paused in its hypervisor${why}.`, command, facts);
  }
  if (daemon === 'silent') return silent(facts);
  return say('running', 'The guest ran here last; its hypervisor was not asked.', 'suspend', facts);
}

function crashed(facts: SituationFacts): Situation {
  return say(
    'guest-crashed',
    'The hypervisor ended without saving the guest: its memory is lost, its disks are as they were then.',
    'start',
    facts,
  );
}

function silent(facts: SituationFacts): Situation {
  return say('daemon-silent', 'It is mounted, but its daemon does not answer.', 'status', facts);
}

function say(
  code: SituationCode,
  happened: string,
  command: string | undefined,
  { vmName }: SituationFacts,
): Situation {
  return { code, happened, next: command === undefined ? undefined : `isr ${command} ${vmName}` };
}
