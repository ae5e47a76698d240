import { limits, type ProgressListener } from '../base/index.js';

/** A listener that hears at most what a person can follow; always of the end, when `doneBytes` reaches `totalBytes`. */
export function throttled(listener: ProgressListener | undefined): ProgressListener {
  if (listener === undefined) return () => undefined;
  let lastReport = -Infinity;
  let ended = false;
  return (progress) => {
    const now = performance.now();
    const ends = progress.doneBytes === progress.totalBytes;
    if (ends ? ended : now - lastReport < limits.progressIntervalMs) return;
    ended = ends;
    lastReport = now;
    listener(progress);
  };
}
