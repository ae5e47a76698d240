import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import type { MountRequest } from '../daemon/index.js';
import type { Configuration } from '../host/index.js';
import { defaultEngine } from '../fuse/index.js';
import { parseEngine, parseMountPath } from './arguments.js';

/** Options of every command that mounts. */
export interface MountOptions {
  readonly at?: string;
  readonly version?: string;
  readonly ephemeral?: true;
  readonly engine?: string;
  readonly allowOther?: true;
  readonly tier?: readonly string[];
  readonly trickle?: boolean;
  readonly fill?: boolean;
}

export function addMountOptions(command: Command): Command {
  return command
    .option('--at <path>', 'mount here instead of at the path that the version says', parseMountPath)
    .option('--version <version>', 'a version number or the name of a branch (default: the newest version)')
    .option('--ephemeral', 'take no lease; changes are thrown away at unmount')
    .option('--engine <name>', 'what carries kernel requests: kernel (default on Linux) or fuse-native')
    .addOption(tierOption())
    .option('--trickle', 'while it is mounted, upload changes that have been quiet ahead of the next publish')
    .option('--no-trickle', 'do not (default, unless `trickle` in config.toml says otherwise)')
    .option(
      '--fill',
      'while it is mounted, bring all of the version onto this host in the background, after what a resume wants',
    )
    .option('--no-fill', 'do not (default, unless `fill` in config.toml says otherwise)')
    .option('--allow-other', 'other users of this host may use the mount');
}

export function mountRequest(
  vmName: string,
  options: MountOptions,
  configuration: Configuration,
): MountRequest {
  return {
    vmName,
    mountPath: options.at,
    version: options.version,
    ephemeral: options.ephemeral === true,
    engine: parseEngine(options.engine ?? configuration.engine ?? defaultEngine),
    allowOther: options.allowOther === true,
    tiers: (options.tier ?? []).map(placeOfTier),
    trickle:
      (options.trickle ?? configuration.trickle)
        ? { bytesPerSecond: configuration.trickleBytesPerSecond }
        : undefined,
    fill:
      (options.fill ?? configuration.fill) ? { bytesPerSecond: configuration.fillBytesPerSecond } : undefined,
  };
}

/** `--tier`, as often as wanted. */
export function tierOption(): Option {
  return new Option(
    '--tier <place>',
    'look here before asking the store: a copy of the repository (directory or URL), or the local cache of another host; may be repeated',
  ).argParser((place: string, earlier: readonly string[] | undefined) => [...(earlier ?? []), place]);
}

/** The daemon has another working directory. */
export function placeOfTier(place: string): string {
  return /^[a-z][a-z0-9+.-]*:/i.test(place) ? place : resolve(place);
}
