import type { BlobId, BlobKind, BlobReference, PackId } from '../types.js';

/* What passes between the codec pool and its threads. */

export interface SealJob {
  readonly plaintext: Uint8Array;
  readonly kind: BlobKind;
  readonly packId: PackId;
  readonly counter: number;
  /** The blob that this place held before: the same plaintext need not be sealed again. */
  readonly unlessId?: BlobId;
}

export type SealOutcome =
  | { readonly outcome: 'zero' }
  | { readonly outcome: 'unchanged' }
  | { readonly outcome: 'sealed'; readonly id: BlobId; readonly sealed: Uint8Array };

export type ThreadJob =
  | ({ readonly work: 'seal' } & SealJob)
  | {
      readonly work: 'open';
      readonly sealed: Uint8Array;
      readonly reference: BlobReference;
      readonly kind: BlobKind;
    }
  | ({ readonly work: 'openFile' } & OpenFileJob);

export interface OpenFileJob {
  readonly path: string;
  /** Where the sealed bytes begin in the file. */
  readonly offsetBytes: number;
  readonly reference: BlobReference;
  readonly kind: BlobKind;
}

/** Error classes do not survive the way between threads, so damage travels as data. */
export type ThreadResult =
  | SealOutcome
  | { readonly outcome: 'opened'; readonly plaintext: Uint8Array }
  | { readonly outcome: 'damaged'; readonly key: string; readonly what: string }
  | { readonly outcome: 'unreadable' };
