import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../../bench/support/statistics.js';
import { SummingGuest } from './summing-guest.js';

/** Between the first answer of a worker and its death at most, so that it dies at any stage of its work. */
const livesAtMostMs = 400;

/** A guest whose memory is never there waits for it nearly always. */
const attemptsPerKill = 4;

/** Pieces that the guest compares before the first kill: how it fares without one. */
const piecesBefore = 40;

export interface Survival {
  /** Kills while pages were being fetched: the dead worker had taken requests and not answered them. */
  readonly kills: number;
  /** Those that found nothing under way, for once. */
  readonly otherKills: number;
  /** Requests that a dead worker had taken, and its successor got again. */
  readonly requestsResent: number;
  readonly restarts: number;
  readonly sameQemu: boolean;
  /** What the guest compared between the first kill and the end, and what of it was wrong. */
  readonly piecesRight: number;
  readonly piecesWrong: number;
  readonly rounds: number;
  /** How long the guest stood still at most, by its own clock: before the kills, and with them. */
  readonly longestStallBeforeMs: number;
  readonly longestStallMs: number;
  /** From SIGKILL to the first request that the next worker answered. */
  readonly restartMs: { readonly median: number; readonly worst: number };
}

/** What should not have happened; nothing if the guest noticed nothing but pauses. */
export function complaintsOf(survival: Survival): readonly string[] {
  const { kills, otherKills, restarts, piecesWrong, sameQemu } = survival;
  return [
    ...(piecesWrong > 0 ? [`${piecesWrong} pieces of the guest's memory were wrong`] : []),
    ...(sameQemu ? [] : ['QEMU is not the process that it was']),
    ...(restarts === kills + otherKills ? [] : [`${restarts} restarts after ${kills + otherKills} kills`]),
  ];
}

export interface KillOptions {
  readonly kills: number;
  readonly memoryMiB: number;
  readonly fillMiB: number;
  readonly random: () => number;
  readonly onProgress?: (text: string) => void;
}

/** Kills the worker under a running guest so many times, while pages that the guest waits for are being fetched. */
export async function killWorkers(options: KillOptions): Promise<Survival> {
  const guest = await SummingGuest.resume(options);
  try {
    return await killUnder(guest, options);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

async function killUnder(guest: SummingGuest, options: KillOptions): Promise<Survival> {
  const say = options.onProgress ?? (() => undefined);
  const before = await guest.progress(piecesBefore);
  say(`the guest compared ${before.right} pieces; the kills begin`);

  const restartsMs: number[] = [];
  let requestsResent = 0;
  let kills = 0;
  while (kills < options.kills) {
    if (restartsMs.length > options.kills * attemptsPerKill)
      throw new Error('next to nothing is being fetched');
    const { daemon } = await guest.status();
    await sleep(options.random() * livesAtMostMs);
    const killedMs = performance.now();
    process.kill(daemon.workerPid, 'SIGKILL');
    // The kernel always asks for this, so that it tells when the next worker answers.
    await statfs(guest.mountPath);
    restartsMs.push(performance.now() - killedMs);
    const resent = (await guest.status()).engine.requestsResent ?? 0;
    if (resent === 0) continue;
    requestsResent += resent;
    kills += 1;
    if (kills % 10 === 0) say(`${kills} kills, ${requestsResent} requests sent again`);
  }
  await guest.leaveMemory();
  const { rounds } = await guest.sums();
  const after = await guest.wholeRounds(2);
  say(`${after.rounds - rounds} rounds since the last kill`);

  const status = await guest.status();
  return {
    kills,
    otherKills: restartsMs.length - kills,
    requestsResent,
    restarts: status.daemon.restarts,
    sameQemu: guest.isRunning,
    piecesRight: after.right - before.right,
    piecesWrong: after.wrong,
    rounds: after.rounds,
    longestStallBeforeMs: longest(before.stallsMs),
    longestStallMs: longest(after.stallsMs.slice(before.stallsMs.length)),
    restartMs: { median: median(restartsMs), worst: Math.max(...restartsMs) },
  };
}

/** Stalls of less than a tenth of a second are not told. */
function longest(stallsMs: readonly number[]): number {
  return Math.max(0, ...stallsMs);
}
