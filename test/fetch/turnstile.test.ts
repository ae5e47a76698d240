import t from 'tap';
import { Turnstile } from '../../src/fetch/turnstile.js';

t.test('so many at once, the others in order, and who gives up leaves the line', async (t) => {
  const turnstile = new Turnstile(2);
  const begun: string[] = [];
  const finish = new Map<string, () => void>();
  const run = (name: string, signal?: AbortSignal): Promise<void> =>
    turnstile.run(
      () =>
        new Promise<void>((resolve) => {
          begun.push(name);
          finish.set(name, resolve);
        }),
      signal,
    );
  const end = async (name: string): Promise<void> => {
    finish.get(name)?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const first = run('a');
  const second = run('b');
  const leaving = new AbortController();
  const third = run('c', leaving.signal);
  const fourth = run('d');
  await t.rejects(run('late', AbortSignal.abort()), { code: 'CANCELLED' });
  leaving.abort();
  await t.rejects(third, { code: 'CANCELLED' });
  t.strictSame(begun, ['a', 'b']);
  await end('a');
  t.strictSame(begun, ['a', 'b', 'd']);
  await end('b');
  await end('d');
  await Promise.all([first, second, fourth]);
  const fifth = run('e');
  t.strictSame(begun, ['a', 'b', 'd', 'e'], 'no place was lost');
  await end('e');
  await fifth;
});
