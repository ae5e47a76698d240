import { join } from 'node:path';
import type { EngineName } from '../../src/fuse/index.js';

/** What `serve` is told on its command line. */
export interface ServeConfig {
  readonly engine: EngineName;
  readonly threads: number | undefined;
  /** Everything of this server is below it; made by it. */
  readonly root: string;
  /** Its files are published as the version, and copied into the overlay. */
  readonly dataDirectory: string;
}

/** Where a server's things are below its root. */
export function servedPaths(root: string): {
  readonly decoded: string;
  readonly sealed: string;
  readonly overlay: string;
  readonly localCache: string;
} {
  return {
    decoded: join(root, 'decoded'),
    sealed: join(root, 'sealed'),
    overlay: join(root, 'overlay-decoded'),
    localCache: join(root, 'cache'),
  };
}

/** Prefixed to the name of a file's copy in the overlay. */
export const overlayPrefix = 'overlay-';
