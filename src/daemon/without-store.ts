import createDebug from 'debug';
import { Cancelled, limits, systemClock, type Clock } from '../base/index.js';
import {
  LeaseHeld,
  loadManifest,
  type BlobReader,
  type BlobReference,
  type HeldLease,
  type LeaseState,
  type HostIdentity,
  type Manifest,
  type VmHead,
  type VmHistory,
} from '../repo/index.js';
import { readOverlaySummary } from '../fs/index.js';
import { readSeen } from '../host/index.js';
import { StoreUnreachable } from '../store/index.js';
import { readKnownHead } from './known-head.js';
import { findGround, type Ground, type GroundRequest } from './origin.js';
import type { WithoutStore } from './types.js';

const debug = createDebug('isr:daemon:without-store');

/** Where a session begins that could not ask the store. */
export interface KnownGround {
  readonly ground: Ground;
  readonly seenAt: Date;
}

/**
 * Where to begin by what this host saw last, while the store is away. Takes no lease, but respects another host's. Whoever is
 * right about the VM is settled when something is published: as always, by the log.
 *
 * @throws `away` if this host does not know enough; LeaseHeld, and the errors of `findGround`
 */
export async function findKnownGround(
  request: GroundRequest,
  history: VmHistory,
  away: StoreUnreachable,
): Promise<KnownGround> {
  const known = await readKnownHead(request.paths);
  if (known === undefined) throw away;
  if (await isOutdated(known.head, request)) throw away;
  const { lease } = known.head;
  if (!request.ephemeral && isHeldElsewhere(lease, request.host))
    throw new LeaseHeld(request.vmName, lease.holder, lease.since);
  return { ground: await findGround(request, history, known.head), seenAt: known.seenAt };
}

/** Whether this host saw or made something newer and could not record what it is: a version would be used twice. */
async function isOutdated({ position, latest }: VmHead, request: GroundRequest): Promise<boolean> {
  const seen = await readSeen(request.paths);
  if (seen !== undefined && seen.position > position) return true;
  const overlay = await readOverlaySummary(request.overlayDirectory);
  return overlay !== undefined && Number(overlay.identity) > (latest?.version ?? 0);
}

export function isHeldElsewhere(
  lease: LeaseState,
  here: HostIdentity,
): lease is Extract<LeaseState, { state: 'held' }> {
  return lease.state === 'held' && lease.holder.hostId !== here.hostId;
}

/** The manifest from this host's cache. @throws `away` if it is not there */
export async function loadLocalManifest(
  reference: BlobReference,
  reader: BlobReader,
  away: StoreUnreachable,
): Promise<Manifest> {
  try {
    return await loadManifest(reference, reader, { signal: AbortSignal.timeout(limits.localManifestMs) });
  } catch (error) {
    throw error instanceof Cancelled ? away : error;
  }
}

/** Takes the lease as soon as the store is back, so that other hosts see it: a session that began without it does that. */
export class LeaseWhenBack implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #state: WithoutStore['lease'] = 'waiting';

  /** `take` answers `lost` where another host was faster, and is not called again then. */
  constructor(take: () => Promise<HeldLease | 'lost'>, clock: Clock = systemClock) {
    this.#running = this.#run(take, clock);
  }

  get state(): WithoutStore['lease'] {
    return this.#state;
  }

  /** Whatever else is wrong may pass as well: a network's sign-in page, a token that expired. */
  async #run(take: () => Promise<HeldLease | 'lost'>, clock: Clock): Promise<void> {
    const { signal } = this.#stop;
    let pauseMs: number = limits.storeRetryMs;
    for (;;) {
      const isOver = await clock.delay(pauseMs, signal).then(
        () => false,
        () => true,
      );
      if (isOver) return;
      try {
        this.#state = (await take()) === 'lost' ? 'lost' : 'held';
        return;
      } catch (error) {
        debug('the lease cannot be taken yet: %o', error);
        pauseMs =
          error instanceof StoreUnreachable
            ? Math.min(limits.storeRetryMsMax, pauseMs * 2)
            : limits.storeRetryMsMax;
      }
    }
  }

  /** Ends it; what it is just doing is waited for. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
