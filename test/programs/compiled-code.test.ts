import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';

const run = promisify(execFile);
const buildDirectory = fileURLToPath(new URL('../../', import.meta.url));

/** A copy of isr's command as it is installed, and the files of compiled code that it began with. */
async function installedCommand(
  t: Test,
): Promise<{ readonly main: string; readonly compiled: () => Promise<string[]> }> {
  // Below the project, where the packages are found that are not in bundles.
  const directory = await mkdtemp(join(buildDirectory, 'programs-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await cp(join(buildDirectory, 'programs'), directory, { recursive: true });
  const program = join(directory, 'cli');
  const compiled = async (): Promise<string[]> =>
    (await readdir(program)).filter((name) => name.endsWith('.compiled')).map((name) => join(program, name));
  for (const path of await compiled()) await rm(path);
  return { main: join(program, 'main.js'), compiled };
}

async function status(main: string, environment: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout } = await run(process.execPath, [main, 'status'], {
    env: { PATH: process.env['PATH'], ISR_HOME: join(main, '../home'), ...environment },
  });
  return stdout;
}

t.test('a command is the same with compiled code, without it, and with such that is damaged', async (t) => {
  const { main, compiled } = await installedCommand(t);
  const without = await status(main);
  t.strictSame(await compiled(), [], 'nothing is written where nobody asked for it');
  t.equal(await status(main, { ISR_KEEP_COMPILED_CODE: '1' }), without);
  const [path] = await compiled();
  if (path === undefined) throw new Error('no compiled code was kept');
  t.equal(await status(main), without);
  const bytes = await readFile(path);
  for (const at of [0, 33, 64, Math.floor(bytes.length / 2), bytes.length - 1]) {
    const damaged = Buffer.from(bytes);
    damaged.writeUInt8((damaged[at] ?? 0) ^ 0x10, at);
    await writeFile(path, damaged);
    t.equal(await status(main), without, `a bit flipped at ${at}`);
  }
  for (const lengthBytes of [0, 16, 32, bytes.length - 100]) {
    await writeFile(path, bytes.subarray(0, lengthBytes));
    t.equal(await status(main), without, `cut to ${lengthBytes} bytes`);
  }
});

t.test('compiled code of another program is not used', async (t) => {
  const { main, compiled } = await installedCommand(t);
  await status(main, { ISR_KEEP_COMPILED_CODE: '1' });
  t.equal((await compiled()).length, 1);
  const bundle = join(main, '../bundle.js');
  await writeFile(
    bundle,
    (await readFile(bundle, 'latin1')).replaceAll('No VM is mounted', 'No VM is MOUNTED'),
  );
  t.match(
    await status(main),
    'No VM is MOUNTED',
    'the text is as long as it was: V8 itself would not notice',
  );
});
