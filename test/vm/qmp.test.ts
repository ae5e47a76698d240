import fc from 'fast-check';
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { stepDeadline } from '../../src/vm/hypervisor/deadline.js';
import { MonitorClosed, MonitorRefused, StepTimedOut } from '../../src/vm/hypervisor/errors.js';
import { QmpClient } from '../../src/vm/hypervisor/qmp.js';
import { FakeQemu, reply, type FakeRequest } from './fake-qemu.js';

const never = new AbortController().signal;

async function connected(
  t: Test,
  answer: (request: FakeRequest, socket: Socket) => void,
): Promise<{ qemu: FakeQemu; client: QmpClient }> {
  const qemu = await FakeQemu.listen(answer);
  t.teardown(() => qemu[Symbol.asyncDispose]());
  const client = await QmpClient.connect(qemu.socketPath, { signal: never });
  t.teardown(() => client[Symbol.asyncDispose]());
  return { qemu, client };
}

const silent = (): void => undefined;

t.test('negotiates, then answers go to whoever asked, in any order', async (t) => {
  const waiting: (() => void)[] = [];
  const { qemu, client } = await connected(t, (request, socket) => {
    waiting.push(() => reply(socket, request, request.execute));
    if (waiting.length === 3) for (const answer of waiting.reverse()) answer();
  });
  const answers = ['a', 'b', 'c'].map((command) => client.execute(command, { x: 1 }, { signal: never }));
  t.strictSame(await Promise.all(answers), ['a', 'b', 'c']);
  t.strictSame(
    qemu.requests.map(({ execute }) => execute),
    ['qmp_capabilities', 'a', 'b', 'c'],
  );
  t.strictSame(qemu.requests[1]?.arguments, { x: 1 });
});

t.test('a refused command says what QEMU said, and the next one works', async (t) => {
  const { client } = await connected(t, (request, socket) => {
    const error = { class: 'GenericError', desc: 'No disk' };
    if (request.execute === 'bad') socket.write(`${JSON.stringify({ id: request.id, error })}\n`);
    else reply(socket, request, 1);
  });
  const refused = await client.execute('bad', {}, { signal: never }).catch((error: unknown) => error);
  t.ok(refused instanceof MonitorRefused);
  t.match(refused, {
    message: 'The QEMU command bad was refused: No disk.',
    facts: { qmpClass: 'GenericError' },
  });
  t.equal(await client.execute('good', {}, { signal: never }), 1);
});

t.test('an event goes to everyone who waits for one like it', async (t) => {
  const { client } = await connected(t, (request, socket) => {
    for (const status of ['setup', 'completed']) {
      socket.write(
        `{"timestamp": {}, "event": "MIGRATION", "data": {"status": "${status}"}}\r\n{"event": "STOP"}\r\n`,
      );
    }
    reply(socket, request, {});
  });
  const options = { what: 'Waiting', signal: never };
  const events = [
    client.nextEvent(({ name }) => name === 'MIGRATION', options),
    client.nextEvent(({ data }) => data['status'] === 'completed', options),
    client.nextEvent(({ name }) => name === 'STOP', options),
  ];
  await client.execute('go', {}, { signal: never });
  t.strictSame(await Promise.all(events), [
    { name: 'MIGRATION', data: { status: 'setup' } },
    { name: 'MIGRATION', data: { status: 'completed' } },
    { name: 'STOP', data: {} },
  ]);
});

t.test('messages are put together however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string(), fc.array(fc.nat(400), { maxLength: 8 }), async (value, cuts) => {
      const qemu = await FakeQemu.listen((request, socket) => {
        const bytes = Buffer.from(
          `{"event": "X"}\r\n${JSON.stringify({ id: request.id, return: value })}\r\n`,
        );
        const ends = [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        for (const [index, end] of ends.entries()) socket.write(bytes.subarray(ends[index - 1] ?? 0, end));
      });
      const client = await QmpClient.connect(qemu.socketPath, { signal: never });
      try {
        return (await client.execute('echo', {}, { signal: never })) === value;
      } finally {
        await client[Symbol.asyncDispose]();
        await qemu[Symbol.asyncDispose]();
      }
    }),
    { numRuns: 30 },
  );
});

t.test('when QEMU goes away, everyone who waits is told, and everyone who comes later', async (t) => {
  const { client } = await connected(t, (_, socket) => socket.destroy());
  const event = client.nextEvent(() => true, { what: 'Waiting', signal: never });
  await t.rejects(client.execute('quit', {}, { signal: never }), MonitorClosed);
  await t.rejects(event, MonitorClosed);
  await t.rejects(client.execute('again', {}, { signal: never }), MonitorClosed);
});

const garbage: readonly (readonly [what: string, bytes: string])[] = [
  ['no JSON', 'hello\r\n'],
  ['JSON that is no message', '{"return": 1}\r\n'],
  ['an error about no command', '{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n'],
  ['a line without end', 'x'.repeat(limits.qmpLineBytesMax + 1)],
];
for (const [what, bytes] of garbage) {
  t.test(`gives up on ${what}`, async (t) => {
    const { client } = await connected(t, (_, socket) => socket.write(bytes));
    await t.rejects(client.execute('x', {}, { signal: never }), MonitorClosed);
  });
}

t.test('waiting ends with the signal: cancelled, or too late', async (t) => {
  const { client } = await connected(t, silent);
  const controller = new AbortController();
  const answer = client.execute('slow', {}, { signal: controller.signal });
  controller.abort();
  await t.rejects(answer, Cancelled);
  await t.rejects(client.execute('later', {}, { signal: controller.signal }), Cancelled);
  await t.rejects(client.execute('slow', {}, { signal: stepDeadline(0.001) }), StepTimedOut);
});

t.test('a QEMU that serves somebody else does not greet', async (t) => {
  const qemu = await FakeQemu.listen(silent, { greeting: '' });
  t.teardown(() => qemu[Symbol.asyncDispose]());
  await t.rejects(QmpClient.connect(qemu.socketPath, { signal: stepDeadline(0.001) }), StepTimedOut);
});

t.test("nobody listening is the system's error", async (t) => {
  await t.rejects(QmpClient.connect('/nonexistent/qmp.sock', { signal: never }), { code: 'ENOENT' });
});

t.test('closing twice is closing once', async (t) => {
  const { client } = await connected(t, silent);
  await client[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
  await t.rejects(client.execute('x', {}, { signal: never }), MonitorClosed);
});
