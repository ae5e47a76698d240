import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { bootId, isProcessAlive, processStartTime } from '../../src/system/index.js';

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

t.test('this process', async (t) => {
  const startTime = processStartTime(process.pid);
  t.type(startTime, 'number');
  t.ok(isProcessAlive(process.pid));
  t.ok(isProcessAlive(process.pid, startTime));
  t.notOk(isProcessAlive(process.pid, (startTime ?? 0) + 1), 'the same number, another process');
});

t.test('the start time agrees with the clock', async (t) => {
  const uptimeSeconds = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
  const ticksPerSecond = 100;
  const ageSeconds = uptimeSeconds - (processStartTime(process.pid) ?? NaN) / ticksPerSecond;
  t.ok(Math.abs(ageSeconds - process.uptime()) < 10, `${ageSeconds} s`);
});

t.test('a child, before and after its end', async (t) => {
  const child = spawn(process.execPath, ['--eval', 'process.stdin.resume()'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  const pid = child.pid!;
  const startTime = processStartTime(pid);
  t.ok((startTime ?? 0) >= (processStartTime(process.pid) ?? Infinity));
  t.ok(isProcessAlive(pid, startTime));
  child.stdin.end();
  await once(child, 'exit');
  t.notOk(isProcessAlive(pid, startTime));
  t.notOk(isProcessAlive(pid));
  t.equal(processStartTime(pid), undefined);
});

t.test('a process that ended but was not waited for is dead', async (t) => {
  // The shell starts `cat` and becomes `sleep`, which never waits for its children.
  const parent = spawn('sh', ['-c', 'cat <&3 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  });
  t.teardown(() => parent.kill('SIGKILL'));
  const [line] = (await once(parent.stdio[1]!, 'data')) as [Buffer];
  const pid = Number(line.toString());
  const startTime = processStartTime(pid);
  await until(() => readFileSync(`/proc/${parent.pid!}/comm`, 'latin1') === 'sleep\n');
  t.ok(isProcessAlive(pid, startTime));
  (parent.stdio[3] as Writable).end();
  await until(() => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(' Z '));
  t.doesNotThrow(() => process.kill(pid, 0), 'the number is still taken');
  t.notOk(isProcessAlive(pid, startTime));
  t.notOk(isProcessAlive(pid));
});

t.test('a name with parentheses does not mislead', async (t) => {
  const title = process.title;
  t.teardown(() => (process.title = title));
  const startTime = processStartTime(process.pid);
  process.title = 'a) Z 1 (b';
  t.equal(processStartTime(process.pid), startTime);
  t.ok(isProcessAlive(process.pid, startTime));
});

t.test('numbers that are no process', async (t) => {
  for (const bad of [0, -1, 1.5, NaN]) {
    t.throws(() => isProcessAlive(bad), RangeError);
    t.throws(() => processStartTime(bad), RangeError);
  }
  t.notOk(isProcessAlive(2 ** 30), 'above the largest possible number');
});

t.test('the boot has an id', async (t) => {
  t.match(bootId(), /^[0-9a-f-]{36}$/);
  t.equal(bootId(), bootId());
});
