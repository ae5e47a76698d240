import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cancelled } from '../../src/base/index.js';
import { SaveFailed } from '../../src/vm/hypervisor/errors.js';
import { runPaths } from '../../src/vm/hypervisor/paths.js';
import { QemuProcess } from '../../src/vm/hypervisor/qemu-process.js';
import { saveGuest, type SaveRequest } from '../../src/vm/hypervisor/qemu-save.js';
import { QmpClient } from '../../src/vm/hypervisor/qmp.js';
import { FakeQemu, reply, type FakeRequest } from './fake-qemu.js';

interface Behaviour {
  readonly running?: boolean;
  /** While it is not running. */
  readonly status?: string;
  /** Commands that QEMU answers with an error. */
  readonly refuses?: readonly string[];
  /** What QEMU does when told to migrate; by default it sends its state and completes. */
  readonly migrate?: (socket: Socket, statePath: string) => void;
}

function event(socket: Socket, status: string): void {
  socket.write(`${JSON.stringify({ event: 'MIGRATION', data: { status } })}\r\n`);
}

/** Sends a state as QEMU does: it says "completed" before the other side has seen the end. */
function sendState(socket: Socket, statePath: string): void {
  const channel = createConnection(statePath, () => {
    channel.end('devices', () => event(socket, 'completed'));
  });
}

/** A VM directory with an older state in it, beside a QEMU that behaves as told. */
async function save(
  t: Test,
  behaviour: Behaviour,
  options: {
    readonly signal?: AbortSignal;
    readonly statePath?: string;
    readonly hooks?: Partial<Pick<SaveRequest, 'onSaved' | 'beforeRunning'>>;
  } = {},
): Promise<{ outcome: unknown; commands: string[]; directory: string; files: string[]; running: boolean }> {
  let running = behaviour.running ?? true;
  const commands: string[] = [];
  const results: Record<string, (socket: Socket, request: FakeRequest) => unknown> = {
    'query-status': () => ({ running, status: running ? 'running' : (behaviour.status ?? 'paused') }),
    'query-migrate': () => ({ status: 'failed', 'error-desc': 'no such device' }),
    stop: () => ((running = false), {}),
    cont: () => ((running = true), {}),
    migrate: (socket, { arguments: { uri } }) => {
      (behaviour.migrate ?? sendState)(socket, String(uri).replace('unix:', ''));
      return {};
    },
  };
  const qemu = await FakeQemu.listen((request, socket) => {
    commands.push(request.execute);
    if (behaviour.refuses?.includes(request.execute) === true) {
      socket.write(`${JSON.stringify({ id: request.id, error: { class: 'GenericError', desc: 'no' } })}\r\n`);
    } else reply(socket, request, results[request.execute]?.(socket, request) ?? {});
  });
  t.teardown(() => qemu[Symbol.asyncDispose]());
  const directory = join(qemu.directory, 'vm');
  await mkdir(directory);
  const statePath = options.statePath ?? join(directory, 'state');
  if (options.statePath === undefined) await writeFile(statePath, 'older');
  const never = new AbortController().signal;
  const client = await QmpClient.connect(qemu.socketPath, { signal: never });
  t.teardown(() => client[Symbol.asyncDispose]());
  const outcome: unknown = await saveGuest({
    vmName: 'vm',
    qemu: new QemuProcess(process.pid),
    client,
    paths: runPaths(qemu.directory),
    statePath,
    signal: options.signal ?? never,
    onSaved: undefined,
    beforeRunning: undefined,
    ...options.hooks,
  }).catch((error: unknown) => error);
  return { outcome, commands, directory, files: await readdir(directory), running };
}

t.test('saves and leaves the guest paused', async (t) => {
  const { outcome, commands, directory, files, running } = await save(t, {});
  t.equal(outcome, undefined);
  t.equal(running, false);
  t.strictSame(files, ['state']);
  t.equal(await readFile(join(directory, 'state'), 'utf8'), 'devices');
  t.strictSame(commands, [
    'query-status',
    'stop',
    'migrate-set-capabilities',
    'migrate-set-parameters',
    'migrate',
  ]);
});

