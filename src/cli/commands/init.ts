import type { Command } from 'commander';
import { Repository } from '../../repo/index.js';
import { parseChunkSize } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { formatBytes } from '../format.js';

interface Options {
  readonly chunkSize?: number;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description(
      'Create a repository in a store, and keep its key on this host. A repository that is there is left alone.',
    )
    .option('--chunk-size <size>', 'the unit of fetching and encryption (default: 128K)', parseChunkSize)
    .addHelpText(
      'after',
      examples(
        'isr --repo file:///srv/isr init',
        'isr --repo s3://bucket/prefix init',
        'ISR_REPO=file:///media/usb/isr isr init --chunk-size 256K',
      ),
    )
    .action(bind(init));
}

async function init(context: CommandContext, { chunkSize }: Options): Promise<undefined> {
  const home = await context.home();
  const url = await context.repositoryUrl();
  const store = await context.store({ create: true });
  const { codecThreads } = home.configuration;
  const { repository } = await Repository.create(store, {
    codecThreads,
    keepSecrets: (secrets) => home.saveSecrets(secrets),
    ...(chunkSize === undefined ? {} : { chunkBytes: chunkSize }),
  });
  await using _ = repository;
  const { repositoryId } = repository.header;
  await home.rememberRepository(url, repository.header);
  const keyPath = home.keyPath(repositoryId);
  const { chunkBytes } = repository.header;
  context.output.result(
    { repositoryId, store: store.description, chunkBytes, keyPath },
    [
      `Created repository ${repositoryId} in ${store.description} (chunks of ${formatBytes(chunkBytes)}).`,
      `Its key is in ${keyPath}. Without the key nobody can read it, you included: keep a copy with \`isr key export\`.`,
    ].join('\n'),
  );
}
