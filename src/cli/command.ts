import type { Command } from 'commander';
import type { CommandContext } from './context.js';
import type { ExitCode } from './exit-codes.js';

/** What a command does; anything but success is an exit code or an error. */
export type Action<Arguments extends readonly unknown[]> = (
  context: CommandContext,
  ...parameters: Arguments
) => Promise<ExitCode | undefined>;

/** Makes an action of ours into one of commander's: with a context, and with errors and exit codes handled. */
export type Bind = <Arguments extends readonly unknown[]>(
  action: Action<Arguments>,
) => (...parameters: Arguments) => Promise<void>;

/** The module of a command: loaded only when that command runs. */
export interface CommandModule {
  /** Adds arguments, options, help and action to the (empty) command. */
  configure(command: Command, bind: Bind): void;
}

/** Text for the end of a help page. */
export function examples(...lines: readonly string[]): string {
  return ['', 'Examples:', ...lines.map((line) => `  ${line}`)].join('\n');
}
