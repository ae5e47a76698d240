import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { parseByteSize } from '../../base/index.js';
import { cacheContent, evictCache, verifyCache } from '../../fetch/index.js';
import type { RepositorySecrets } from '../../repo/index.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { formatBytes, formatFields } from '../format.js';

export function configure(command: Command, bind: Bind): void {
  command
    .description("This host's cache of sealed chunks, which all VMs share. Safe while VMs are mounted.")
    .addHelpText('after', examples('isr cache ls', 'isr cache evict --to 5G', 'isr cache verify'));
  command
    .command('ls')
    .description('Say what it holds, and its limit.')
    .addHelpText('after', examples('isr cache ls', 'isr cache ls --json'))
    .action(bind(list));
  command
    .command('evict')
    .description('Delete what was not used for longest until less than a size is left (default: everything).')
    .option('--to <size>', 'what may be left, as 5G', parseSize, 0)
    .addHelpText('after', examples('isr cache evict --to 5G', 'isr cache evict'))
    .action(bind(evict));
  command
    .command('verify')
    .description("Open every entry with this host's keys; delete those that do not open.")
    .addHelpText('after', examples('isr cache verify', 'isr cache verify --json'))
    .action(bind(verify));
}

async function list(context: CommandContext): Promise<undefined> {
  const { cachePath, configuration } = await context.home();
  const content = await cacheContent(cachePath);
  const limitBytes = configuration.localCacheBytes;
  context.output.result(
    { cachePath, limitBytes, ...content },
    formatFields([
      ['Directory', cachePath],
      ['Holds', `${formatBytes(content.bytes)} of at most ${formatBytes(limitBytes)}`],
      ['Chunks', describe(content.kinds.chunk)],
      ['Map nodes', describe(content.kinds['map-node'])],
      ['Manifests', describe(content.kinds.manifest)],
    ]),
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

async function verify(context: CommandContext): Promise<undefined> {
  const { cachePath } = await context.home();
  const result = await verifyCache(cachePath, await allSecrets(context), { signal: context.signal });
  context.output.result(
    { cachePath, ...result },
    `Opened ${countEntries(result.entries)} (${formatBytes(result.bytes)}), and deleted ${result.deleted} that did not open with any key of this host.`,
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
  return count === 1 ? '1 entry' : `${count} entries`;
}

function parseSize(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It must be a size such as "5G".');
  return bytes;
}
