import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';

/** Holds changes back while a version is published. */
export class Gate {
  #waiting = 0;
  #closed: { readonly opened: Promise<void>; readonly open: () => void } | undefined;

  isClosed(): boolean {
    return this.#closed !== undefined;
  }

  close(): void {
    if (this.#closed !== undefined) throw new Error('closed already');
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#closed = { opened, open };
  }

  /** Idempotent. */
  open(): void {
    this.#closed?.open();
    this.#closed = undefined;
  }

  /** Resolves when the gate is open; `EBUSY` when too many wait for it already. */
  async passed(): Promise<void> {
    if (this.#waiting >= limits.kernelRequestsWaiting) {
      throw new FileSystemError('EBUSY', 'Too many changes wait until the version is published.');
    }
    this.#waiting += 1;
    try {
      while (this.#closed !== undefined) await this.#closed.opened;
    } finally {
      this.#waiting -= 1;
    }
  }
}
