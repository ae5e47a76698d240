import { createRequire } from 'node:module';
import type koffiModule from 'koffi';
import { SystemCallError } from '../../src/system/index.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
const library = koffi.load(null);

const functions = {
  renameat2: library.func(
    'int renameat2(int from_directory, const char *from, int to_directory, const char *to, uint32_t flags)',
  ) as (fromDirectory: number, from: string, toDirectory: number, to: string, flags: number) => number,
  lsetxattr: library.func(
    'int lsetxattr(const char *path, const char *name, const void *value, size_t bytes, int flags)',
  ) as (path: string, name: string, value: Uint8Array, bytes: number, flags: number) => number,
  lgetxattr: library.func(
    'int64_t lgetxattr(const char *path, const char *name, void *value, size_t bytes)',
  ) as (path: string, name: string, value: Uint8Array, bytes: number) => number,
  llistxattr: library.func('int64_t llistxattr(const char *path, void *list, size_t bytes)') as (
    path: string,
    list: Uint8Array,
    bytes: number,
  ) => number,
  lremovexattr: library.func('int lremovexattr(const char *path, const char *name)') as (
    path: string,
    name: string,
  ) => number,
};

const workingDirectory = -100;

/** `flags` of renameat2(2). */
export const renameFlags = { replace: 0, noReplace: 1, exchange: 2 } as const;

/** `flags` of setxattr(2). */
export const attributeFlags = { either: 0, create: 1, replace: 2 } as const;

function checked(name: string, result: number): number {
  if (result < 0) throw new SystemCallError(name, koffi.errno());
  return result;
}

/** @throws SystemCallError */
export function rename(from: string, to: string, flags: number): void {
  checked('renameat2', functions.renameat2(workingDirectory, from, workingDirectory, to, flags));
}

/** Of a symbolic link itself, as are the other three. @throws SystemCallError */
export function setAttribute(path: string, name: string, value: Uint8Array, flags: number): void {
  checked('lsetxattr', functions.lsetxattr(path, name, value, value.length, flags));
}

/** @throws SystemCallError */
export function getAttribute(path: string, name: string, bytesMax: number): Uint8Array {
  const value = Buffer.alloc(bytesMax);
  return value.subarray(0, checked('lgetxattr', functions.lgetxattr(path, name, value, bytesMax)));
}

/** Sorted. @throws SystemCallError */
export function listAttributes(path: string): readonly string[] {
  const list = Buffer.alloc(65_536);
  const bytes = checked('llistxattr', functions.llistxattr(path, list, list.length));
  return list.toString('utf8', 0, bytes).split('\0').filter(Boolean).sort();
}

/** @throws SystemCallError */
export function removeAttribute(path: string, name: string): void {
  checked('lremovexattr', functions.lremovexattr(path, name));
}
