import { execFile } from 'node:child_process';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { FileSystem } from '../../src/fs/index.js';
import { rootInode } from '../../src/fs/index.js';
import { findMount, type Engine, type EngineCapabilities, type MountEngine } from '../../src/fuse/index.js';

/** The tests are Python, which has the system calls that Node lacks, and stay in the source tree. */
const script = fileURLToPath(new URL('../../../native-test/support/mount_contract.py', import.meta.url));

/** A program that hangs on the mount is killed, and so its test fails. */
const programTimeoutMilliseconds = 280_000;

export interface ProgramResult {
  /** 0 for success; undefined if it was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** The tests of full attributes make a request fail with `ENOSPC`. */
const expectedErrors = 1;

/** Runs a program to its end. The process that serves a mount may use it only like this. */
export function runProgram(program: string, args: readonly string[]): Promise<ProgramResult> {
  const options = { timeout: programTimeoutMilliseconds, killSignal: 'SIGKILL', maxBuffer: 2 ** 26 } as const;
  return new Promise((resolve) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      resolve({ exitCode: typeof code === 'number' ? code : undefined, stdout, stderr });
    });
  });
}

/** Runs Python source text that gets `args` as `sys.argv[1:]`. */
export function runPython(source: string, ...args: readonly string[]): Promise<ProgramResult> {
  return runProgram('python3', ['-c', source, ...args]);
}

/** Mounts on a new directory; the test's end unmounts, however the test ends. */
export async function mountForTest(
  t: Test,
  mountEngine: MountEngine,
  fileSystem: FileSystem,
): Promise<{ readonly engine: Engine; readonly mountPath: string }> {
  const mountPath = await mkdtemp(join(tmpdir(), 'isr-mount-'));
  const engine = await mountEngine(fileSystem, {
    mountPath,
    sourceName: 'isr:test',
    allowOther: process.getuid?.() === 0,
  });
  t.teardown(async () => {
    await engine[Symbol.asyncDispose]();
    await rmdir(mountPath);
  });
  return { engine, mountPath };
}

export interface MountContractSubject {
  readonly mountEngine: MountEngine;
  readonly capabilities: EngineCapabilities;
  /** An empty file system; its owner is the test, which closes it at its end. */
  readonly makeFileSystem: (t: Test) => Promise<FileSystem>;
}

interface ContractResult {
  readonly name: string;
  readonly error: string | null;
}

/** Runs the tests in a directory, each in one of its own that has its name. */
async function runContract(
  t: Test,
  directory: string,
  capabilities: EngineCapabilities,
  localDisk: boolean,
): Promise<readonly ContractResult[]> {
  const timeResolutionNs = Number(capabilities.timeResolutionNs);
  const text = JSON.stringify({ ...capabilities, timeResolutionNs, localDisk });
  const run = await runProgram('python3', [script, directory, text]);
  t.equal(run.exitCode, 0, run.stderr);
  const results = run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ContractResult);
  t.ok(results.length > 80, 'the contract has tests');
  return results;
}

/** The same tests on a directory of the local disk: they ask for what Linux' own file systems do, not for what ours do. */
export async function localDiskContract(t: Test): Promise<void> {
  const everything = {
    allocate: true,
    seekHoles: true,
    renameModes: true,
    separateTimes: true,
    timeResolutionNs: 1n,
    callerIdentity: true,
    inodeIdentity: true,
  };
  for (const { name, error } of await runContract(t, t.testdir({}), everything, true)) {
    await t.test(name, async (t) => t.equal(error, null));
  }
}

/** What programs rely on when they use a mount: every engine, over every file system, passes these tests. */
export async function mountContract(t: Test, subject: MountContractSubject): Promise<void> {
  const { capabilities } = subject;
  const fileSystem = await subject.makeFileSystem(t);
  const { engine, mountPath } = await mountForTest(t, subject.mountEngine, fileSystem);
  for (const { name, error } of await runContract(t, mountPath, capabilities, false)) {
    await t.test(name, async (t) => {
      t.equal(error, null);
      const { inode } = fileSystem.lookup(rootInode, name);
      t.notOk(
        fileSystem.readDirectory(inode).some((entry) => entry.name.startsWith('.fuse_hidden')),
        'libfuse leaves no hidden files behind',
      );
    });
  }

  await t.test('no request failed for an internal reason', async (t) =>
    t.equal(engine.status().errors, expectedErrors),
  );
  await t.test('the kernel forgets all that is removed', async (t) => {
    const { inodesReferenced } = engine.status();
    if (inodesReferenced === undefined) return;
    const remove = await runProgram('sh', ['-c', 'rm -rf -- "$0"/*', mountPath]);
    t.equal(remove.exitCode, 0, remove.stderr);
    // Forgetting comes after the answers to what removed the last names.
    for (let wait = 0; engine.status().inodesReferenced !== 0 && wait < 100; wait++) await delay(20);
    t.equal(engine.status().inodesReferenced, 0);
  });
  await t.test('unmounts', async (t) => {
    await engine.unmount();
    t.equal(await findMount(mountPath), undefined);
    t.equal(engine.status().requestsWaiting, 0);
  });
}
