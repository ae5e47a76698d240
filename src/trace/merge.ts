import { limits } from '../base/index.js';
import type { Trace, TraceEntry } from '../repo/index.js';
import { ageInResumes, timesSeen } from './likely.js';
import { chunkKey } from './probes.js';

/** What the order until now counts against one more recording: more would be slow to follow a guest that changed. */
const knownWeightMax = 3;

const rememberedMask = 2 ** limits.traceResumes - 1;

/** A chunk that both traces have, where it belongs by rank, and what follows it until the next such chunk. */
interface Core {
  readonly entry: TraceEntry;
  readonly rank: number;
  readonly knownRank: number;
  readonly onlyRecorded: TraceEntry[];
  readonly onlyKnown: TraceEntry[];
}

/**
 * What is known of earlier resumes, with one more recording. Chunks that the last `limits.traceResumes` resumes did not
 * touch drop out; of too many (`limits.traceTouches`) those stay that were seen most often, then most recently.
 *
 * The order is that of first touch. The set of chunks repeats from resume to resume and the order nearly so: several
 * CPUs and disks race, and neighbours swap. So chunks that both have are ordered by a moving mean of their ranks: mean
 * ranks come close to the order with the fewest swaps against all that they are made of, one odd resume moves a chunk by a
 * quarter of the way, a lasting change arrives within a few places, and nothing needs to be remembered but the order.
 * Times would not do: they follow the link. Chunks that only one side has come after those that they came after there.
 *
 * `assumed`: chunks, by `chunkKey`, that count as touched by the newest resume though it did not record them; see `Probes`.
 */
export function mergeTraces(
  known: Trace | undefined,
  recorded: Trace,
  assumed: ReadonlySet<string> = new Set(),
): Trace {
  // Indexes of chunks of another size mean other places.
  if (known?.chunkBytes !== recorded.chunkBytes) return recorded;
  const age = Math.min(recorded.resumes, limits.traceResumes);
  const aged = known.entries.map((entry) => {
    const newest = assumed.has(chunkKey(entry)) ? 1 : 0;
    return { ...entry, seenIn: ((entry.seenIn << age) & rememberedMask) | newest };
  });
  const { leading, cores } = alignRanks(aged, recorded.entries);
  const entries = leading.filter(isRemembered);
  for (const { entry, onlyRecorded, onlyKnown } of cores.sort(byRank)) {
    entries.push(entry, ...onlyRecorded, ...onlyKnown.filter(isRemembered));
  }
  return { ...recorded, resumes: known.resumes + recorded.resumes, entries: bounded(entries) };
}

function byRank(one: Core, other: Core): number {
  return one.rank - other.rank || one.knownRank - other.knownRank;
}

function isRemembered({ seenIn }: TraceEntry): boolean {
  return seenIn !== 0;
}

/** The chunks that both sides have, with their ranks among each other, and the others behind them. */
function alignRanks(
  known: readonly TraceEntry[],
  recorded: readonly TraceEntry[],
): { readonly leading: TraceEntry[]; readonly cores: Core[] } {
  const recordedByKey = new Map(recorded.map((entry) => [chunkKey(entry), entry]));
  const knownRanks = new Map<string, { readonly rank: number; readonly entry: TraceEntry }>();
  for (const entry of known) {
    const key = chunkKey(entry);
    if (recordedByKey.has(key)) knownRanks.set(key, { rank: knownRanks.size, entry });
  }
  const coreByKey = new Map<string, Core>();
  const leadingRecorded: TraceEntry[] = [];
  let place = leadingRecorded;
  for (const [key, entry] of recordedByKey) {
    const before = knownRanks.get(key);
    if (before === undefined) {
      place.push(entry);
      continue;
    }
    const core: Core = {
      entry: { ...entry, seenIn: before.entry.seenIn | entry.seenIn },
      rank: meanRank(before.rank, timesSeen(before.entry), coreByKey.size),
      knownRank: before.rank,
      onlyRecorded: [],
      onlyKnown: [],
    };
    coreByKey.set(key, core);
    place = core.onlyRecorded;
  }
  const leadingKnown: TraceEntry[] = [];
  place = leadingKnown;
  for (const entry of known) {
    const core = coreByKey.get(chunkKey(entry));
    if (core === undefined) place.push(entry);
    else place = core.onlyKnown;
  }
  return { leading: [...leadingRecorded, ...leadingKnown], cores: [...coreByKey.values()] };
}

/** `timesKnown` may be 0: all resumes that touched the chunk were forgotten just now. */
function meanRank(knownRank: number, timesKnown: number, recordedRank: number): number {
  const weight = Math.min(timesKnown, knownWeightMax);
  return (knownRank * weight + recordedRank) / (weight + 1);
}

function bounded(entries: readonly TraceEntry[]): readonly TraceEntry[] {
  const paths = [...new Set(entries.map(({ path }) => path))];
  const files = new Set(paths.slice(0, limits.traceFiles));
  const byWorth = entries
    .filter(({ path }) => files.has(path))
    .sort((one, other) => timesSeen(other) - timesSeen(one) || ageInResumes(one) - ageInResumes(other));
  const kept = new Set(byWorth.slice(0, limits.traceTouches));
  return kept.size === entries.length ? entries : entries.filter((entry) => kept.has(entry));
}
