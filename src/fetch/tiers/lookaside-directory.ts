import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InvalidInput } from '../../base/index.js';
import { usageFile } from '../local-cache/layout.js';

/** Within the home of a host. */
const cacheInHome = join('cache', 'v1');

/** The local cache that a directory is, or has in it as the home of a host does. */
export function cacheAt(directory: string): string | undefined {
  return [directory, join(directory, cacheInHome)].find((path) => existsSync(join(path, usageFile)));
}

/**
 * Where the local cache lies that makes a directory a lookaside place (see `openTier`): itself where it is empty, a directory in
 * it where other things are. `InvalidInput` for a copy of a repository, and where the directory above is missing.
 */
export function lookasideDirectory(directory: string): string {
  const known = cacheAt(directory);
  if (known !== undefined) return known;
  if (!existsSync(dirname(directory))) {
    throw new InvalidInput(`There is no ${dirname(directory)} to make a lookaside directory in.`, {
      facts: { path: directory },
      remedy: 'Is its disk mounted?',
    });
  }
  if (statSync(join(directory, 'isr'), { throwIfNoEntry: false })?.isFile() === true) {
    throw new InvalidInput(`${directory} is a copy of a repository already.`, {
      facts: { path: directory },
      remedy: 'It can be used with --tier as it is; name another directory to fill.',
    });
  }
  const isEmpty = !existsSync(directory) || readdirSync(directory).length === 0;
  return isEmpty ? directory : join(directory, cacheInHome);
}
