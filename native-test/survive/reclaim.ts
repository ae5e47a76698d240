import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/**
 * Has the kernel reclaim the clean pages of a file that a process has mapped, as if memory were short: process_madvise(2)
 * with MADV_PAGEOUT, again and again, until its standard input ends. Root may do that to any process.
 */
const source = `import ctypes, os, select, sys
pid, path, interval = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
PROCESS_MADVISE, MADV_PAGEOUT = 440, 21
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
process = os.pidfd_open(pid)
while not select.select([sys.stdin], [], [], interval)[0]:
    with open(f"/proc/{pid}/maps") as maps:
        mapped = [line.split()[0] for line in maps if line.rstrip().endswith(path)]
    assert mapped, f"{path} is not mapped by {pid}"
    for low, high in (piece.split("-") for piece in mapped):
        vector = Vector(int(low, 16), int(high, 16) - int(low, 16))
        if libc.syscall(PROCESS_MADVISE, process, ctypes.byref(vector), 1, MADV_PAGEOUT, 0) < 0:
            sys.exit(f"process_madvise: {os.strerror(ctypes.get_errno())}")
`;

/** A process whose memory, as far as it is a mapped file, is taken away again and again. */
export class Reclaim implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<string>;

  private constructor(child: ChildProcess, ended: Promise<string>) {
    this.#child = child;
    this.#ended = ended;
  }

  static begin(pid: number, path: string, intervalMs: number): Reclaim {
    const child = spawn('python3', ['-c', source, String(pid), path, String(intervalMs / 1000)], {
      stdio: ['pipe', 'inherit', 'pipe'],
    });
    const complaints = text(child.stderr);
    return new Reclaim(
      child,
      once(child, 'close').then(() => complaints),
    );
  }

  /** Ends it, and says what went wrong. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    const complaints = await this.#ended;
    if (complaints !== '') throw new Error(complaints);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
