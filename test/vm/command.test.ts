import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cancelled } from '../../src/base/index.js';
import {
  HypervisorCommandFailed,
  HypervisorMissing,
  openHypervisor,
  StepTimedOut,
  type Hypervisor,
  type HypervisorContext,
} from '../../src/vm/hypervisor/index.js';
import { parseVmConfig } from '../../src/vm/vm-config.js';

/** A `command` hypervisor whose every step runs a shell script (by naming the shell: the adapter itself uses none). */
async function scripted(
  t: Test,
  script: string,
  timeouts = '',
): Promise<{ hypervisor: Hypervisor; context: HypervisorContext }> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'isr-command-')));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await writeFile(join(root, 'script'), script);
  const steps = ['start', 'resume', 'suspend', 'kill', 'inspect'].map(
    (step) => `${step} = ["sh", "{directory}/script", "${step}", "{name}; echo {run}"]`,
  );
  const toml = ['format = 1', '[hypervisor]', 'kind = "command"', ...steps, timeouts].join('\n');
  return {
    hypervisor: openHypervisor(parseVmConfig(toml, 'isr.toml')),
    context: { vmName: 'vm', directory: root, runDirectory: join(root, 'run') },
  };
}

t.test('a command gets its place, its names and its arguments as they are', async (t) => {
  const { hypervisor, context } = await scripted(
    t,
    'printf "%s\\n" "$PWD" "$ISR_VM" "$ISR_DIRECTORY" "$ISR_RUN_DIRECTORY" "$@" >> seen',
  );
  await hypervisor.start(context);
  const { directory, runDirectory } = context;
  const lines = (await readFile(join(directory, 'seen'), 'utf8')).trimEnd().split('\n');
  t.strictSame(lines, [directory, 'vm', directory, runDirectory, 'start', `vm; echo ${runDirectory}`]);
});

t.test('inspect reads one word', async (t) => {
  for (const state of ['absent', 'running', 'paused', 'resuming']) {
    const { hypervisor, context } = await scripted(t, `echo ${state}`);
    t.equal((await hypervisor.inspect(context)).state, state);
  }
  const { hypervisor, context } = await scripted(t, 'echo sleeping');
  await t.rejects(hypervisor.inspect(context), { message: /printed "sleeping" instead of one of absent, / });
});

t.test('a failing command is an error with its last words', async (t) => {
  const { hypervisor, context } = await scripted(t, 'echo starting; echo "no licence" >&2; exit 3');
  for (const step of ['start', 'resume', 'suspend', 'kill'] as const) {
    const error = await hypervisor[step](context).catch((error: unknown) => error);
    t.ok(error instanceof HypervisorCommandFailed);
    t.match(error, { message: `The ${step} command of "vm" ended with exit code 3: no licence.` });
  }
  await t.rejects(hypervisor.inspect(context), { message: /exit code 3: no licence/ });
});

t.test('a hypervisor that stays behind is not waited for', async (t) => {
  const { hypervisor, context } = await scripted(t, 'sleep 60 & echo $! > pid');
  await hypervisor.start(context);
  const pid = Number(await readFile(join(context.directory, 'pid'), 'utf8'));
  t.doesNotThrow(() => process.kill(pid, 0), 'it runs');
  process.kill(pid, 'SIGKILL');
});

t.test('a command that takes too long is ended with all that it started', async (t) => {
  const { hypervisor, context } = await scripted(t, 'sleep 60 & wait', '[timeout_seconds]\nstart = 0.2');
  await t.rejects(hypervisor.start(context), StepTimedOut);
});

t.test('a command can be cancelled', async (t) => {
  const { hypervisor, context } = await scripted(t, 'sleep 60');
  const controller = new AbortController();
  const started = hypervisor.start({ ...context, signal: controller.signal });
  controller.abort();
  await t.rejects(started, Cancelled);
});

t.test('a program that is not there', async (t) => {
  const commands = ['start', 'resume', 'suspend', 'kill', 'inspect'].map(
    (step) => `${step} = ["no-such-program"]`,
  );
  const hypervisor = openHypervisor(
    parseVmConfig(['format = 1', '[hypervisor]', 'kind = "command"', ...commands].join('\n'), 'isr.toml'),
  );
  const directory = t.testdir();
  const error = await hypervisor
    .start({ vmName: 'vm', directory, runDirectory: join(directory, 'run') })
    .catch((error: unknown) => error);
  t.ok(error instanceof HypervisorMissing);
  t.match(error, { message: /cannot run "no-such-program", which is not installed/ });
});
