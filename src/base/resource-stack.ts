/**
 * Owns resources and closes them in reverse order, every one even if another fails (Node 20 has no
 * `AsyncDisposableStack`). Closing is idempotent; the first error is thrown after all have been closed.
 */
export class ResourceStack implements AsyncDisposable {
  #closers: (() => Promise<void> | void)[] = [];

  /** Takes ownership of a resource and returns it. */
  use<T extends AsyncDisposable>(resource: T): T {
    this.#closers.push(async () => {
      await resource[Symbol.asyncDispose]();
    });
    return resource;
  }

  /** Runs `close` when the stack is closed. */
  defer(close: () => Promise<void> | void): void {
    this.#closers.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
