import { endianness, constants } from 'node:os';
import { closeSync, constants as fileConstants } from 'node:fs';
import { SystemCallError } from './libc.js';
import { linux } from './linux.js';

/** What to wait for: data, or an exceptional condition (a change of /proc/self/mountinfo). */
export const waitFor = { data: 0x001, exception: 0x002 } as const;

const once = 1 << 30;
const closeOnExec = 0o2000000;
const operation = { add: 1, modify: 3 } as const;

/** `struct epoll_event` is packed on x86 only. */
const isPacked = process.arch === 'x64' || process.arch === 'ia32';
const eventBytes = isPacked ? 12 : 16;
const dataAt = isPacked ? 4 : 8;
const littleEndian = endianness() === 'LE';
const eventsMax = 8;

/**
 * Waits for several descriptors at once, as epoll(7). One thread waits; others may `arm` and `watch` meanwhile, given
 * the number of the set's descriptor.
 */
export class WaitSet {
  readonly fd: number;
  readonly #events = new DataView(new ArrayBuffer(eventBytes * eventsMax));
  readonly #change = new DataView(new ArrayBuffer(eventBytes));

  /** Makes a set, or takes one that another thread made. @throws SystemCallError */
  constructor(fd?: number) {
    if (fd !== undefined) this.fd = fd;
    else {
      const { epoll_create1, errno } = linux();
      this.fd = epoll_create1(closeOnExec);
      if (this.fd < 0) throw new SystemCallError('epoll_create1', errno());
    }
  }

  /** From now on the set reports `fd` for as long as the condition holds. @throws SystemCallError */
  watch(fd: number, condition: number): void {
    this.#control(operation.add, fd, condition);
  }

  /** Adds a descriptor that is not reported before it is armed. @throws SystemCallError */
  add(fd: number): void {
    this.#control(operation.add, fd, once);
  }

  /** The descriptor is reported once, as soon as it has data or at once if it has. @throws SystemCallError */
  arm(fd: number): void {
    this.#control(operation.modify, fd, waitFor.data | once);
  }

  /** Blocks this thread until a descriptor is to be reported, and returns which. @throws SystemCallError */
  wait(): readonly number[] {
    const { epoll_wait, errno } = linux();
    const bytes = new Uint8Array(this.#events.buffer);
    for (;;) {
      const count = epoll_wait(this.fd, bytes, eventsMax, -1);
      if (count >= 0) {
        return Array.from({ length: count }, (_, index) =>
          this.#events.getInt32(index * eventBytes + dataAt, littleEndian),
        );
      }
      const errorNumber = errno();
      if (errorNumber !== constants.errno.EINTR) throw new SystemCallError('epoll_wait', errorNumber);
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  #control(what: number, fd: number, condition: number): void {
    this.#change.setUint32(0, condition, littleEndian);
    this.#change.setInt32(dataAt, fd, littleEndian);
    const { epoll_ctl, errno } = linux();
    if (epoll_ctl(this.fd, what, fd, new Uint8Array(this.#change.buffer)) < 0) {
      throw new SystemCallError('epoll_ctl', errno());
    }
  }
}

/** A descriptor that has data once `signal` was called; for waking a thread that waits in a `WaitSet`. */
export class WakeDescriptor {
  readonly fd: number;

  /** @throws SystemCallError */
  constructor() {
    const { eventfd, errno } = linux();
    this.fd = eventfd(0, fileConstants.O_NONBLOCK | closeOnExec);
    if (this.fd < 0) throw new SystemCallError('eventfd', errno());
  }

  signal(): void {
    linux().write(this.fd, new Uint8Array(new BigUint64Array([1n]).buffer), 8);
  }

  close(): void {
    closeSync(this.fd);
  }
}
