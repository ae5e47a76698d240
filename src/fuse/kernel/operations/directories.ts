import {
  FileSystemError,
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type InodeNumber,
} from '../../../fs/index.js';
import { putEntry } from '../attributes.js';
import type { Exchange, Handlers } from '../exchange.js';
import {
  direntAlignment,
  fuse_dirent,
  fuse_direntplus,
  fuse_entry_out,
  fuse_open_out,
  fuse_read_in,
  fuse_release_in,
} from '../protocol.js';
import type { References } from '../references.js';
import { transferBytesMax } from '../sizes.js';

/** `st_mode` has the type of a directory entry (`DT_DIR` and so on) in its upper bits. */
const typeShift = 12;
const directoryType = 0o040000 >> typeShift;

interface OpenDirectory {
  readonly inode: InodeNumber;
  /** The entries when they were last read from the start: positions in them hold while names come and go. */
  entries: readonly DirectoryEntry[];
}

/** The open directories of a mount, and the requests that read them. */
export class Directories {
  readonly handlers: Handlers = {
    OPENDIR: (exchange) => this.#openDirectory(exchange),
    READDIR: (exchange) => this.#read(exchange, false),
    READDIRPLUS: (exchange) => this.#read(exchange, true),
    RELEASEDIR: (exchange) => {
      exchange.require(fuse_release_in);
      this.#open.delete(exchange.uint64(fuse_release_in.at.fh));
      return 0;
    },
  };

  readonly #fileSystem: FileSystem;
  readonly #references: References;
  readonly #open = new Map<number, OpenDirectory>();
  #lastHandle = 0;

  constructor(fileSystem: FileSystem, references: References) {
    this.#fileSystem = fileSystem;
    this.#references = references;
  }

  #openDirectory(exchange: Exchange): number {
    this.#lastHandle += 1;
    this.#open.set(this.#lastHandle, { inode: exchange.nodeid, entries: [] });
    const { at, bytes } = fuse_open_out;
    exchange.putZeros(0, bytes);
    exchange.putUint64(at.fh, this.#lastHandle);
    return bytes;
  }

  /** Puts as many entries as the kernel has room for. Each carries the position of the one after it. */
  #read(exchange: Exchange, withAttributes: boolean): number {
    exchange.require(fuse_read_in);
    const { at } = fuse_read_in;
    const directory = this.#open.get(exchange.uint64(at.fh));
    if (directory === undefined) throw new FileSystemError('EBADF', 'The directory is not open.');
    const sizeBytes = Math.min(exchange.uint32(at.size), transferBytesMax);
    const position = exchange.uint64(at.offset);
    if (position === 0) directory.entries = this.#fileSystem.readDirectory(directory.inode);
    exchange.reserve(sizeBytes);
    let used = 0;
    for (let index = position; index < directory.entries.length + 2; index++) {
      const bytes = this.#put(exchange, used, sizeBytes, directory, index, withAttributes);
      if (bytes === 0) break;
      used += bytes;
    }
    return used;
  }

  /** Puts the entry at a position, if it fits; returns the bytes that it takes. */
  #put(
    exchange: Exchange,
    from: number,
    sizeBytes: number,
    directory: OpenDirectory,
    index: number,
    withAttributes: boolean,
  ): number {
    // The directory itself and its parent come first.
    const entry = directory.entries[index - 2];
    const name = Buffer.from(entry?.name ?? (index === 0 ? '.' : '..'));
    const dirent = withAttributes ? fuse_direntplus.at.dirent : 0;
    const unaligned = dirent + fuse_dirent.bytes + name.length;
    const bytes = Math.ceil(unaligned / direntAlignment) * direntAlignment;
    if (from + bytes > sizeBytes) return 0;

    const { at } = fuse_dirent;
    const own = index === 0 ? directory.inode : this.#parentOf(directory.inode);
    exchange.putUint64(from + dirent + at.ino, entry?.attributes.inode ?? own);
    exchange.putUint64(from + dirent + at.off, index + 1);
    exchange.putUint32(from + dirent + at.namelen, name.length);
    exchange.putUint32(
      from + dirent + at.type,
      entry === undefined ? directoryType : entry.attributes.mode >>> typeShift,
    );
    exchange.putBytes(from + dirent + fuse_dirent.bytes, name);
    exchange.putZeros(from + unaligned, bytes - unaligned);
    if (withAttributes) this.#putLookup(exchange, from, directory.inode, entry?.name);
    return bytes;
  }

  /** A listing with attributes is also a lookup of each name: as of now, since the kernel will believe it. */
  #putLookup(exchange: Exchange, from: number, directory: InodeNumber, name: string | undefined): void {
    const attributes = name === undefined ? undefined : this.#lookupIfThere(directory, name);
    if (attributes === undefined) {
      exchange.putZeros(from, fuse_entry_out.bytes);
      return;
    }
    this.#references.add(attributes.inode);
    putEntry(exchange, from, attributes);
  }

  #lookupIfThere(directory: InodeNumber, name: string): Attributes | undefined {
    try {
      return this.#fileSystem.lookup(directory, name);
    } catch (error) {
      if (error instanceof FileSystemError) return undefined;
      throw error;
    }
  }

  #parentOf(directory: InodeNumber): InodeNumber {
    return this.#fileSystem.parentOf(directory);
  }
}
