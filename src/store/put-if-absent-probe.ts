import { randomUUID } from 'node:crypto';
import { PutIfAbsentMissing, StoreRefused } from './errors.js';
import { objectKey, type ObjectStore } from './object-store.js';

/** Writers that try to create one object at the same moment. */
const contenders = 8;

/**
 * Proves that the store keeps put-if-absent, with objects that are deleted again: one that is there is left alone, and
 * of several writers at once one wins. A store that checks before it writes, instead of both at once, may pass the second
 * by luck; one that does not know the condition never passes the first.
 *
 * @throws PutIfAbsentMissing, StoreUnreachable, StoreRefused
 */
export async function requirePutIfAbsent(store: ObjectStore): Promise<void> {
  const directory = `probe/${randomUUID()}`;
  const there = objectKey(`${directory}/there`);
  const contested = objectKey(`${directory}/contested`);
  try {
    await store.put(there, [content('first')]);
    const outcome = await store.putIfAbsent(there, [content('second')]);
    const found = new TextDecoder().decode(await store.get(there));
    if (outcome !== 'exists' || found !== 'first')
      throw new PutIfAbsentMissing(store.description, 'it let an object that was there be replaced');
    const outcomes = await Promise.all(
      Array.from({ length: contenders }, (_, index) =>
        store.putIfAbsent(contested, [content(String(index))]),
      ),
    );
    const winners = outcomes.filter((each) => each === 'created').length;
    if (winners !== 1)
      throw new PutIfAbsentMissing(
        store.description,
        `of ${contenders} writers that created an object at the same moment, ${winners} were told that they had`,
      );
  } finally {
    await store.delete([there, contested]).catch(ignoreRefusal);
  }
}

function content(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Credentials that may not delete are good enough for a repository; what is left then is two small objects. */
function ignoreRefusal(error: unknown): void {
  if (!(error instanceof StoreRefused)) throw error;
}
