import { ObjectMissing, ObjectTruncated, type ObjectKey } from '../../store/index.js';
import { DamagedObject, UnknownFormat } from '../errors.js';

/** What is wrong with a blob, or with a pack as a whole. */
export interface Problem {
  readonly object: ObjectKey;
  readonly problem: 'missing' | 'damaged';
  readonly message: string;
}

/** What an error says of the object that was being read. Rethrows what says nothing of it, as a store that is away. */
export function problemOf(error: unknown, object: ObjectKey): Problem {
  if (error instanceof ObjectMissing) return { object, problem: 'missing', message: error.message };
  if (error instanceof ObjectTruncated || error instanceof DamagedObject || error instanceof UnknownFormat) {
    return { object, problem: 'damaged', message: error.message };
  }
  throw error;
}
