import t from 'tap';
import { limits } from '../../src/base/index.js';
import { DamagedObject } from '../../src/repo/index.js';
import { untilIntact } from '../../src/repo/until-intact.js';
import { objectKey, ObjectMissing } from '../../src/store/index.js';

const key = objectKey('log/entry');

/** Fails so many times, then answers. */
function reading(failures: number, error: Error): { readonly read: () => Promise<string>; calls: number } {
  const subject = {
    calls: 0,
    read: async (): Promise<string> => {
      subject.calls += 1;
      await Promise.resolve();
      if (subject.calls <= failures) throw error;
      return 'intact';
    },
  };
  return subject;
}

t.test('what was damaged on its way is read again', async (t) => {
  const subject = reading(limits.damagedAnswersMax - 1, new DamagedObject(key, 'it is not authentic'));
  t.equal(await untilIntact(subject.read), 'intact');
  t.equal(subject.calls, limits.damagedAnswersMax);
});

t.test('what stays damaged is an error, and so is everything else at once', async (t) => {
  const damaged = reading(Infinity, new DamagedObject(key, 'it is not authentic'));
  await t.rejects(untilIntact(damaged.read), DamagedObject);
  t.equal(damaged.calls, limits.damagedAnswersMax);
  const missing = reading(Infinity, new ObjectMissing({ store: 'here', key }));
  await t.rejects(untilIntact(missing.read), ObjectMissing);
  t.equal(missing.calls, 1);
});
