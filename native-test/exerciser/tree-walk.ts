import { lstatSync, readdirSync, readFileSync, readlinkSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { setTimes, userAttributes } from '../../src/system/index.js';
import { digest, kindOf } from './tree-operations.js';

/** A line an entry: its path, and everything about it that a copy keeps. */
export type Snapshot = readonly string[];

interface Walked {
  readonly path: string;
  readonly stats: BigIntStats;
}

/**
 * Reads a whole tree. Requires what holds for every tree that nobody changes: a file has as many links as names, a
 * directory as many as it has directories in it and two more, and a file as many bytes as its size says.
 * @throws Error naming what does not hold
 */
export function walkTree(root: string, options: { readonly countsDirectoryLinks: boolean }): Snapshot {
  const entries = walk(root, '');
  const first = new Map<bigint, string>();
  const namesOf = new Map<bigint, number>();
  for (const { path, stats } of entries) {
    if (!first.has(stats.ino)) first.set(stats.ino, path);
    namesOf.set(stats.ino, (namesOf.get(stats.ino) ?? 0) + 1);
  }
  return entries.map(({ path, stats }) => {
    const full = join(root, path);
    if (!stats.isDirectory() && Number(stats.nlink) !== namesOf.get(stats.ino)) {
      throw new Error(`${full} has ${stats.nlink} links and ${namesOf.get(stats.ino) ?? 0} names`);
    }
    if (stats.isDirectory() && options.countsDirectoryLinks) requireDirectoryLinks(full, stats);
    const { mode, uid, gid, mtimeNs } = stats;
    const attributes = [...userAttributes(full)].map(([name, value]) => `${name}=${digest(value)}`).join();
    const linked = first.get(stats.ino) ?? '';
    return [
      path,
      kindOf(stats),
      mode.toString(8),
      `${uid}:${gid}`,
      mtimeNs,
      contentOf(full, stats),
      attributes,
      linked === path ? '' : `= ${linked}`,
    ].join(' | ');
  });
}

/** Gives everything a time that only its path says, so that copies can be compared in it. */
export function settleTimes(root: string, resolutionNs: number): void {
  for (const { path } of walk(root, '').reverse()) {
    // Linked names have one time, the last.
    const timeNs = Buffer.from(path).reduce(mixByte, 7) * resolutionNs;
    setTimes(join(root, path), BigInt(timeNs), BigInt(timeNs));
  }
}

function mixByte(sum: number, byte: number): number {
  return (sum * 31 + byte) % 2 ** 33;
}

/** Parents before children, in the order of names. The root itself is not among them. */
export function walk(root: string, directory: string): Walked[] {
  const walked: Walked[] = [];
  for (const name of readdirSync(join(root, directory)).sort()) {
    const path = join(directory, name);
    const stats = lstatSync(join(root, path), { bigint: true });
    walked.push({ path, stats });
    if (stats.isDirectory()) walked.push(...walk(root, path));
  }
  return walked;
}

function requireDirectoryLinks(path: string, stats: BigIntStats): void {
  const directories = readdirSync(path, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  ).length;
  if (Number(stats.nlink) !== directories + 2) {
    throw new Error(`${path} has ${stats.nlink} links and ${directories} directories in it`);
  }
}

function contentOf(path: string, stats: BigIntStats): string {
  if (stats.isSymbolicLink()) return `-> ${readlinkSync(path)}`;
  if (!stats.isFile()) return '';
  const content = readFileSync(path);
  if (BigInt(content.length) !== stats.size) {
    throw new Error(`${path} has ${content.length} bytes, and a size of ${stats.size}`);
  }
  return `${content.length} ${digest(content)}`;
}
