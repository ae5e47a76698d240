import type { Command } from 'commander';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeHost, describeLease } from '../describe.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description('Who may publish the next version of a VM.')
    .addHelpText('after', examples('isr lease show web', 'isr lease break web'));
  command
    .command('show')
    .description('Say who holds the lease, and since when.')
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr lease show web', 'isr lease show web --json'))
    .action(bind(showLease));
  command
    .command('break')
    .description(
      'Take the lease over for this host, for instance from one that will not come back. What its former holder publishes later becomes a branch.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .addHelpText('after', examples('isr lease break web', 'isr lease break web && isr resume web'))
    .action(bind(breakLease));
}

async function showLease(context: CommandContext, vmName: string): Promise<undefined> {
  const { head } = await context.logOfExisting(vmName);
  const { identity } = await context.home();
  const heldHere = head.lease.state === 'held' && head.lease.holder.hostId === identity.hostId;
  context.output.result(
    { vmName, lease: head.lease, heldHere },
    head.lease.state === 'free'
      ? `The lease of ${vmName} is free: the next host that mounts it gets it.`
      : `The lease of ${vmName} is held by ${describeLease(head.lease, identity)}.`,
  );
}

async function breakLease(context: CommandContext, vmName: string): Promise<undefined> {
  const { history, head } = await context.logOfExisting(vmName);
  const { identity } = await context.home();
  const before = head.lease;
  await history.acquireLease(identity, { takeOver: true });
  await context.rememberSeen(history);
  const { head: after } = await context.log(vmName);
  const taken = before.state === 'held' && before.holder.hostId !== identity.hostId;
  context.output.result(
    { vmName, lease: after.lease, takenFrom: taken ? before.holder : null },
    taken
      ? `This host now holds the lease of ${vmName}. What ${describeHost(before.holder)} publishes from now on becomes a branch.`
      : `This host holds the lease of ${vmName}; nobody else did.`,
  );
}
