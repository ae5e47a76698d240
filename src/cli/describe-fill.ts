import type { DaemonStatus } from '../daemon/index.js';
import { formatBytes, formatCount } from './format.js';

/** How far all of the version is on this host, and whether it needs the store no more. */
export function describeFill(
  fill: NonNullable<DaemonStatus['fill']>,
  { chunks: residency }: Pick<DaemonStatus, 'chunks'>,
): string {
  const { state, chunks, bytes, doneChunks, doneBytes, problem } = fill;
  const progress =
    chunks === undefined || bytes === undefined
      ? formatCount(doneChunks, 'chunk')
      : `${doneChunks} of ${formatCount(chunks, 'chunk')}, ${formatBytes(doneBytes)} of ${formatBytes(bytes)}`;
  switch (state) {
    case 'waiting':
      return `waits for a replay or a publish to be over: ${progress}`;
    case 'counting':
      return withProblem('counts what there is', problem);
    case 'filling':
      return withProblem(progress, problem);
    case 'complete': {
      const lost = residency === undefined ? 0 : residency.total - residency.local;
      return lost > 0
        ? `was complete: ${progress}; ${formatCount(lost, 'chunk is', 'chunks are')} not here any more`
        : `complete: ${progress}; the VM runs without the store`;
    }
    case 'stopped':
      return `stopped: ${problem?.message ?? ''}${problem?.remedy === undefined ? '' : ` ${problem.remedy}`}`;
  }
}

function withProblem(progress: string, problem: NonNullable<DaemonStatus['fill']>['problem']): string {
  return problem === undefined
    ? progress
    : `${progress}; the last try failed, and another follows: ${problem.message}`;
}
