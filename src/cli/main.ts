/** The entry point of the `isr` command. Loads as little as it can: most of a short command is start-up. */
import { readFileSync } from 'node:fs';
import { takeDebugFromEnvironment } from './debug.js';

async function main(parameters: readonly string[]): Promise<void> {
  if (parameters[0] === '--version' || parameters[0] === '-V') {
    process.stdout.write(`${packageVersion()}\n`);
    return;
  }
  await takeDebugFromEnvironment();
  const { runCommandLine } = await import('./program.js');
  exitQuietlyOnBrokenPipe();
  process.exitCode = await runCommandLine(parameters, cancelOnSignal());
}

/**
 * The first Ctrl-C (or SIGTERM, or the end of the terminal) cancels the command, which then cleans up; the second ends
 * the process.
 */
function cancelOnSignal(): AbortSignal {
  const controller = new AbortController();
  const cancel = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on('SIGINT', cancel).on('SIGTERM', cancel).on('SIGHUP', cancel);
  return controller.signal;
}

/** `isr ls | head -1` is not an error, and a terminal that is gone is no reason to break off. */
function exitQuietlyOnBrokenPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    if (error.code !== 'EIO') throw error;
  });
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EIO' && error.code !== 'EPIPE') throw error;
  });
}

function packageVersion(): string {
  const path = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { readonly version: string }).version;
}

void main(process.argv.slice(2));
