import { limits, type ProgressListener } from '../base/index.js';

/** A listener that hears at most what a person can follow; always of the end, when `doneBytes` reaches `totalBytes`. */
export function throttled(listener: ProgressListener | undefined): ProgressListener {
  if (listener === undefined) return () => undefined;
  let lastReport = -Infinity;
  return (progress) => {
    const now = performance.now();
    if (now - lastReport < limits.progressIntervalMs && progress.doneBytes !== progress.totalBytes) return;
    lastReport = now;
    listener(progress);
  };
}
