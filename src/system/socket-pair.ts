import { constants } from 'node:os';
import { SystemCallError } from './libc.js';
import { linux } from './linux.js';

const unixDomain = 1;
const stream = 1;
const closeOnExec = 0o2000000;
/** `flags` of recvmsg(2): do not wait; the received descriptor is not for child processes. */
const receiveFlags = 0x40 | 0x40000000;

/** cmsg(3) on 64-bit hosts: length (8 bytes), level, type, then the descriptor. */
const controlBytes = 24;
const levelAt = 8;
const typeAt = 12;
const descriptorAt = 16;
const socketLevel = 1;
const rights = 1;

/** Two connected sockets, to be closed with `closeSync`. @throws SystemCallError */
export function socketPair(): readonly [number, number] {
  const fds = new Int32Array(2);
  const { socketpair, errno } = linux();
  if (socketpair(unixDomain, stream | closeOnExec, 0, fds) < 0) {
    throw new SystemCallError('socketpair', errno());
  }
  const [first = -1, second = -1] = fds;
  return [first, second];
}

/**
 * The descriptor that another process sent over a socket, or undefined if none has been. Does not wait.
 * @throws SystemCallError
 */
export function receiveDescriptor(socket: number): number | undefined {
  const byte = Buffer.alloc(1);
  const control = Buffer.alloc(controlBytes);
  const message = {
    msg_name: null,
    msg_namelen: 0,
    msg_iov: [{ iov_base: byte, iov_len: byte.length }],
    msg_iovlen: 1,
    msg_control: control,
    msg_controllen: control.length,
    msg_flags: 0,
  };
  const { recvmsg, errno } = linux();
  if (recvmsg(socket, message, receiveFlags) < 0) {
    const errorNumber = errno();
    if (errorNumber === constants.errno.EAGAIN) return undefined;
    throw new SystemCallError('recvmsg', errorNumber);
  }
  const words = new Int32Array(control.buffer, control.byteOffset, controlBytes / 4);
  if (words[levelAt / 4] !== socketLevel || words[typeAt / 4] !== rights) return undefined;
  return words[descriptorAt / 4];
}
