import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/index.js';
import { LocalCache } from '../../src/fetch/local-cache.js';
import { decodeEntry } from '../../src/fetch/local-cache/entry.js';
import { repositoryId } from './support.js';

const limitBytes = 400 * 1024;
const entryBytes = 4096;

function startChild(t: Test, path: string, seed: number, steps: number): ChildProcess {
  const file = fileURLToPath(new URL('./shared-cache-child.js', import.meta.url));
  const args = [...process.execArgv, file, path, String(limitBytes), String(seed), String(steps)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function reportOf(child: ChildProcess): Promise<{ hits: number; damaged: number; diskErrors: number }> {
  const output = await text(child.stdout!);
  return JSON.parse(output.trim().split('\n').at(-1)!) as {
    hits: number;
    damaged: number;
    diskErrors: number;
  };
}

t.test('processes share a directory, one is killed at work, and nothing is wrong', async (t) => {
  const path = join(t.testdir(), 'cache');
  const seed = Date.now() % 1_000_000;
  t.comment(`seed ${seed}`);
  const children = [seed, seed + 1].map((childSeed) => startChild(t, path, childSeed, 600));
  const victim = startChild(t, path, seed + 2, 1e9);
  await once(victim.stdout!, 'data');
  victim.kill('SIGKILL');
  const reports = await Promise.all(children.map(reportOf));
  for (const report of reports) {
    t.match(report, { damaged: 0, diskErrors: 0 });
    t.ok(report.hits > 0);
  }

  const cache = await LocalCache.open({ repositoryId, path, limitBytes, clock: systemClock });
  await cache.settled();
  await cache[Symbol.asyncDispose]();
  const files = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && file.name.endsWith('.chunk'))
    .map((file) => join(file.parentPath, file.name));
  for (const file of files) {
    const bytes = readFileSync(file);
    if (decodeEntry(bytes)?.repositoryId !== repositoryId) t.fail(`${file} is torn`);
  }
  // All 200 entries would be twice the limit. One may be there that the victim could not tell of.
  t.ok(files.length > 50, `${files.length} entries`);
  t.ok(files.length * entryBytes <= limitBytes + entryBytes, `${files.length} entries`);
});
