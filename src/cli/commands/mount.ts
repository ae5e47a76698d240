import type { Command } from 'commander';
import { AlreadyMounted, mountVm, serveMount, settleDaemon, type MountRequest } from '../../daemon/index.js';
import { parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { describeWithoutStore } from '../describe.js';
import { addMountOptions, mountRequest, type MountOptions } from '../mount-options.js';

interface Options extends MountOptions {
  readonly foreground?: true;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      "Show a VM's directory at its fixed path. Returns when it is usable; its pieces are fetched when they are touched.",
    )
    .argument('<vm>', 'name of the VM', parseVmName);
  addMountOptions(command)
    .option('--foreground', 'serve the mount in this process until Ctrl-C')
    .addHelpText(
      'after',
      examples(
        'isr mount web',
        'isr mount web --version 3 --ephemeral --at /tmp/web-3',
        'isr mount web --foreground',
      ),
    )
    .action(bind(mount));
}

async function mount(context: CommandContext, vmName: string, options: Options): Promise<undefined> {
  const home = await context.home();
  const request = mountRequest(vmName, options, home.configuration);
  if (options.foreground === true) {
    await mountInForeground(context, request);
    return;
  }
  const target = await context.target(vmName);
  const { mountPath } = await mountVm({
    ...{ ...target, mount: request, signal: context.signal },
    onWithoutStore: (about) => context.output.remark(describeWithoutStore(vmName, about)),
  });
  reportMounted(context, request, mountPath);
}

async function mountInForeground(context: CommandContext, request: MountRequest): Promise<void> {
  const { home, repositoryId, repositoryUrl } = await context.target(request.vmName);
  const paths = await home.makeVmPaths(repositoryId, request.vmName);
  const found = await settleDaemon(paths, request.vmName);
  if (found.state === 'alive') throw new AlreadyMounted(request.vmName, found.record.mountPath);
  await serveMount({ home, repositoryUrl, mount: request, signal: context.signal }, (mounted) => {
    if (mounted.withoutStore !== undefined)
      context.output.remark(describeWithoutStore(request.vmName, mounted.withoutStore));
    reportMounted(context, request, mounted.mountPath);
  });
}

function reportMounted(context: CommandContext, request: MountRequest, mountPath: string): void {
  const { vmName, ephemeral } = request;
  context.output.result(
    { vmName, mountPath, ephemeral },
    `${vmName} is mounted at ${mountPath}${ephemeral ? '; changes will be thrown away' : ''}.`,
  );
}
