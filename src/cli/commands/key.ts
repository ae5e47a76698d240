import { open, readFile } from 'node:fs/promises';
import { addAbortSignal } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { Command } from 'commander';
import { systemErrorCode } from '../../base/index.js';
import { exportKey, importKey, Repository } from '../../repo/index.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { FileExists } from '../errors.js';
import { readPassphrase } from '../passphrase.js';

interface ExportOptions {
  readonly readOnly?: true;
  readonly passphraseFile?: string;
}

interface ImportOptions {
  readonly passphraseFile?: string;
}

export function configure(command: Command, bind: Bind): void {
  command
    .description("Move a repository's key to another host, protected by a passphrase.")
    .addHelpText('after', examples('isr key export isr.key', 'isr key import isr.key'));
  command
    .command('export')
    .description('Write the key, encrypted with a passphrase, to a new file or to the standard output.')
    .argument('[file]', 'where to write it; left out: the standard output')
    .option('--read-only', 'a key that can read everything and publish nothing')
    .option(
      '--passphrase-file <file>',
      'read the passphrase from a file (default: $ISR_PASSPHRASE, then ask)',
    )
    .addHelpText(
      'after',
      examples('isr key export isr.key', 'isr key export --read-only | ssh laptop isr key import -'),
    )
    .action(bind(exportKeyFile));
  command
    .command('import')
    .description('Keep a key that another host exported.')
    .argument('<file>', 'the exported key; - is the standard input')
    .option(
      '--passphrase-file <file>',
      'read the passphrase from a file (default: $ISR_PASSPHRASE, then ask)',
    )
    .addHelpText(
      'after',
      examples('isr key import isr.key', 'ISR_PASSPHRASE=... isr --repo file:///srv/isr key import isr.key'),
    )
    .action(bind(importKeyFile));
}

async function exportKeyFile(
  context: CommandContext,
  file: string | undefined,
  options: ExportOptions,
): Promise<undefined> {
  const home = await context.home();
  const repositoryId = await context.repositoryId();
  const secrets = await home.loadSecrets(repositoryId);
  const passphrase = await readPassphrase({
    passphraseFile: options.passphraseFile,
    confirm: true,
    signal: context.signal,
  });
  const readOnly = options.readOnly === true || secrets.signingSeed === undefined;
  const exported = await exportKey(readOnly ? { ...secrets, signingSeed: undefined } : secrets, passphrase);
  if (file === undefined) {
    process.stdout.write(`${Buffer.from(exported).toString('utf8').trimEnd()}\n`);
    return;
  }
  await writeNewFile(file, exported);
  context.output.result(
    { repositoryId, file, readOnly },
    `Wrote the ${readOnly ? 'read-only ' : ''}key of repository ${repositoryId} to ${file}. Whoever has the file and the passphrase can ${readOnly ? 'read' : 'read and publish'} everything.`,
  );
}

async function importKeyFile(
  context: CommandContext,
  file: string,
  options: ImportOptions,
): Promise<undefined> {
  const home = await context.home();
  const bytes =
    file === '-' ? await buffer(addAbortSignal(context.signal, process.stdin)) : await readFile(file);
  const passphrase = await readPassphrase({
    passphraseFile: options.passphraseFile,
    confirm: false,
    signal: context.signal,
  });
  const secrets = await importKey(bytes, passphrase);
  const { repositoryId } = secrets;
  const url = await context.repositoryUrlIfNamed();
  if (url !== undefined) {
    const store = await context.store({ create: false });
    const header = await Repository.readHeader(store);
    if (header.repositoryId === repositoryId) {
      // A wrong key is found here, not at the first resume.
      await (await Repository.open(store, secrets, { codecThreads: 1 }))[Symbol.asyncDispose]();
      await home.rememberRepository(url, header);
    } else {
      context.output.remark(
        `Note: this is the key of repository ${repositoryId}, but ${store.description} is repository ${header.repositoryId}.`,
      );
    }
  }
  await home.saveSecrets(secrets);
  const readOnly = secrets.signingSeed === undefined;
  context.output.result(
    { repositoryId, readOnly },
    `This host can now ${readOnly ? 'read' : 'read and publish'} repository ${repositoryId}.`,
  );
}

async function writeNewFile(path: string, content: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw systemErrorCode(error) === 'EEXIST' ? new FileExists(path) : error;
  });
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}
