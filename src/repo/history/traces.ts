import { limits } from '../../base/index.js';
import { ObjectMissing, type ObjectStore, type RequestOptions } from '../../store/index.js';
import { DamagedObject } from '../errors.js';
import { traceKey, traceNumberOf, tracePrefix, type VmId } from '../format/object-keys.js';
import { recordOverheadBytes } from '../format/record.js';
import { decodeTrace, encodeTrace } from '../format/trace.js';
import { inOrder } from '../in-order.js';
import type { Records } from '../records.js';
import type { StoredTrace, Trace } from '../types.js';

/**
 * What resumes of a VM touched: numbered records, each with everything of the ones before it that is still of use, so a
 * reader needs the newest only. Older ones are removed. Traces are advice: without them a resume is slower, and right.
 */
export class Traces {
  readonly #store: ObjectStore;
  readonly #records: Records;
  readonly #vmId: VmId;

  constructor(store: ObjectStore, records: Records, vmId: VmId) {
    this.#store = store;
    this.#records = records;
    this.#vmId = vmId;
  }

  /** Two round trips, none of which needs to know anything of the VM's log. For stores that list. */
  async newest(options: RequestOptions = {}): Promise<StoredTrace | undefined> {
    const numbers = await this.#numbers(options);
    // The newest one vanishes only while it is being replaced or removed.
    for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) {
      const stored = await this.#readIfThere(number, options);
      if (stored !== undefined) return stored;
    }
    return undefined;
  }

  /** The newest one, as far as single requests show it that begin at a number which was the newest once. */
  async newestFrom(number: number, options: RequestOptions = {}): Promise<StoredTrace | undefined> {
    // As many stay in the store: if none of these is there, what there is is unreachable, and no loss but of time.
    const numbers = Array.from({ length: limits.tracesKept }, (_, later) => number + later);
    const isThere = (later: number) => this.#store.stat(traceKey(this.#vmId, later), options);
    const infos = await Promise.all(numbers.map(isThere));
    const newest = numbers.findLast((_, position) => infos[position] !== undefined);
    return newest === undefined ? undefined : this.#readIfThere(newest, options);
  }

  /** Newest first; damaged ones are left out. */
  async all(options: RequestOptions = {}): Promise<readonly StoredTrace[]> {
    const numbers = (await this.#numbers(options)).reverse();
    const read = (number: number) => this.#readUnlessDamaged(number, options);
    const traces: StoredTrace[] = [];
    for await (const stored of inOrder(numbers[Symbol.iterator](), read, limits.recordReadsInFlight)) {
      if (stored !== undefined) traces.push(stored);
    }
    return traces;
  }

  /**
   * Makes the newest trace of what `revise` makes of the one before. Undefined when other hosts kept being faster. A
   * damaged trace is none: what comes after it does not need it.
   */
  async append(
    revise: (known: Trace | undefined) => Trace,
    options: RequestOptions = {},
  ): Promise<StoredTrace | undefined> {
    for (let attempt = 0; attempt < limits.traceWriteAttempts; attempt += 1) {
      const numbers = await this.#numbers(options);
      const newest = numbers.at(-1) ?? 0;
      const known = newest === 0 ? undefined : await this.#readUnlessDamaged(newest, options);
      const trace = revise(known?.trace);
      const payload = encodeTrace(trace);
      const number = newest + 1;
      const key = traceKey(this.#vmId, number);
      if ((await this.#records.create(key, payload, 'write a trace')) === undefined) continue;
      const kept = limits.tracesKept - 1;
      await this.#remove(numbers.slice(0, Math.max(0, numbers.length - kept)), options);
      return { number, storedBytes: payload.length + recordOverheadBytes, trace };
    }
    return undefined;
  }

  /** How many there were. */
  async removeAll(options: RequestOptions = {}): Promise<number> {
    const numbers = await this.#numbers(options);
    await this.#remove(numbers, options);
    return numbers.length;
  }

  async #remove(numbers: readonly number[], options: RequestOptions): Promise<void> {
    for (const number of numbers) await this.#store.delete(traceKey(this.#vmId, number), options);
  }

  async #readUnlessDamaged(number: number, options: RequestOptions): Promise<StoredTrace | undefined> {
    try {
      return await this.#readIfThere(number, options);
    } catch (error) {
      if (error instanceof DamagedObject) return undefined;
      throw error;
    }
  }

  async #readIfThere(number: number, options: RequestOptions): Promise<StoredTrace | undefined> {
    const key = traceKey(this.#vmId, number);
    try {
      const record = await this.#records.read(key, { ...options, bytesMax: limits.traceBytesMax });
      return { number, storedBytes: record.storedBytes, trace: decodeTrace(record.payload, key) };
    } catch (error) {
      if (error instanceof ObjectMissing) return undefined;
      throw error;
    }
  }

  /** Ascending. A store that cannot list has none to offer: their numbers have no known beginning. */
  async #numbers(options: RequestOptions): Promise<number[]> {
    if (!this.#store.capabilities.lists) return [];
    const numbers: number[] = [];
    for await (const { key } of this.#store.list(tracePrefix(this.#vmId), options)) {
      numbers.push(traceNumberOf(this.#vmId, key));
    }
    return numbers;
  }
}
