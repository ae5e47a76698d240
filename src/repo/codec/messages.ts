import type { BlobId, BlobKind, BlobReference, PackId } from '../types.js';

/* What passes between the codec pool and its threads. */

export interface SealJob {
  readonly plaintext: Uint8Array;
  readonly kind: BlobKind;
  readonly packId: PackId;
  readonly counter: number;
  /** The blob that this place held before: the same plaintext need not be sealed again. */
  readonly unlessId?: BlobId;
  /** What that blob held: the outcome then has a delta to it, where that is much shorter. */
  readonly base?: Uint8Array | undefined;
}

export type SealOutcome =
  | { readonly outcome: 'zero' }
  | { readonly outcome: 'unchanged' }
  | {
      readonly outcome: 'sealed';
      readonly id: BlobId;
      readonly sealed: Uint8Array;
      /** The plaintext of a delta. */
      readonly delta?: Uint8Array;
    };

export type ThreadJob =
  | ({ readonly work: 'seal' } & SealJob)
  | {
      readonly work: 'open';
      readonly sealed: Uint8Array;
      readonly reference: BlobReference;
      readonly kind: BlobKind;
    }
  | ({ readonly work: 'openFile' } & OpenFileJob)
  | { readonly work: 'keep'; readonly blobs: readonly KeepJob[] }
  | { readonly work: 'look'; readonly paths: readonly string[] };

export interface OpenFileJob {
  readonly path: string;
  /** Where the sealed bytes begin in the file. */
  readonly offsetBytes: number;
  readonly reference: BlobReference;
  readonly kind: BlobKind;
}

/** Sealed bytes for a file of their own. */
export interface KeepJob {
  readonly sealed: Uint8Array;
  readonly reference: BlobReference;
  readonly kind: BlobKind;
  readonly path: string;
  /** Where the file is written, to get its name when it is whole; beside it, on the same file system. */
  readonly temporaryPath: string;
  /** What the file has before and after the sealed bytes. */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** `there`: the file is there already. `unwritable`: the bytes come back. */
export type KeepOutcome =
  | { readonly outcome: 'kept' }
  | { readonly outcome: 'there' }
  | { readonly outcome: 'damaged'; readonly key: string; readonly what: string }
  | { readonly outcome: 'unwritable'; readonly sealed: Uint8Array };

/** Error classes do not survive the way between threads, so damage travels as data. */
export type ThreadResult =
  | SealOutcome
  | { readonly outcome: 'opened'; readonly plaintext: Uint8Array }
  | { readonly outcome: 'damaged'; readonly key: string; readonly what: string }
  | { readonly outcome: 'unreadable' }
  | { readonly outcome: 'keeping'; readonly blobs: readonly KeepOutcome[] }
  | { readonly outcome: 'looked'; readonly areThere: readonly boolean[] };
