import { limits } from '../base/index.js';
import { DamagedObject, UnknownFormat, WrongKey } from './errors.js';

/**
 * Reads, and reads again what does not verify, some times: it may have been damaged on its way. What is damaged in the store
 * stays so, and its error is thrown.
 */
export async function untilIntact<T>(read: () => Promise<T>): Promise<T> {
  for (let answers = 1; ; answers += 1) {
    try {
      return await read();
    } catch (error) {
      const isDamage =
        error instanceof DamagedObject || error instanceof UnknownFormat || error instanceof WrongKey;
      if (!isDamage || answers >= limits.damagedAnswersMax) throw error;
    }
  }
}
