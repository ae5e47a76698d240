import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';
import type { Inode } from './inode.js';
import type { ExtendedAttributeMode } from './types.js';

/** See xattr(7). Access control lists (`system.`) are refused: the kernel would have to honour them. */
const nameSpaces = ['user.', 'security.', 'trusted.'];

/** The value of an attribute, or `ENODATA`. */
export function extendedAttribute(inode: Inode, name: string): Buffer {
  checkName(name);
  const value = inode.extendedAttributes.get(name);
  if (value === undefined) throw new FileSystemError('ENODATA', `There is no attribute ${name}.`);
  return value;
}

/** Whether Linux would let this attribute be set: errors as setxattr(2) and ext4 have them. */
export function checkNewAttribute(
  inode: Inode,
  name: string,
  value: Uint8Array,
  mode: ExtendedAttributeMode,
): void {
  checkName(name);
  if (value.length > limits.extendedAttributeBytesMax) {
    throw new FileSystemError('E2BIG', `An attribute of ${value.length} bytes is too long.`);
  }
  const previous = inode.extendedAttributes.get(name);
  if (mode === 'create' && previous !== undefined) {
    throw new FileSystemError('EEXIST', `There is an attribute ${name}.`);
  }
  if (mode === 'replace' && previous === undefined) {
    throw new FileSystemError('ENODATA', `There is no attribute ${name}.`);
  }
  let totalBytes = Buffer.byteLength(name) + value.length;
  for (const [other, { length }] of inode.extendedAttributes) {
    if (other !== name) totalBytes += Buffer.byteLength(other) + length;
  }
  if (totalBytes > limits.extendedAttributesBytesMax) {
    throw new FileSystemError(
      'ENOSPC',
      `The attributes of an inode may have ${limits.extendedAttributesBytesMax} bytes.`,
    );
  }
}

function checkName(name: string): void {
  const nameSpace = nameSpaces.find((prefix) => name.startsWith(prefix));
  if (nameSpace === undefined) {
    throw new FileSystemError('EOPNOTSUPP', `Attributes like ${JSON.stringify(name)} are not supported.`);
  }
  if (name.length === nameSpace.length) throw new FileSystemError('EINVAL', 'An attribute needs a name.');
  if (Buffer.byteLength(name) > limits.fileNameBytesMax) {
    throw new FileSystemError('ERANGE', 'The name of an attribute is too long.');
  }
}
