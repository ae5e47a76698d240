import { limits } from '../../base/index.js';
import { logPositionMax } from '../format/object-keys.js';

/** Whether the store has an entry at a position. */
export type HasEntry = (position: number) => Promise<boolean>;

/** What asking for single positions showed. */
export interface ProbedLog {
  /** The newest position; 0 while there is no entry. */
  readonly newest: number;
  /** A position that is not there although a later one is. */
  readonly gap: number | undefined;
}

/**
 * Finds the newest entry of a log in a store that cannot list: entries are numbered without gaps, so that asking for a
 * few positions is enough. From `known`, which is there, a log without news costs one request; n more entries cost about
 * `2 log(n)`, several of them at once.
 */
export async function probeLog(hasEntry: HasEntry, known: number): Promise<ProbedLog> {
  if (known > 0 && !(await hasEntry(known + 1))) return { newest: known, gap: undefined };
  let there = known;
  let absent = logPositionMax + 1;
  for (let step = 1; there + 1 < absent; step *= 2 ** limits.logProbesInFlight) {
    const positions = absent > logPositionMax ? doubling(there, step) : between(there, absent);
    const found = await Promise.all(positions.map(hasEntry));
    const firstAbsent = positions.find((_, index) => found[index] === false);
    const lastThere = positions.findLast((_, index) => found[index] === true);
    there = Math.max(there, lastThere ?? 0);
    if (firstAbsent === undefined) continue;
    if (firstAbsent < there) return { newest: there, gap: firstAbsent };
    absent = firstAbsent;
  }
  return { newest: there, gap: undefined };
}

/** `there + step`, `there + 2 step`, `there + 4 step`, …, up to the last possible position. */
function doubling(there: number, step: number): readonly number[] {
  const positions = Array.from({ length: limits.logProbesInFlight }, (_, index) =>
    Math.min(there + step * 2 ** index, logPositionMax),
  );
  return [...new Set(positions)];
}

/** Evenly spread positions between the two, all of them if they are few. */
function between(there: number, absent: number): readonly number[] {
  const count = Math.min(limits.logProbesInFlight, absent - there - 1);
  const spacing = (absent - there) / (count + 1);
  return Array.from({ length: count }, (_, index) => there + Math.floor(spacing * (index + 1)));
}
