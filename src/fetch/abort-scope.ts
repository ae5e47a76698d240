import { setMaxListeners } from 'node:events';

/** A signal for the parts of an operation: fires when the operation's own signal does, and when the operation ends. */
export class AbortScope {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal | undefined;
  readonly #abort = (): void => this.#controller.abort();

  constructor(parent: AbortSignal | undefined) {
    this.#parent = parent;
    allowManyListeners(this.#controller.signal);
    if (parent === undefined) return;
    if (parent.aborted) this.#abort();
    allowManyListeners(parent);
    parent.addEventListener('abort', this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Cancels what is left of the operation. */
  end(): void {
    this.#parent?.removeEventListener('abort', this.#abort);
    this.#abort();
  }
}

/** Many reads may wait on one signal; Node.js would take that for a leak. */
export function allowManyListeners(signal: AbortSignal): void {
  setMaxListeners(0, signal);
}
