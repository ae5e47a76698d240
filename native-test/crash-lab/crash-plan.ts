import type { Draw } from '../exerciser/draw.js';

export type Victim = 'worker' | 'supervisor';

export interface Strike {
  readonly victim: Victim;
  /** After the operation has begun, or after the strike before. */
  readonly delayMicroseconds: number;
}

/** One crash: what is killed, and when. */
export interface CrashPlan {
  /** That are asked for, of which those after the crash meet what it left. */
  readonly operations: number;
  /** With which of them the first strike comes. */
  readonly atOperation: number;
  readonly strikes: readonly Strike[];
  /** Whether nobody may serve the mount afterwards: nobody was left to replace those who were killed. */
  readonly mayLoseMount: boolean;
  /** Whether programs go on using a mount that may be lost, to see it fail them. */
  readonly holdsOn: boolean;
  /** Whether `isr mount` mounts again as a program of its own, where that is needed; otherwise what it calls does. */
  readonly byCommand: boolean;
}

const operationsMax = 50;

/** As long as a worker needs to begin serving, and somewhat longer. */
const startMicroseconds = 600_000;

/** `supervised`: whether there is a supervisor; otherwise the one process is all there is to kill. */
export function drawCrash(draw: Draw, supervised: boolean): CrashPlan {
  const operations = 4 + draw.below(operationsMax);
  const strikes = supervised ? drawStrikes(draw) : [strike(draw, 'worker')];
  const victims = new Set(strikes.map(({ victim }) => victim));
  const mayLoseMount = !supervised || victims.size > 1;
  return {
    operations,
    atOperation: 1 + draw.below(operations),
    strikes,
    mayLoseMount,
    holdsOn: draw.oneIn(8),
    byCommand: draw.oneIn(8),
  };
}

/** Five in eight are of the worker alone, and some of those of the next one as well, while it begins. */
function drawStrikes(draw: Draw): readonly Strike[] {
  const [worker, supervisor] = [strike(draw, 'worker'), strike(draw, 'supervisor')];
  const nextWorker: Strike = { victim: 'worker', delayMicroseconds: draw.below(startMicroseconds) };
  switch (draw.below(16)) {
    case 0:
    case 1:
      return [worker, nextWorker];
    case 2:
      return [supervisor];
    case 3:
      return [supervisor, worker];
    case 4:
      return [worker, supervisor];
    case 5:
      // At once.
      return [worker, { ...supervisor, delayMicroseconds: 0 }];
    case 6:
      // The next worker begins, or has begun.
      return [worker, { ...supervisor, delayMicroseconds: draw.below(startMicroseconds) }];
    default:
      return [worker];
  }
}

/** Often while the operation is under way, whether that takes microseconds or milliseconds. */
function strike(draw: Draw, victim: Victim): Strike {
  return { victim, delayMicroseconds: draw.oneIn(4) ? 0 : draw.below(draw.pick([50, 300, 1000, 5000])) };
}

export function describeCrash({ strikes, atOperation }: CrashPlan): string {
  const blows = strikes.map(({ victim, delayMicroseconds }) => `${victim} +${delayMicroseconds} us`);
  return `SIGKILL of ${blows.join(', ')} at operation ${atOperation}`;
}