const failures: readonly (readonly [what: string, behaviour: Behaviour, message: string | RegExp])[] = [
  [
    'QEMU refuses',
    { refuses: ['migrate'] },
    '"vm" could not be saved and runs on: The QEMU command migrate was refused: no.',
  ],
  [
    'QEMU gives up',
    { migrate: (socket) => event(socket, 'failed') },
    '"vm" could not be saved and runs on: no such device.',
  ],
  [
    'QEMU gives up halfway',
    {
      migrate: (socket, path) => {
        const channel = createConnection(path, () => channel.end('half', () => event(socket, 'failed')));
      },
    },
    '"vm" could not be saved and runs on: no such device.',
  ],
];
for (const [what, behaviour, message] of failures) {
  t.test(`the guest runs on and the older state stays when ${what}`, async (t) => {
    const { outcome, directory, files, running } = await save(t, behaviour);
    t.ok(outcome instanceof SaveFailed);
    t.match(outcome, { message, guest: 'running' });
    t.equal(running, true);
    t.strictSame(files, ['state']);
    t.equal(await readFile(join(directory, 'state'), 'utf8'), 'older');
  });
}

t.test('a directory that cannot be written is noticed before the guest is stopped', async (t) => {
  const { outcome, commands } = await save(t, {}, { statePath: join(t.testdir(), 'gone/state') });
  t.match(outcome, { guest: 'running', message: /runs on: ENOENT/ });
  t.notOk(commands.includes('stop'));
});

t.test('a guest that was paused before stays paused', async (t) => {
  const { outcome, commands } = await save(t, { running: false, refuses: ['migrate'] });
  t.match(outcome, { guest: 'paused', remedy: /^It was paused before/ });
  t.notOk(commands.includes('cont'));
});

t.test('a guest that does not go on is said to be paused, and how to continue it', async (t) => {
  const { outcome } = await save(t, { refuses: ['migrate', 'cont'] });
  t.match(outcome, {
    guest: 'paused',
    message: /is paused in QEMU \(process \d+\)/,
    remedy: /"execute":"cont"/,
  });
});

t.test('cancelling lets the guest run on', async (t) => {
  const controller = new AbortController();
  const { outcome, directory, files, running } = await save(
    t,
    { migrate: () => controller.abort() },
    { signal: controller.signal },
  );
  t.ok(outcome instanceof Cancelled);
  t.equal(running, true);
  t.strictSame(files, ['state']);
  t.equal(await readFile(join(directory, 'state'), 'utf8'), 'older');
});

t.test('what is done with a saved guest is part of saving it', async (t) => {
  const events: string[] = [];
  const { outcome, directory, files, running } = await save(
    t,
    {},
    {
      hooks: {
        onSaved: async () => {
          events.push('saved');
          throw new Error('the disk is full');
        },
        beforeRunning: async () => void events.push('runs again'),
      },
    },
  );
  t.match(outcome, { guest: 'running', message: /runs on: the disk is full/ });
  t.equal(running, true);
  t.strictSame(events, ['saved', 'runs again']);
  t.strictSame(files, [], `no state that the guest moved on from is left in ${directory}`);
});

t.test('a guest that cannot be recorded as running is not let run', async (t) => {
  const { outcome, running, files } = await save(
    t,
    {},
    {
      hooks: {
        onSaved: () => Promise.reject(new Error('the disk is full')),
        beforeRunning: () => Promise.reject(new Error('the disk is full')),
      },
    },
  );
  t.match(outcome, { guest: 'paused' });
  t.equal(running, false);
  t.strictSame(files, ['state'], 'its state is still that of the guest');
});

t.test('a guest that an interrupted suspend left behind is saved again', async (t) => {
  let recorded = false;
  const { outcome, commands, running } = await save(
    t,
    { running: false, status: 'postmigrate' },
    { hooks: { beforeRunning: async () => void (recorded = true) } },
  );
  t.equal(outcome, undefined);
  t.equal(running, false);
  t.ok(recorded);
  t.strictSame(commands.slice(0, 3), ['query-status', 'cont', 'stop']);
});
