import { constants } from 'node:fs';
import type { FileSystem, InodeNumber, Recalled } from '../../../fs/index.js';
import { putEntry } from '../attributes.js';
import type { Exchange } from '../exchange.js';
import { fuse_create_in, fuse_entry_out, opcode } from '../protocol.js';
import type { References } from '../references.js';
import type { Files } from './files.js';
import { whenDone } from './when-done.js';

/** Opening again what was made must not make it or empty it again. */
const openingOnly = ~(constants.O_CREAT | constants.O_EXCL | constants.O_TRUNC);

/** Answers requests that an earlier process had carried out, and died before it could say so. */
export class Resent {
  readonly #fileSystem: FileSystem;
  readonly #references: References;
  readonly #files: Files;

  constructor(fileSystem: FileSystem, references: References, files: Files) {
    this.#fileSystem = fileSystem;
    this.#references = references;
    this.#files = files;
  }

  /** The answer that was lost; undefined where the request has to be handled like a new one. */
  answer(exchange: Exchange): number | Promise<number> | undefined {
    const recalled = this.#fileSystem.recall(exchange.unique);
    return recalled === undefined ? undefined : this.#answerAgain(exchange, recalled);
  }

  #answerAgain(exchange: Exchange, { inode, handle }: Recalled): number | Promise<number> | undefined {
    switch (exchange.opcode) {
      case opcode.UNLINK:
      case opcode.RMDIR:
      case opcode.RENAME:
      case opcode.RENAME2:
      case opcode.SETXATTR:
      case opcode.REMOVEXATTR:
        return 0;
      case opcode.MKDIR:
      case opcode.MKNOD:
      case opcode.SYMLINK:
      case opcode.LINK:
        return inode === undefined ? undefined : this.#putEntry(exchange, inode);
      case opcode.OPEN:
        return handle === undefined ? undefined : this.#files.putOpen(exchange, 0, handle);
      case opcode.CREATE: {
        if (inode === undefined) return undefined;
        const flags = exchange.uint32(fuse_create_in.at.flags) & openingOnly;
        this.#putEntry(exchange, inode);
        const opened = handle ?? this.#fileSystem.open(inode, flags, exchange.unique);
        return whenDone(
          opened,
          (again) => fuse_entry_out.bytes + this.#files.putOpen(exchange, fuse_entry_out.bytes, again),
        );
      }
      default:
        return undefined;
    }
  }

  #putEntry(exchange: Exchange, inode: InodeNumber): number {
    const attributes = this.#fileSystem.getAttributes(inode);
    this.#references.add(inode);
    return putEntry(exchange, 0, attributes);
  }
}
