import type { FileInode } from './inode.js';

/** Told when a chunk of the version was wanted for the first time. Must not throw. */
export type TouchListener = (path: string, chunkIndex: number) => void;

/** Finds, among the reads of a mount, the first of each chunk of the version. */
export class FirstTouches {
  readonly #listener: TouchListener;
  readonly #pathOf: (file: FileInode) => string;
  readonly #seen = new WeakMap<FileInode, Set<number>>();

  constructor(listener: TouchListener, pathOf: (file: FileInode) => string) {
    this.#listener = listener;
    this.#pathOf = pathOf;
  }

  /** The range was read, and not for a replay. What the overlay has of it, and zeros, need nothing of the version. */
  note(file: FileInode, offsetBytes: number, lengthBytes: number): void {
    const { content } = file;
    if (!content.baseHasData) return;
    const seen = this.#seen.get(file);
    for (const chunkIndex of content.baseChunks(offsetBytes, lengthBytes)) {
      if (seen?.has(chunkIndex) === true) continue;
      this.#seenOf(file).add(chunkIndex);
      this.#listener(this.#pathOf(file), chunkIndex);
    }
  }

  #seenOf(file: FileInode): Set<number> {
    let seen = this.#seen.get(file);
    if (seen === undefined) this.#seen.set(file, (seen = new Set()));
    return seen;
  }
}
