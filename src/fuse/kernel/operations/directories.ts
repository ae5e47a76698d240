import { FileSystemError, type Attributes, type FileSystem, type InodeNumber } from '../../../fs/index.js';
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

/** Handles of one process and the next that serves a mount must differ. */
const handlesPerLife = 2 ** 32;

interface OpenDirectory {
  readonly inode: InodeNumber;
  /** The entries when they were last read from the start, so that a listing does not see names come. */
  entries: readonly ListedEntry[] | undefined;
}

/** What is listed, with its position: the kernel asks for what comes after it. */
interface ListedEntry {
  readonly name: string;
  readonly position: number;
  /** Undefined for the directory itself and its parent. */
  readonly attributes: Attributes | undefined;
}

/**
 * The open directories of a mount, and the requests that read them. Positions are hashes of the names, so that a
 * listing neither loses nor repeats a name when it goes on in another process, or while names come and go.
 */
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
  readonly #firstHandle: number;
  #lastHandle: number;

  /** `life` counts the processes that served the mount before: directories that they opened are open. */
  constructor(fileSystem: FileSystem, references: References, life: number) {
    this.#fileSystem = fileSystem;
    this.#references = references;
    this.#lastHandle = life * handlesPerLife;
    this.#firstHandle = this.#lastHandle + 1;
  }

  #openDirectory(exchange: Exchange): number {
    this.#lastHandle += 1;
    this.#open.set(this.#lastHandle, { inode: exchange.nodeid, entries: undefined });
    const { at, bytes } = fuse_open_out;
    exchange.putZeros(0, bytes);
    exchange.putUint64(at.fh, this.#lastHandle);
    return bytes;
  }

  #openedAs(handle: number, inode: InodeNumber): OpenDirectory {
    let directory = this.#open.get(handle);
    if (directory === undefined) {
      if (handle === 0 || handle >= this.#firstHandle) {
        throw new FileSystemError('EBADF', 'The directory is not open.');
      }
      directory = { inode, entries: undefined };
      this.#open.set(handle, directory);
    }
    return directory;
  }

  /** Puts as many entries as the kernel has room for. Each carries its position. */
  #read(exchange: Exchange, withAttributes: boolean): number {
    exchange.require(fuse_read_in);
    const { at } = fuse_read_in;
    const directory = this.#openedAs(exchange.uint64(at.fh), exchange.nodeid);
    const sizeBytes = Math.min(exchange.uint32(at.size), transferBytesMax);
    const position = exchange.uint64(at.offset);
    if (position === 0 || directory.entries === undefined) {
      directory.entries = this.#list(directory.inode);
    }
    const { entries } = directory;
    exchange.reserve(sizeBytes);
    let used = 0;
    for (let first = firstAfter(entries, position); first < entries.length;) {
      // Entries of one position go together: the kernel could not ask for the second alone.
      let next = first;
      let groupBytes = 0;
      for (; next < entries.length && entries[next]?.position === entries[first]?.position; next++) {
        groupBytes += entryBytes(entries[next], withAttributes);
      }
      if (used + groupBytes > sizeBytes) break;
      for (const entry of entries.slice(first, next)) {
        used += this.#put(exchange, used, directory.inode, entry, withAttributes);
      }
      first = next;
    }
    return used;
  }

  #list(inode: InodeNumber): readonly ListedEntry[] {
    const entries = this.#fileSystem.readDirectory(inode).map(({ name, attributes }) => ({
      name,
      attributes,
      position: positionOf(name),
    }));
    entries.sort((one, other) => one.position - other.position);
    const itself = { name: '.', attributes: undefined, position: 1 };
    return [itself, { ...itself, name: '..', position: 2 }, ...entries];
  }

  /** Puts an entry, for which there is room; returns the bytes that it takes. */
  #put(
    exchange: Exchange,
    from: number,
    directory: InodeNumber,
    entry: ListedEntry,
    withAttributes: boolean,
  ): number {
    const name = Buffer.from(entry.name);
    const dirent = withAttributes ? fuse_direntplus.at.dirent : 0;
    const unaligned = dirent + fuse_dirent.bytes + name.length;
    const bytes = entryBytes(entry, withAttributes);

    const { at } = fuse_dirent;
    const own = entry.name === '.' ? directory : this.#parentOf(directory);
    exchange.putUint64(from + dirent + at.ino, entry.attributes?.inode ?? own);
    exchange.putUint64(from + dirent + at.off, entry.position);
    exchange.putUint32(from + dirent + at.namelen, name.length);
    exchange.putUint32(
      from + dirent + at.type,
      entry.attributes === undefined ? directoryType : entry.attributes.mode >>> typeShift,
    );
    exchange.putBytes(from + dirent + fuse_dirent.bytes, name);
    exchange.putZeros(from + unaligned, bytes - unaligned);
    if (withAttributes) {
      this.#putLookup(exchange, from, directory, entry.attributes === undefined ? undefined : entry.name);
    }
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

function entryBytes(entry: ListedEntry | undefined, withAttributes: boolean): number {
  const dirent = withAttributes ? fuse_direntplus.at.dirent : 0;
  const unaligned = dirent + fuse_dirent.bytes + Buffer.byteLength(entry?.name ?? '');
  return Math.ceil(unaligned / direntAlignment) * direntAlignment;
}

/** Where the entries after a position begin. */
function firstAfter(entries: readonly ListedEntry[], position: number): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle]?.position ?? 0) <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

const firstPosition = 3;
const lowRange = 2 ** 32;
const highMask = 2 ** 19 - 1;

/** A hash of a name with 51 bits, so that it is exact as a number: two FNV-1a sums, mixed. */
function positionOf(name: string): number {
  let low = 0x811c9dc5;
  let high = 0xcbf29ce4;
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code ^ (low >>> 15), 0x0001b3a5);
  }
  low = Math.imul(low ^ (low >>> 16), 0x85ebca6b);
  high = Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
  return firstPosition + ((high ^ (high >>> 16)) & highMask) * lowRange + ((low ^ (low >>> 13)) >>> 0);
}
