import type { Fetcher } from '../fetch/index.js';
import type { Manifest, Trace } from '../repo/index.js';

/** What to have on this host. */
export type WarmScope =
  /** What the next resume will want: what the trace names, or, without one, what the last session wrote. */
  | { readonly kind: 'working-set' }
  /** Every file; what is likely to be wanted first comes first. */
  | { readonly kind: 'all' }
  | {
      readonly kind: 'file';
      /** Within the VM's directory. */
      readonly path: string;
      /** Undefined: all of it. May go past its end. */
      readonly range: { readonly offsetBytes: number; readonly lengthBytes: number } | undefined;
    };

export interface WarmRequest {
  readonly scope: WarmScope;
  /** When to stop, in milliseconds since 1970: a repeated request must not begin to count anew. */
  readonly deadlineAtMs?: number | undefined;
  /** A directory that becomes a lookaside place: absolute. What is wanted is put there too. */
  readonly to?: string | undefined;
  /** Eviction is to leave it alone: see `pinBlobs`. */
  readonly pin?: boolean | undefined;
}

/**
 * Why a chunk is wanted, most likely first: the next resume will touch it (`trace`); earlier ones did (`seen`); hypervisor and
 * file system need it whatever the guest does (`small` files); the last session wrote it; or it is just there.
 */
export type WarmStage = 'trace' | 'seen' | 'small' | 'written' | 'rest' | 'file';

export interface StageResult {
  readonly stage: WarmStage;
  readonly chunks: number;
  readonly fetchedChunks: number;
  /** Sealed bytes of the fetched chunks. */
  readonly fetchedBytes: number;
}

export interface WarmResult {
  readonly chunks: number;
  readonly fetchedChunks: number;
  readonly fetchedBytes: number;
  /** In the order in which they came. */
  readonly stages: readonly StageResult[];
  /** `deadline`: the time was up before everything was here. What came stays. */
  readonly ended: 'complete' | 'deadline';
  readonly seconds: number;
}

/** The version that is made local, and what is known of it. */
export interface WarmVersion {
  readonly manifest: Manifest;
  /** Of its repository. */
  readonly chunkBytes: number;
  /** Chunks come through it, into its local cache. */
  readonly fetcher: Fetcher;
  /** Undefined where no resume was recorded, or with chunks of another size. */
  readonly trace: Trace | undefined;
  /** The version that this one was made from; undefined if there is none any more. Asked when it matters. */
  readonly earlier: () => Promise<Manifest | undefined>;
}
