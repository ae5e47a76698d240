import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { objectionToPart, type Content } from './remains.js';
import { walk } from './tree-walk.js';

/**
 * Makes an operation on a tree of which a part may have been made on another. Where a file of the other has legal content
 * that lies between what the operation found and what it left, the tree's has the same afterwards.
 */
export function adoptTornFile(foundRoot: string, root: string, make: () => void): void {
  const before = contentsOf(root);
  make();
  for (const [path, after] of contentsOf(root)) {
    const foundPath = join(foundRoot, path);
    if (!existsSync(foundPath) || !lstatSync(foundPath).isFile()) continue;
    const found = asContent(readFileSync(foundPath));
    if (found.bytes.equals(after.bytes)) continue;
    // It may have been made, or emptied, before it was written.
    const starts = [before.get(path) ?? empty, empty];
    const isPart = starts.some(
      (start) => objectionToPart(found, { before: start, after, atomicity: 'pages' }) === undefined,
    );
    if (isPart) writeFileSync(join(root, path), found.bytes);
  }
}

const empty = asContent(Buffer.alloc(0));

function asContent(bytes: Buffer): Content {
  return { bytes, sizeBytes: bytes.length };
}

function contentsOf(root: string): ReadonlyMap<string, Content> {
  return new Map(
    walk(root, '')
      .filter(({ stats }) => stats.isFile())
      .map(({ path }) => [path, asContent(readFileSync(join(root, path)))]),
  );
}
