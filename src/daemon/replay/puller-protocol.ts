/** Bytes of a file of the mount that the kernel is to have in its page cache. */
export interface PulledRange {
  readonly path: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Told the puller; it answers `pulled` when the kernel has them all, or has failed to read them. */
export interface PullMessage {
  readonly pull: readonly PulledRange[];
}

export type PulledMessage = 'pulled';
