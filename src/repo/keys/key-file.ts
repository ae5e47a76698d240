import {
  createCipheriv,
  createDecipheriv,
  createHash,
  randomBytes,
  scrypt,
  type ScryptOptions,
} from 'node:crypto';
import { promisify } from 'node:util';
import * as v from 'valibot';
import { InvalidKeyFile, UnknownFormat, WrongPassphrase } from '../errors.js';
import { hex16, hex32 } from '../format/schemas.js';
import { formatVersion } from '../format/version.js';
import { decodeSecrets, encodeSecrets, type RandomBytes, type RepositorySecrets } from './secrets.js';

const scryptKey = promisify<string, Uint8Array, number, ScryptOptions, Buffer>(scrypt);

const fileFormat = 'isr-key';
const algorithm = 'aes-256-gcm';
const tagBytes = 16;
const keyFileBytesMax = 16 * 1024;

/** About half a second and 128 MiB for each guess of the passphrase. */
const scryptParameters = { cost: 2 ** 17, blockSize: 8, parallelization: 1 } as const;

/** scrypt needs 128 * cost * blockSize bytes: what a file may ask of us. */
const scryptMemoryMax = 512 * 1024 * 1024;

const small = (max: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(max));

const keyFileSchema = v.strictObject({
  format: v.literal(fileFormat),
  version: v.literal(formatVersion),
  repositoryId: hex16,
  scrypt: v.pipe(
    v.strictObject({
      cost: small(2 ** 24),
      blockSize: small(64),
      parallelization: small(16),
      salt: hex32,
    }),
    v.check(
      ({ cost, blockSize }) =>
        cost > 1 && Number.isInteger(Math.log2(cost)) && 128 * cost * blockSize <= scryptMemoryMax,
    ),
  ),
  nonce: v.pipe(v.string(), v.regex(/^[0-9a-f]{24}$/)),
  sealed: v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{2}){16,4096}$/)),
  checksum: hex32,
});

type KeyFile = v.InferOutput<typeof keyFileSchema>;

/** A key file: the secrets under a passphrase (scrypt, AES-256-GCM), as JSON text. */
export async function exportKey(
  secrets: RepositorySecrets,
  passphrase: string,
  options: { readonly randomBytes?: RandomBytes } = {},
): Promise<Uint8Array> {
  const random = options.randomBytes ?? randomBytes;
  const open = {
    format: fileFormat,
    version: formatVersion,
    repositoryId: secrets.repositoryId,
    scrypt: { ...scryptParameters, salt: toHex(random(32)) },
    nonce: toHex(random(12)),
  } as const;
  const cipher = createCipheriv(algorithm, await passphraseKey(passphrase, open.scrypt), fromHex(open.nonce));
  cipher.setAAD(associatedData(open));
  const sealed = toHex(
    Buffer.concat([cipher.update(encodeSecrets(secrets)), cipher.final(), cipher.getAuthTag()]),
  );
  const file: KeyFile = { ...open, sealed, checksum: checksum({ ...open, sealed }) };
  return Buffer.from(`${JSON.stringify(file, undefined, 2)}\n`, 'utf8');
}

/**
 * The secrets in a key file. `UnknownFormat` for a newer file; `InvalidKeyFile` for anything that no passphrase opens
 * (a checksum tells damage from a wrong passphrase); `WrongPassphrase`.
 */
export async function importKey(file: Uint8Array, passphrase: string): Promise<RepositorySecrets> {
  const parsed = parseKeyFile(file);
  const sealed = fromHex(parsed.sealed);
  const decipher = createDecipheriv(
    algorithm,
    await passphraseKey(passphrase, parsed.scrypt),
    fromHex(parsed.nonce),
  );
  decipher.setAAD(associatedData(parsed));
  decipher.setAuthTag(sealed.subarray(-tagBytes));
  const encoded = decipher.update(sealed.subarray(0, -tagBytes));
  try {
    decipher.final();
  } catch {
    throw new WrongPassphrase();
  }
  const secrets = decodeSecrets(encoded);
  if (secrets.repositoryId !== parsed.repositoryId) {
    throw new InvalidKeyFile('it names another repository than its content does');
  }
  return secrets;
}

function parseKeyFile(file: Uint8Array): KeyFile {
  if (file.length > keyFileBytesMax) throw new InvalidKeyFile('it is far too long for a key file');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(file));
  } catch (error) {
    throw new InvalidKeyFile('it is not JSON', { cause: error });
  }
  const claim = v.safeParse(v.object({ format: v.literal(fileFormat), version: v.number() }), value);
  if (!claim.success) throw new InvalidKeyFile('it is not an isr key file');
  if (claim.output.version !== formatVersion) {
    throw new UnknownFormat('The key file', claim.output.version, formatVersion);
  }
  const result = v.safeParse(keyFileSchema, value);
  if (!result.success) throw new InvalidKeyFile('a part of it is missing or wrong');
  if (checksum(result.output) !== result.output.checksum) {
    throw new InvalidKeyFile('it was damaged: its checksum does not match');
  }
  return result.output;
}

type OpenPart = Pick<KeyFile, 'format' | 'version' | 'repositoryId' | 'scrypt' | 'nonce'>;

/** Everything beside the sealed part, in one line of text. */
function associatedData(file: OpenPart): Uint8Array {
  const { cost, blockSize, parallelization, salt } = file.scrypt;
  const words = [
    file.format,
    file.version,
    file.repositoryId,
    cost,
    blockSize,
    parallelization,
    salt,
    file.nonce,
  ];
  return Buffer.from(words.join(' '), 'latin1');
}

function checksum(file: OpenPart & Pick<KeyFile, 'sealed'>): string {
  return createHash('sha256').update(associatedData(file)).update(fromHex(file.sealed)).digest('hex');
}

/** The passphrase in Unicode normal form C, so that keyboards that compose letters differently agree. */
async function passphraseKey(passphrase: string, parameters: KeyFile['scrypt']): Promise<Uint8Array> {
  const { cost, blockSize, parallelization, salt } = parameters;
  return scryptKey(passphrase.normalize('NFC'), fromHex(salt), 32, {
    cost,
    blockSize,
    parallelization,
    // Node counts a little more than the algorithm's own need.
    maxmem: 2 * scryptMemoryMax,
  });
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function fromHex(hex: string): Buffer {
  return Buffer.from(hex, 'hex');
}
