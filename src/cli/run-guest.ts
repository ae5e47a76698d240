import type { RunOptions, RunResult, VmTarget } from '../vm/index.js';
import type { Action } from './command.js';
import { describeWithoutStore } from './describe.js';
import { formatSeconds } from './format.js';
import { mountRequest, type MountOptions } from './mount-options.js';

/** The action of `start` and `resume`: they differ in the sequence only. */
export function runGuest(
  sequence: (target: VmTarget, options: RunOptions) => Promise<RunResult>,
): Action<[vmName: string, options: MountOptions & { readonly prefetch?: boolean }]> {
  return async (context, vmName, options) => {
    const target = await context.target(vmName);
    const { mountPath, runDirectory, seconds } = await sequence(target, {
      ...mountRequest(vmName, options, target.home.configuration),
      ...(options.prefetch === undefined ? {} : { prefetch: options.prefetch }),
      signal: context.signal,
      onWithoutStore: (about) => context.output.remark(describeWithoutStore(vmName, about)),
      onStep: (step) => context.output.remark(`${vmName}: ${step}`),
    });
    context.output.result(
      { vmName, mountPath, runDirectory, seconds },
      `${vmName} runs, ${formatSeconds(seconds)} after the command. Its directory is ${mountPath}; its console and sockets are in ${runDirectory}.`,
    );
    return undefined;
  };
}
