/*
 * Has V8 compile what isr's programs need, and keeps that beside the bundles: a VM is published, mounted, resumed and
 * suspended on two homes, with a hypervisor that is a shell script. Where this machine cannot mount, the programs start
 * without compiled code for that.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const isr = fileURLToPath(new URL('../../bin/isr', import.meta.url));

/** The guest reads all of its memory when it is resumed, and has changed some of it when it is suspended. */
const hypervisor = `case "$1" in
  resume)
    cat "$ISR_DIRECTORY/memory" >/dev/null
    touch "$ISR_RUN_DIRECTORY/runs"
    sleep 0.5
    ;;
  suspend)
    printf changed | dd of="$ISR_DIRECTORY/memory" conv=notrunc status=none
    rm "$ISR_RUN_DIRECTORY/runs"
    ;;
  inspect) if [ -e "$ISR_RUN_DIRECTORY/runs" ]; then echo running; else echo absent; fi ;;
esac
`;

const root = await realpath(await mkdtemp(join(tmpdir(), 'isr-train-')));
const vm = join(root, 'vm');

/** Runs isr on one of the homes; it may end in any way. */
async function on(home, ...parameters) {
  const environment = {
    ISR_KEEP_COMPILED_CODE: '1',
    ISR_HOME: join(root, home),
    ISR_REPO: join(root, 'repository'),
    ISR_PASSPHRASE: 'for the training only',
  };
  return run(process.execPath, [isr, ...parameters], { env: { ...process.env, ...environment } });
}

/** In turns, so that there is a trace to be replayed. */
async function mountAndResume() {
  try {
    for (const home of ['here', 'there', 'here', 'there']) {
      await on(home, 'resume', 'vm');
      await on(home, 'status', 'vm');
      await on(home, 'suspend', 'vm');
    }
  } catch (error) {
    console.warn(
      `isr's daemon will start slower than it could, since nothing can be mounted here: ${error.stderr}`,
    );
  }
}

try {
  await mkdir(vm);
  await mkdir(join(root, 'source'));
  const steps = ['start', 'resume', 'suspend', 'kill', 'inspect'].map(
    (step) => `${step} = ["sh", "{directory}/run", "${step}"]`,
  );
  await writeFile(
    join(root, 'source', 'isr.toml'),
    ['format = 1', '[hypervisor]', 'kind = "command"', ...steps].join('\n'),
  );
  await writeFile(join(root, 'source', 'run'), hypervisor);
  await writeFile(
    join(root, 'source', 'memory'),
    Buffer.concat([randomBytes(2 ** 22), Buffer.alloc(2 ** 23, 'isr')]),
  );
  await on('here', 'init');
  await on('here', 'import', 'vm', join(root, 'source'), '--at', vm);
  await on('here', 'key', 'export', join(root, 'key'));
  await on('there', 'key', 'import', join(root, 'key'));
  await mountAndResume();
  await on('here', 'status');
  await on('here', 'warm', 'vm');
  await on('here', 'verify', 'vm');
} finally {
  await on('here', 'umount', 'vm').catch(() => undefined);
  await on('there', 'umount', 'vm').catch(() => undefined);
  await rm(root, { recursive: true, force: true });
}
