import type { EngineName } from '../../src/fuse/index.js';
import type { ExerciseOptions } from '../exerciser/exercise.js';
import { CrashedVm, CrashLabFailed } from './crashed-vm.js';
import type { Sabotage } from './sabotage.js';

export interface CrashLab {
  readonly engine: EngineName;
  readonly seed: number;
  /** Of all mounts. */
  readonly crashes: number;
  /** VMs that are mounted, used and crashed at the same time. */
  readonly mounts: number;
  /** Breaks something on purpose. */
  readonly breaks?: Sabotage | undefined;
}

export interface CrashLabResult {
  readonly crashes: number;
  readonly processesKilled: number;
  readonly mountsLost: number;
}

/**
 * Lets programs make random operations on mounts, kills the processes that serve them at random points, also while
 * operations are under way, and compares everything with models. @throws CrashLabFailed
 */
export async function runCrashLab(
  lab: CrashLab,
  { signal, onProgress = () => undefined }: ExerciseOptions = {},
): Promise<CrashLabResult> {
  const ending = new AbortController();
  signal?.addEventListener('abort', () => ending.abort(), { once: true });
  let [crashes, processesKilled, mountsLost] = [0, 0, 0];

  const crashMount = async (index: number): Promise<void> => {
    await using vm = await CrashedVm.create({
      ...{ engine: lab.engine, seed: lab.seed * seedsPerLab + index * seedsPerMount },
      ...{ breaks: lab.breaks, signal: ending.signal },
    });
    const share = Math.ceil((lab.crashes - index) / lab.mounts);
    for (let crash = 0; crash < share && !ending.signal.aborted; crash++) {
      const { processesKilled: killed, mountLost } = await vm.crash();
      crashes += 1;
      processesKilled += killed;
      mountsLost += mountLost ? 1 : 0;
      onProgress(`${crashes} crashes`);
    }
    if (!ending.signal.aborted) await vm.finish();
  };
  // What fails after that only fails because of it.
  let failure: { readonly reason: unknown } | undefined;
  await Promise.all(
    Array.from({ length: lab.mounts }, (_, index) =>
      crashMount(index).catch((reason: unknown) => {
        failure ??= { reason };
        ending.abort();
      }),
    ),
  );
  if (failure !== undefined) throw explained(failure.reason, lab);
  return { crashes, processesKilled, mountsLost };
}

/** Each of a mount's two programs has a seed of its own. */
const seedsPerMount = 10;
const seedsPerLab = 1000;

function explained(reason: unknown, { engine, seed, crashes, mounts }: CrashLab): unknown {
  if (!(reason instanceof CrashLabFailed)) return reason;
  const command = `make crash-lab ENGINE=${engine} SEED=${seed} CRASHES=${crashes} MOUNTS=${mounts}`;
  return new CrashLabFailed(`${reason.message}\nAgain: ${command}`);
}
