import { Cancelled } from '../base/index.js';
import { isObjectKey, type ByteRange, type ObjectKey } from './object-store.js';

/** Knows the requests under way, so that closing can wait for them. The callers bound their number. */
export class RequestGate {
  readonly #underWay = new Set<Promise<unknown>>();
  #isClosed = false;

  async run<T>(request: () => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new Error('the store is closed');
    const answer = request();
    this.#underWay.add(answer);
    try {
      return await answer;
    } finally {
      this.#underWay.delete(answer);
    }
  }

  /** As `run`, for a request whose answer comes in pieces: it is under way until the iteration ends. */
  async *stream<T>(request: () => AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    if (this.#isClosed) throw new Error('the store is closed');
    let end = (): void => undefined;
    const underWay = new Promise<void>((resolve) => (end = resolve));
    this.#underWay.add(underWay);
    try {
      yield* request();
    } finally {
      this.#underWay.delete(underWay);
      end();
    }
  }

  /** Lets no request in from now on; resolves when the last has ended. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#underWay);
  }
}

/** `ObjectStore.read` for a store whose answers come whole. */
export async function* inOnePiece(
  answer: () => Promise<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const bytes = await answer();
  if (bytes.length > 0) yield bytes;
}

/** @throws Cancelled; `what` names the request in its message. */
export function throwIfCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted === true) throw new Cancelled(what);
}

/** A bad range is a programming error. */
export function requireRange(range: ByteRange): void {
  const { offsetBytes, lengthBytes } = range;
  if (!isCount(offsetBytes) || !isCount(lengthBytes) || !isCount(offsetBytes + lengthBytes))
    throw new RangeError(`not a byte range: ${offsetBytes}+${lengthBytes}`);
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

export function asKeys(keys: ObjectKey | readonly ObjectKey[]): readonly ObjectKey[] {
  return typeof keys === 'string' ? [keys] : keys;
}

/** A bad prefix is a programming error. */
export function requirePrefix(prefix: string): void {
  if (prefix !== '' && !(prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1))))
    throw new Error(`not a prefix of object keys: ${JSON.stringify(prefix)}`);
}
