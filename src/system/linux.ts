import { createRequire } from 'node:module';
import type koffiModule from 'koffi';

/** The system calls of Linux that Node.js lacks. Each answers -1 for failure; `errno` then tells why. */
interface Linux {
  readonly read: (fd: number, into: Uint8Array, maxBytes: number) => number;
  readonly write: (fd: number, from: Uint8Array, lengthBytes: number) => number;
  readonly close: (fd: number) => number;
  readonly fcntl: (fd: number, command: number, argument: number) => number;
  readonly eventfd: (initial: number, flags: number) => number;
  readonly epoll_create1: (flags: number) => number;
  readonly epoll_ctl: (epoll: number, operation: number, fd: number, event: Uint8Array) => number;
  readonly epoll_wait: (epoll: number, events: Uint8Array, eventsMax: number, timeoutMs: number) => number;
  readonly ppoll: (polls: Uint8Array, count: number, timeout: BigInt64Array, signals: null) => number;
  readonly mount: (source: string, target: string, type: string, flags: number, data: string) => number;
  readonly socketpair: (domain: number, type: number, protocol: number, fds: Int32Array) => number;
  readonly prctl: (option: number, two: number, three: number, four: number, five: number) => number;
  readonly unshare: (flags: number) => number;
  readonly madvise: (memory: Uint8Array, lengthBytes: number, advice: number) => number;
  /** memset(3) of no bytes, which answers where the memory lies. */
  readonly addressOf: (memory: Uint8Array, byte: 0, lengthBytes: 0) => number | bigint;
  readonly recvmsg: (socket: number, message: object, flags: number) => number;
  readonly posix_fadvise: (fd: number, offsetBytes: number, lengthBytes: number, advice: number) => number;
  /** The error number of the last call on this thread; read it before anything else runs. */
  readonly errno: () => number;
}

let loaded: Linux | undefined;

/** Loads the functions at their first use; only Linux has all of them. */
export function linux(): Linux {
  loaded ??= loadLinux();
  return loaded;
}

function loadLinux(): Linux {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  const library = koffi.load(null);
  const call = (prototype: string): unknown => library.func(prototype);
  koffi.struct('isr_iovec', { iov_base: 'void *', iov_len: 'size_t' });
  koffi.struct('isr_msghdr', {
    msg_name: 'void *',
    msg_namelen: 'uint32_t',
    msg_iov: 'isr_iovec *',
    msg_iovlen: 'size_t',
    msg_control: 'void *',
    msg_controllen: 'size_t',
    msg_flags: 'int',
  });
  return {
    read: call('int64_t read(int fd, void *into, size_t bytes)') as Linux['read'],
    write: call('int64_t write(int fd, const void *from, size_t bytes)') as Linux['write'],
    close: call('int close(int fd)') as Linux['close'],
    fcntl: call('int fcntl(int fd, int command, int argument)') as Linux['fcntl'],
    eventfd: call('int eventfd(uint32_t initial, int flags)') as Linux['eventfd'],
    epoll_create1: call('int epoll_create1(int flags)') as Linux['epoll_create1'],
    epoll_ctl: call('int epoll_ctl(int epoll, int operation, int fd, void *event)') as Linux['epoll_ctl'],
    epoll_wait: call('int epoll_wait(int epoll, void *events, int max, int timeout)') as Linux['epoll_wait'],
    ppoll: call(
      'int ppoll(void *polls, unsigned long count, const void *timeout, const void *signals)',
    ) as Linux['ppoll'],
    mount: call(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ) as Linux['mount'],
    socketpair: call('int socketpair(int domain, int type, int protocol, void *fds)') as Linux['socketpair'],
    prctl: call(
      'int prctl(int option, unsigned long two, unsigned long three, unsigned long four, unsigned long five)',
    ) as Linux['prctl'],
    unshare: call('int unshare(int flags)') as Linux['unshare'],
    madvise: call('int madvise(void *memory, size_t bytes, int advice)') as Linux['madvise'],
    addressOf: call('uintptr_t memset(void *memory, int byte, size_t bytes)') as Linux['addressOf'],
    posix_fadvise: call(
      'int posix_fadvise64(int fd, int64_t offset, int64_t length, int advice)',
    ) as Linux['posix_fadvise'],
    recvmsg: call('int64_t recvmsg(int socket, _Inout_ isr_msghdr *message, int flags)') as Linux['recvmsg'],
    errno: () => koffi.errno(),
  };
}
