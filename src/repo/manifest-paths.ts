const rootNumber = 1;

/** What of a manifest, or of a source of one, says where things are. */
export interface DirectoryTree {
  readonly inodes: ReadonlyMap<
    number,
    | { readonly kind: 'directory'; readonly entries: ReadonlyMap<string, number> }
    | { readonly kind: 'file' | 'symlink' | 'fifo' }
  >;
}

/** Where each inode is within the VM directory, without a slash in front; the root is `.`. Of several names the first. */
export function manifestPaths(manifest: DirectoryTree): ReadonlyMap<number, string> {
  const paths = new Map([[rootNumber, '.']]);
  const unvisited: { readonly number: number; readonly prefix: string }[] = [
    { number: rootNumber, prefix: '' },
  ];
  for (let next = unvisited.pop(); next !== undefined; next = unvisited.pop()) {
    const directory = manifest.inodes.get(next.number);
    if (directory?.kind !== 'directory') continue;
    for (const [name, number] of directory.entries) {
      if (paths.has(number)) continue;
      paths.set(number, next.prefix + name);
      unvisited.push({ number, prefix: `${next.prefix}${name}/` });
    }
  }
  return paths;
}
