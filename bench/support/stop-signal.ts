/** Aborted when somebody wants this process to end: what runs is given up and cleaned up. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => {
      stop.abort(new Error(`stopped by ${name}`));
    });
  return stop.signal;
}
