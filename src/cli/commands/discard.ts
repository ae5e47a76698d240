import type { Command } from 'commander';
import { InvalidInput } from '../../base/index.js';
import { AlreadyMounted, settleDaemon } from '../../daemon/index.js';
import { discardVm, readLocalChanges } from '../../vm/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { exitCodes, type ExitCode } from '../exit-codes.js';
import { formatBytes, formatCount } from '../format.js';
import { ask } from '../passphrase.js';

interface Options {
  readonly yes?: true;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Drop this host's unpublished changes of an unmounted VM, and give its lease back. Asks first.",
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--yes', 'do not ask')
    .addHelpText('after', examples('isr discard web', 'isr discard web --yes'))
    .action(bind(discard));
}

async function discard(context: CommandContext, vmName: string, options: Options): Promise<ExitCode> {
  const target = await context.target(vmName);
  const found = await settleDaemon(await context.vmPaths(vmName), vmName);
  if (found.state === 'alive') throw new AlreadyMounted(vmName, found.record.mountPath);
  const { dirtyBytes, changedFiles } = await readLocalChanges(target);
  const what = `${formatBytes(dirtyBytes)} in ${formatCount(changedFiles, 'changed file')}`;
  if (changedFiles > 0 && options.yes !== true) {
    if (!(await confirmed(context, `Drop ${what} of ${vmName} for good? [y/N] `))) {
      context.output.remark('Nothing was dropped.');
      return exitCodes.cancelled;
    }
  }
  await discardVm(target);
  const leaseReleased = await releaseOwnLease(context, vmName);
  context.output.result(
    { vmName, dirtyBytes, changedFiles, leaseReleased },
    `${changedFiles === 0 ? `${vmName} had no unpublished changes on this host` : `Dropped ${what} of ${vmName}`}${leaseReleased ? '; its lease was given back' : ''}.`,
  );
  return exitCodes.ok;
}

async function confirmed(context: CommandContext, question: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new InvalidInput('Dropping changes must be confirmed, and there is no terminal to ask on.', {
      remedy: 'Add --yes if you are sure.',
    });
  }
  return /^y(es)?$/i.test((await ask(question, { echo: true, signal: context.signal })).trim());
}

/** The changes are gone whether or not the store answers; a lease that stays is said, not an error. */
async function releaseOwnLease(context: CommandContext, vmName: string): Promise<boolean> {
  try {
    const { history, head } = await context.log(vmName);
    const { identity } = await context.home();
    if (head.lease.state !== 'held' || head.lease.holder.hostId !== identity.hostId) return false;
    await history.releaseLease(await history.acquireLease(identity));
    await context.rememberSeen(history);
    // For when the store is away: the lease was given back, whether or not this is heard.
    await context.log(vmName).catch(() => undefined);
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    context.output.remark(`Note: the lease of ${vmName} was not given back: ${reason}`);
    return false;
  }
}
