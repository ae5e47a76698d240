import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { Cancelled, InvalidInput } from '../base/index.js';

export interface PassphraseOptions {
  readonly passphraseFile: string | undefined;
  /** Asks twice: a passphrase that is mistyped once would make the key useless. */
  readonly confirm: boolean;
  readonly signal: AbortSignal;
}

/** From `--passphrase-file`, else `ISR_PASSPHRASE`, else asked for on the terminal without echo. */
export async function readPassphrase(options: PassphraseOptions): Promise<string> {
  const passphrase = await findPassphrase(options);
  if (passphrase === '') throw new InvalidInput('The passphrase is empty.');
  return passphrase;
}

async function findPassphrase({ passphraseFile, confirm, signal }: PassphraseOptions): Promise<string> {
  if (passphraseFile !== undefined) return (await readFile(passphraseFile, 'utf8')).replace(/\r?\n$/, '');
  const given = process.env['ISR_PASSPHRASE'];
  if (given !== undefined) return given;
  if (!process.stdin.isTTY) {
    throw new InvalidInput('A passphrase is needed, and there is no terminal to ask for it.', {
      remedy: 'Give it in ISR_PASSPHRASE or with --passphrase-file FILE.',
    });
  }
  const passphrase = await ask('Passphrase: ', { echo: false, signal });
  if (confirm && (await ask('The same again: ', { echo: false, signal })) !== passphrase) {
    throw new InvalidInput('The two passphrases differ.');
  }
  return passphrase;
}

/** Asks on the terminal; the question goes to stderr. Ctrl-C and end of input cancel. */
export async function ask(
  question: string,
  options: { readonly echo: boolean; readonly signal: AbortSignal },
): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({
    input: process.stdin,
    output: options.echo ? process.stderr : silent,
    terminal: true,
  });
  // After the interface has taken the terminal: what is typed from now on is not echoed.
  if (!options.echo) process.stderr.write(question);
  const cancel = (): void => lines.close();
  options.signal.addEventListener('abort', cancel, { once: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('SIGINT', cancel);
      lines.once('close', () => reject(new Cancelled('The question')));
      lines.question(options.echo ? question : '', resolve);
    });
  } finally {
    options.signal.removeEventListener('abort', cancel);
    lines.close();
    if (!options.echo) process.stderr.write('\n');
  }
}
