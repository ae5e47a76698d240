import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { parseByteSize } from '../../base/index.js';
import {
  cacheContent,
  CachePinsFull,
  evictCache,
  listPins,
  pinnedBytes,
  pinnedBytesMax,
  removeDamagedPins,
  verifyCache,
} from '../../fetch/index.js';
import type { RepositorySecrets } from '../../repo/index.js';
import { parseVmName } from '../arguments.js';
import { describePins, pin, unpin } from '../cache-pins.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { formatBytes, formatCount, formatFields } from '../format.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description("This host's cache of sealed chunks, which all VMs share. Safe while VMs are mounted.")
    .addHelpText('after', examples('isr cache ls', 'isr cache pin web', 'isr cache limit 50G'));
  command
    .command('ls')
    .description('Say what it holds, its limit, and what is pinned.')
    .addHelpText('after', examples('isr cache ls', 'isr cache ls --json'))
    .action(bind(list));
  command
    .command('evict')
    .description(
      'Delete what was not used for longest, and is not pinned, until less than a size is left (default: all of that).',
    )
    .option('--to <size>', 'what may be left, as 5G', parseSize, 0)
    .addHelpText('after', examples('isr cache evict --to 5G', 'isr cache evict'))
    .action(bind(evict));
  command
    .command('pin')
    .description(
      'Keep a version of a VM: eviction never takes what is here of it, nor what comes later. Fetches nothing. The pin of the newest version moves when it is pinned again.',
    )
    .argument('<vm>', 'name of the VM', parseVmName)
    .option('--version <version>', 'a version or branch (default: the newest)')
    .option('--local', 'only what is here now')
    .addHelpText(
      'after',
      examples('isr cache pin web', 'isr cache pin web --local', 'isr cache pin web --version 3'),
    )
    .action(bind(pin));
  command
    .command('unpin')
    .description('Let eviction have what was pinned of a VM. Deletes nothing.')
    .argument('[vm]', 'name of the VM', parseVmName)
    .option('--version <version>', 'only the pin of this version or branch')
    .option('--all', 'every pin')
    .addHelpText('after', examples('isr cache unpin web', 'isr cache unpin --all'))
    .action(bind(unpin));
  command
    .command('limit')
    .description('Say how large the cache may become, or set it; running daemons obey.')
    .argument('[size]', 'a size, as 50G', parseSize)
    .addHelpText('after', examples('isr cache limit', 'isr cache limit 50G'))
    .action(bind(limit));
  command
    .command('verify')
    .description("Open every entry with this host's keys; delete those that are damaged.")
    .addHelpText('after', examples('isr cache verify', 'isr cache verify --json'))
    .action(bind(verify));
}

async function list(context: CommandContext): Promise<undefined> {
  const { cachePath, configuration } = await context.home();
  const content = await cacheContent(cachePath);
  const limitBytes = configuration.localCacheBytes;
  const pins = await listPins(cachePath);
  const pinned = { bytes: pinnedBytes(cachePath), bytesMax: pinnedBytesMax(limitBytes) };
  const fields = formatFields([
    ['Directory', cachePath],
    ['Holds', `${formatBytes(content.bytes)} of at most ${formatBytes(limitBytes)}`],
    ['Chunks', describe(content.kinds.chunk)],
    ['Map nodes', describe(content.kinds['map-node'])],
    ['Manifests', describe(content.kinds.manifest)],
    ['Deltas', describe(content.kinds.delta)],
    ['Pinned', `${formatBytes(pinned.bytes)} of at most ${formatBytes(pinned.bytesMax)}`],
  ]);
  context.output.result(
    { cachePath, limitBytes, ...content, pinned, pins },
    pins.length === 0 ? fields : `${fields}\n\n${describePins(pins)}`,
  );
}

async function evict(context: CommandContext, options: { readonly to: number }): Promise<undefined> {
  const { cachePath } = await context.home();
  const result = evictCache(cachePath, options.to);
  context.output.result(
    { cachePath, ...result },
    result.outcome === 'skipped'
      ? 'Another process is evicting entries now.'
      : `Deleted ${countEntries(result.evictedEntries)} (${formatBytes(result.evictedBytes)}); ${formatBytes(result.totalBytes)} are left.`,
  );
}

async function limit(context: CommandContext, sizeBytes: number | undefined): Promise<undefined> {
  const home = await context.home();
  const { cachePath } = home;
  const before = home.configuration.localCacheBytes;
  if (sizeBytes === undefined) {
    context.output.result({ limitBytes: before }, `The cache may take ${formatBytes(before)}.`);
    return undefined;
  }
  const wantedBytes = pinnedBytes(cachePath);
  const maxBytes = pinnedBytesMax(sizeBytes);
  if (wantedBytes > maxBytes)
    throw CachePinsFull.underLimit({ limitBytes: sizeBytes, wantedBytes, maxBytes });
  await home.setLocalCacheBytes(sizeBytes);
  const swept = evictCache(cachePath, sizeBytes);
  const evictedBytes = swept.outcome === 'swept' ? swept.evictedBytes : 0;
  context.output.result(
    { limitBytes: sizeBytes, limitBytesBefore: before, evictedBytes },
    `The cache may take ${formatBytes(sizeBytes)} from now on (before: ${formatBytes(before)})` +
      (evictedBytes === 0 ? '.' : `; ${formatBytes(evictedBytes)} were deleted.`),
  );
  return undefined;
}

async function verify(context: CommandContext): Promise<undefined> {
  const { cachePath } = await context.home();
  const result = await verifyCache(cachePath, await allSecrets(context), { signal: context.signal });
  const damagedPins = await removeDamagedPins(cachePath);
  const remarks = [
    result.unknown === 0
      ? ''
      : ` ${countEntries(result.unknown)} could not be checked and stay: the key of their repository is not here.`,
    damagedPins === 0 ? '' : ` ${formatCount(damagedPins, 'pin')} could not be read and were removed.`,
  ];
  context.output.result(
    { cachePath, ...result, damagedPins },
    `Looked at ${countEntries(result.entries)} (${formatBytes(result.bytes)}), and deleted ${result.deleted} that were damaged.${remarks.join('')}`,
  );
}

async function allSecrets(context: CommandContext): Promise<RepositorySecrets[]> {
  const home = await context.home();
  const names = await readdir(join(home.path, 'keys')).catch(() => []);
  const ids = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
  return Promise.all(ids.map((id) => home.loadSecrets(id)));
}

function describe({ entries, bytes }: { readonly entries: number; readonly bytes: number }): string {
  return `${countEntries(entries)}, ${formatBytes(bytes)}`;
}

function countEntries(count: number): string {
  return formatCount(count, 'entry', 'entries');
}

function parseSize(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It must be a size such as "5G".');
  return bytes;
}
