import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isObjectKey, type ObjectInfo, type ObjectKey } from '../object-store.js';

/** Files whose sizes are asked for at once: hides the round trips of a network file system. */
const statsAtOnce = 32;

/** Makes a system call; undefined when its path is not there although the root is. */
export type IfThere = <T>(call: () => Promise<T>) => Promise<T | undefined>;

/**
 * Objects under `prefix` in key order. Holds the names of one directory a level. Files that are no objects
 * (temporaries, `lost+found`) are passed over.
 */
export async function* walk(
  root: string,
  prefix: string,
  after: ObjectKey | undefined,
  ifThere: IfThere,
): AsyncGenerator<ObjectInfo, void, undefined> {
  const entries = (await ifThere(() => readEntries(join(root, prefix), prefix))) ?? [];
  const wanted = after === undefined ? entries : entries.filter((entry) => mayHoldKeysAfter(entry, after));
  for (let first = 0; first < wanted.length; first += statsAtOnce) {
    const group = wanted.slice(first, first + statsAtOnce);
    const files = await Promise.all(
      group.map(async (entry) =>
        entry.isDirectory ? undefined : ifThere(() => stat(join(root, entry.key))),
      ),
    );
    for (const [index, { key, sortKey, isDirectory }] of group.entries()) {
      const file = files[index];
      if (isDirectory) yield* walk(root, sortKey, after, ifThere);
      else if (file !== undefined) yield { key, lengthBytes: file.size };
    }
  }
}

interface Entry {
  readonly key: ObjectKey;
  /** The key, or for a directory the prefix of the keys in it: in this order, keys ascend. */
  readonly sortKey: string;
  readonly isDirectory: boolean;
}

function mayHoldKeysAfter(entry: Entry, after: string): boolean {
  return entry.sortKey > after || (entry.isDirectory && after.startsWith(entry.sortKey));
}

async function readEntries(path: string, prefix: string): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for (const found of await readdir(path, { withFileTypes: true })) {
    const key = prefix + found.name;
    const isDirectory = found.isDirectory();
    if (isObjectKey(key) && (isDirectory || found.isFile()))
      entries.push({ key, sortKey: isDirectory ? `${key}/` : key, isDirectory });
  }
  return entries.sort((left, right) => (left.sortKey < right.sortKey ? -1 : 1));
}
