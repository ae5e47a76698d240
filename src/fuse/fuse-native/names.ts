import {
  FileSystemError,
  rootInode,
  type Attributes,
  type FileSystem,
  type InodeNumber,
} from '../../fs/index.js';

/** What libfuse 2 renames an open file to instead of unlinking it: node number and a counter, so never twice the same. */
const hiddenName = /^\.fuse_hidden[0-9a-f]{16}$/;

interface HiddenFile {
  readonly inode: InodeNumber;
  readonly parent: InodeNumber;
}

export interface Place {
  readonly parent: InodeNumber;
  readonly name: string;
}

/**
 * Finds inodes by path, as libfuse 2 names them.
 *
 * libfuse never unlinks a file that is open: it renames it to a hidden name, goes on to use that name for the open
 * file, and unlinks it after the last close. The file system knows better how to keep an unlinked file alive, so the
 * name is really removed at once and the hidden name exists only in this table: nobody sees it, and no crash leaves
 * it behind. A rename over an open file comes as two requests, this one and then the rename: programs see one step,
 * but a crash between them leaves the new file under its old name and the old one gone.
 */
export class Names {
  readonly #fileSystem: FileSystem;
  readonly #hidden = new Map<string, HiddenFile>();

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  /** The inode that a path names. */
  inode(path: string): InodeNumber {
    if (path === '/') return rootInode;
    const place = this.place(path);
    return this.#hidden.get(place.name)?.inode ?? this.lookup(place).inode;
  }

  /** The directory and the name in it that a path ends with; the name need not exist. */
  place(path: string): Place {
    // The addon decodes names with replacement characters, which would name another file.
    if (path.includes('\ufffd')) throw new FileSystemError('EILSEQ', 'The path is not UTF-8.');
    const [name = '', ...parents] = path.slice(1).split('/').reverse();
    const parent = parents.reduceRight(
      (directory, segment) => this.#fileSystem.lookup(directory, segment).inode,
      rootInode,
    );
    return { parent, name };
  }

  lookup({ parent, name }: Place): Attributes {
    return this.#fileSystem.lookup(parent, name);
  }

  /** Whether a rename within one directory is libfuse's way to unlink an open file. */
  isHiding(from: Place, to: Place): boolean {
    return from.parent === to.parent && hiddenName.test(to.name);
  }

  isHidden(path: string): boolean {
    return this.#hidden.size > 0 && this.#hidden.has(path.slice(path.lastIndexOf('/') + 1));
  }

  hide(inode: InodeNumber, hiddenPlace: Place): void {
    this.#hidden.set(hiddenPlace.name, { inode, parent: hiddenPlace.parent });
  }

  /** Forgets a hidden name; false if there is none. */
  unhide(name: string): boolean {
    return this.#hidden.delete(name);
  }

  /** Forgets the hidden names of an inode that nobody has open any more. */
  unhideInode(inode: InodeNumber): void {
    for (const [name, file] of this.#hidden) if (file.inode === inode) this.#hidden.delete(name);
  }

  /** libfuse cannot reach an open file whose directory is gone, so the directory must stay as long. */
  checkNothingHiddenIn(directory: InodeNumber): void {
    for (const file of this.#hidden.values()) {
      if (file.parent === directory) {
        throw new FileSystemError('ENOTEMPTY', 'The directory holds a file that is unlinked but still open.');
      }
    }
  }
}
