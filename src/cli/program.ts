import { Command, CommanderError } from 'commander';
import type { Bind, CommandModule } from './command.js';
import type { GlobalOptions } from './context.js';
import { Usage } from './errors.js';
import { exitCodes, type ExitCode } from './exit-codes.js';
import { Output } from './output.js';

interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

/** Every command, in the order of `isr --help`. */
const commandTable: readonly CommandEntry[] = [
  {
    name: 'init',
    summary: 'create a repository and its key',
    load: () => import('./commands/init.js'),
  },
  {
    name: 'key',
    summary: "move a repository's key to another host",
    load: () => import('./commands/key.js'),
  },
  {
    name: 'import',
    summary: "publish a directory of state files as a VM's next version",
    load: () => import('./commands/import.js'),
  },
  {
    name: 'ls',
    summary: 'list the VMs of the repository',
    load: () => import('./commands/ls.js'),
  },
  {
    name: 'versions',
    summary: 'list the versions and branches of a VM',
    load: () => import('./commands/versions.js'),
  },
  {
    name: 'mount',
    summary: 'show a VM at its fixed path, its pieces fetched on demand',
    load: () => import('./commands/mount.js'),
  },
  {
    name: 'umount',
    summary: 'flush and unmount; unpublished changes stay on this host',
    load: () => import('./commands/umount.js'),
  },
  {
    name: 'status',
    summary: 'what this host has of its VMs, and how their mounts do',
    load: () => import('./commands/status.js'),
  },
  {
    name: 'upgrade',
    summary: 'let the isr that is installed now serve a mount',
    load: () => import('./commands/upgrade.js'),
  },
  {
    name: 'start',
    summary: 'mount a VM and boot it',
    load: () => import('./commands/start.js'),
  },
  {
    name: 'resume',
    summary: 'mount a VM and resume its guest on demand',
    load: () => import('./commands/resume.js'),
  },
  {
    name: 'suspend',
    summary: 'suspend the guest, publish what changed, unmount',
    load: () => import('./commands/suspend.js'),
  },
  {
    name: 'publish',
    summary: "publish this host's changes as the next version",
    load: () => import('./commands/publish.js'),
  },
  {
    name: 'discard',
    summary: "drop this host's unpublished changes",
    load: () => import('./commands/discard.js'),
  },
  {
    name: 'warm',
    summary: 'fetch ahead of use',
    load: () => import('./commands/warm.js'),
  },
  {
    name: 'explain',
    summary: 'what the last resume of a VM waited for, and why',
    load: () => import('./commands/explain.js'),
  },
  {
    name: 'trace',
    summary: 'what resumes of a VM touched, and when',
    load: () => import('./commands/trace.js'),
  },
  {
    name: 'cache',
    summary: "this host's cache: what it holds, evict, verify",
    load: () => import('./commands/cache.js'),
  },
  {
    name: 'export',
    summary: 'write a version out as plain files',
    load: () => import('./commands/export.js'),
  },
  {
    name: 'verify',
    summary: 'read and authenticate everything a version needs',
    load: () => import('./commands/verify.js'),
  },
  {
    name: 'lease',
    summary: 'who may publish the next version of a VM',
    load: () => import('./commands/lease.js'),
  },
];

/** Runs one command line and returns its exit code. Never throws. */
export async function runCommandLine(parameters: readonly string[], signal: AbortSignal): Promise<ExitCode> {
  const [first, second] = parameters;
  // `isr help key` is `isr key --help`: the command's own module knows its help.
  if (first === 'help') return runCommandLine(second === undefined ? ['--help'] : [second, '--help'], signal);
  let exitCode: ExitCode = exitCodes.ok;
  const json = parameters.includes('--json');
  const program = makeProgram(signal, json, (code) => (exitCode = code));
  try {
    await program.parseAsync(parameters, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.ok;
    const output = new Output({ json });
    return output.error(error instanceof CommanderError ? usageError(error, program) : error);
  }
}

function makeProgram(signal: AbortSignal, json: boolean, setExitCode: (code: ExitCode) => void): Command {
  const program = new Command('isr');
  program
    .description('Suspend a virtual machine here, resume it there before its state arrives.')
    .option('--repo <url>', 'the repository (default: $ISR_REPO, then the configuration)')
    .option('--home <directory>', "this host's state and cache (default: $ISR_HOME, then ~/.local/state/isr)")
    .option('--json', 'results and errors for machines')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    // Errors are written by Output; help that stands in for one would spoil the JSON.
    .configureOutput({ outputError: () => undefined, ...(json ? { writeErr: () => undefined } : {}) })
    .exitOverride()
    .addHelpText('after', programNotes);

  const bind: Bind =
    (action) =>
    async (...parameters) => {
      const options = program.opts<GlobalOptions>();
      const output = new Output({ json });
      // Loaded only now: help and mistakes need none of it.
      const { CommandContext } = await import('./context.js');
      const context = new CommandContext({ options, output, signal });
      try {
        setExitCode((await action(context, ...parameters)) ?? exitCodes.ok);
      } finally {
        await context[Symbol.asyncDispose]();
      }
    };

  const modules = new Map<string, CommandEntry>();
  for (const entry of commandTable) {
    program
      .command(entry.name)
      .summary(entry.summary)
      .description(sentence(entry.summary))
      .helpCommand(false);
    modules.set(entry.name, entry);
  }
  program.hook('preSubcommand', async (_program, command) => {
    const module = await modules.get(command.name())?.load();
    module?.configure(command, bind);
  });
  return program;
}

function usageError(error: CommanderError, program: Command): Usage {
  if (error.code === 'commander.help') {
    return new Usage('No command is given.', { remedy: 'isr --help lists the commands.' });
  }
  const message = error.message
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean (.*)\?\)$/, ' (did you mean $1?)');
  const command = program.args[0];
  const known = commandTable.some(({ name }) => name === command);
  return new Usage(sentence(message), {
    remedy: `Try: isr ${known ? `${command ?? ''} ` : ''}--help`,
  });
}

function sentence(text: string): string {
  const closed = /[.?!]$/.test(text) ? text : `${text}.`;
  return closed.charAt(0).toUpperCase() + closed.slice(1);
}

const programNotes = `
Examples:
  isr --repo file:///srv/isr init
  isr import web ./web --at /vms/web
  isr mount web
  isr status web

Exit codes:
  0 done                       5 damaged or untrustworthy data
  1 unexpected                 6 the store does not answer or refuses
  2 bad command line or input  7 the local disk is full
  3 not found                  8 key or passphrase missing or wrong
  4 conflict: lease, mount,    9 the hypervisor failed
    unpublished changes      130 cancelled

DEBUG=isr* in the environment traces what happens.`;
