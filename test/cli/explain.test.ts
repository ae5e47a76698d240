import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { stallCauses } from '../../src/daemon/explain/index.js';
import { stallReportPath } from '../../src/daemon/explain/stall-report.js';
import { causeTexts } from '../../src/cli/stall-advice.js';
import { StallRecord } from '../../src/fetch/index.js';
import { openHostHome } from '../../src/host/index.js';
import { shortDirectory } from '../host/short-directory.js';
import { runIsr, type TestHost } from './run-isr.js';

t.test('what a resume waited for is told after its VM was unmounted', async (t) => {
  const root = shortDirectory(t);
  const host: TestHost = { home: join(root, 'home'), repo: `file://${root}/repo` };
  await mkdir(join(root, 'web'));
  await writeFile(join(root, 'web', 'mem'), 'memory');
  await runIsr(host, ['init']);
  await runIsr(host, ['import', 'web', join(root, 'web'), '--at', '/vms/web']);
  t.match(await runIsr(host, ['explain', 'web']), { exitCode: 3, stderr: /No resume of web was watched/ });

  let nowUs = 0;
  let cause = 0;
  const record = new StallRecord({
    causeOf: () => stallCauses[cause++ % stallCauses.length] ?? 'local',
    now: () => nowUs,
  });
  for (const [turn] of stallCauses.entries()) {
    const request = { path: 'mem', offsetBytes: turn * 4096, lengthBytes: 4096, access: 'read' } as const;
    const wait = record.begin(request);
    const clock = wait.chunk(turn);
    clock.board('roundTrip', false, turn % 2 === 0 ? 'replay' : undefined);
    nowUs += 20_000 + turn;
    clock.enter('transfer');
    nowUs += 3000;
    clock.leave();
    wait.settled(turn, clock);
    wait.end();
  }
  const home = await openHostHome(host.home);
  const [repositoryId = ''] = await home.repositoriesWithState();
  const paths = await home.makeVmPaths(repositoryId, 'web');
  const report = {
    ...record.report(),
    ...{ vmName: 'web', isResume: true, version: 1, startedAt: new Date().toISOString(), isOver: true },
  };
  await writeFile(stallReportPath(paths), JSON.stringify(report));

  const { exitCode, stdout } = await runIsr(host, ['explain', 'web', '--worst', '3']);
  t.equal(exitCode, 0);
  t.match(
    stdout,
    /^web was resumed at .* from version 1, and watched for 322 ms\.\nPrograms stood still for 322 ms, in 14 waits\./,
  );
  t.match(stdout, /the round trip +280 ms +87 %/);
  for (const each of stallCauses) {
    t.ok(stdout.includes(causeTexts[each].label), 'every cause is named');
    t.ok(
      stdout.includes(`${causeTexts[each].label}: ${causeTexts[each].advice('web')}`),
      'and has its advice',
    );
    t.match(causeTexts[each].advice('web'), /^[A-Z].*[a-z`)]\.$/, 'a sentence');
  }
  t.equal(
    stdout.split('\n').filter((line) => /^ *23 ms .* mem .* 4 KiB/.test(line)).length,
    3,
    'the worst three',
  );

  const json = await runIsr(host, ['explain', 'web', '--json']);
  const { longest } = JSON.parse(json.stdout) as { longest: object[] };
  t.match(longest, { length: stallCauses.length, 1: { joined: null, chunkIndex: 1, cause: stallCauses[1] } });

  await writeFile(stallReportPath(paths), '{"half');
  t.equal((await runIsr(host, ['explain', 'web'])).exitCode, 3, 'one that cannot be read is none');
});
