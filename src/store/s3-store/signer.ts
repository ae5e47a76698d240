import { createHash, createHmac } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SignatureV4 } from '@smithy/signature-v4';
import { limits } from '../../base/index.js';

export interface UnsignedRequest {
  readonly method: string;
  readonly hostname: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly headers: Record<string, string>;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** Keeps what it has found until that expires, unless it is told to look again. */
export type CredentialsProvider = (options?: { readonly forceRefresh?: boolean }) => Promise<S3Credentials>;

export interface S3Signer {
  /** The headers, with the credentials' proof. Throws when there are no credentials. */
  sign(request: UnsignedRequest): Promise<Record<string, string>>;
  /** Looks for credentials again: those in use were refused. */
  refresh(): Promise<void>;
}

export function makeSigner(region: string, credentials: CredentialsProvider): S3Signer {
  const signer = new SignatureV4({
    credentials: () => credentials(),
    region,
    service: 's3',
    sha256: Sha256,
    uriEscapePath: false,
    applyChecksum: false,
  });
  return {
    // The protocol is no part of what is signed.
    sign: async (request) => (await signer.sign({ protocol: 'https:', ...request })).headers,
    refresh: async () => {
      await credentials({ forceRefresh: true });
    },
  };
}

export const emptyBodyHash = createHash('sha256').digest('hex');

/**
 * What the store compares with what arrived: an object that a bad memory or link has changed on its way is never stored.
 * Done in turns, so that whoever shares the thread need not wait for a whole pack.
 */
export async function hashBody(parts: readonly Uint8Array[]): Promise<string> {
  const hash = createHash('sha256');
  let hashedBytes = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += limits.s3HashStepBytes) {
      const piece = part.subarray(at, at + limits.s3HashStepBytes);
      hash.update(piece);
      hashedBytes += piece.length;
      if (hashedBytes < limits.s3HashStepBytes) continue;
      hashedBytes = 0;
      await nextTurn();
    }
  }
  return hash.digest('hex');
}

/** The hash as the signer wants it: keyed, if it has a secret. */
class Sha256 {
  readonly #hash: { update(data: Uint8Array): unknown; digest(): Uint8Array };

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', keyOf(secret));
  }

  update(data: Uint8Array): void {
    this.#hash.update(data);
  }

  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }

  reset(): void {
    throw new Error('a hash is used once');
  }
}

function keyOf(secret: string | ArrayBuffer | ArrayBufferView): string | Uint8Array {
  if (typeof secret === 'string') return secret;
  if (!ArrayBuffer.isView(secret)) return new Uint8Array(secret);
  return new Uint8Array(secret.buffer, secret.byteOffset, secret.byteLength);
}
