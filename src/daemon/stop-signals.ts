/** What tells a daemon to unmount and end, whichever of its processes gets it. */
export const stopSignals: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];
