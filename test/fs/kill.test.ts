import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { openOverlay, readOverlaySummary, rootInode, type VmFileSystem } from '../../src/fs/index.js';
import { baseBytes, killedVersion, simulateStep, type State } from './support/killed-writer.js';
import { openPath, readAll, temporaryDirectory } from './support/open-file-system.js';

for (const stepsUntilKill of [1, 37, 150, 400]) {
  t.test(`all that was acknowledged is there after SIGKILL (${stepsUntilKill} steps or more)`, async (t) => {
    const directory = join(temporaryDirectory(t), 'overlay');
    const acknowledged = await killAfter(directory, stepsUntilKill);
    const { version, manifest, identity } = killedVersion();
    const fileSystem = await openOverlay({
      directory,
      base: { manifest, identity },
      openFile: version.openFile,
    });
    t.teardown(() => fileSystem.close());

    let state: State = new Map([
      ['disk', Buffer.from(Uint8Array.from({ length: baseBytes }, (_, index) => index % 251))],
    ]);
    for (let step = 0; step <= acknowledged; step++) state = simulateStep(step, state).at(-1) as State;
    const found = await stateOf(fileSystem);
    t.ok(
      simulateStep(acknowledged + 1, state).some((next) => isBetween(found, state, next)),
      'the state is that of the last acknowledged step, and perhaps a part of the next',
    );
    t.ok(((await readOverlaySummary(directory))?.dirtyBytes ?? 0) > 0);
  });
}

/** Answers the last step that the child process told of. */
async function killAfter(directory: string, steps: number): Promise<number> {
  const child = spawn(
    process.execPath,
    [...process.execArgv, join(import.meta.dirname, 'support', 'killed-writer.js'), directory],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => {
    output += text;
    if (output.split('\n').length > steps) child.kill('SIGKILL');
  });
  await once(child, 'close');
  return output.slice(0, output.lastIndexOf('\n')).split('\n').length - 1;
}

async function stateOf(fileSystem: VmFileSystem): Promise<State> {
  const state: State = new Map();
  for (const { name } of fileSystem.readDirectory(rootInode)) {
    const handle = await openPath(fileSystem, name);
    state.set(name, await readAll(fileSystem, handle));
    fileSystem.release(handle);
  }
  return state;
}

/** A call that was under way may have been made: its names all or none, its data in part. */
function isBetween(found: State, before: State, after: State): boolean {
  return [before, after].some(
    (names) =>
      found.size === names.size &&
      [...found].every(
        ([name, content]) => names.has(name) && isMixture(content, before.get(name), after.get(name)),
      ),
  );
}

function isMixture(
  content: Buffer,
  before: Buffer = Buffer.alloc(0),
  after: Buffer = Buffer.alloc(0),
): boolean {
  if (content.length !== before.length && content.length !== after.length) return false;
  return content.every((byte, at) => byte === (before[at] ?? 0) || byte === (after[at] ?? 0));
}
