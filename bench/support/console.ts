import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** One line that the trial guest prints: the nonce it drew at boot and holds in its RAM, and a counter. */
export interface Tick {
  readonly nonce: string;
  readonly tick: number;
}

const pollMs = 10;

/** The ticks in a guest's console log so far. */
export async function readTicks(path: string): Promise<readonly Tick[]> {
  const text = await readFile(path, 'latin1').catch(() => '');
  return [...text.matchAll(/^isr-guest nonce=([0-9a-f]+) tick=(\d+)\r?$/gm)].map(([, nonce, tick]) => ({
    nonce: nonce ?? '',
    tick: Number(tick),
  }));
}

/** Waits until the log has a tick that `accept` takes, and returns it. */
export async function waitForTick(
  path: string,
  accept: (tick: Tick) => boolean,
  timeoutMs = 120_000,
): Promise<Tick> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const found = (await readTicks(path)).find(accept);
    if (found !== undefined) return found;
    if (performance.now() > deadlineMs)
      throw new Error(`The guest did not tick in ${timeoutMs / 1000} s: ${path}`);
    await sleep(pollMs);
  }
}
