/** A worker that may open no more files: programs do not notice, as long as it has what it needs itself. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from './support/mount-contract.js';
import { Program, SupervisedMount } from './support/supervised-mount.js';

const files = 200;
const freeDescriptors = 16;

t.test('a worker without descriptors to spare reads, writes, syncs and unmounts', async (t) => {
  const content = Object.fromEntries(
    Array.from({ length: files }, (_, index) => [`file-${index}`, `published ${index}`]),
  );
  const mount = await SupervisedMount.make(t, content);
  const program = new Program(
    t,
    `import mmap, os, sys
os.chdir(sys.argv[1])
files = int(sys.argv[2])
def change(round):
    for index in range(files):
        name = f"file-{index}"
        with open(name, "r+b") as file:
            file.write(f"{round} {index}".encode())
            if index % 10 == 0: os.fsync(file.fileno())
    with open("mapped", "w+b") as file:
        file.truncate(8192)
        with mmap.mmap(file.fileno(), 8192) as view:
            view[4000:4200] = bytes([round]) * 200
            view.flush()
def check(round):
    for index in range(files):
        with open(f"file-{index}", "rb") as file:
            content = file.read()
            assert content.startswith(f"{round} {index}".encode()), content
    with open("mapped", "rb") as file: assert file.read()[4000:4200] == bytes([round]) * 200
print("ready")
for round in (1, 2, 3):
    input()
    change(round)
    check(round)
    os.sync()
    print("round", round)`,
    mount.trial.mountPath,
    String(files),
  );
  await program.says('ready');
  const { workerPid } = await mount.processes();
  // The soft limit, which anybody may raise again.
  const limitTo = (limit: number) => runProgram('prlimit', [`--pid=${workerPid}`, `--nofile=${limit}:`]);

  // A few more than it has now: fewer than there are files, and what is written to them is fetched first.
  const open = readdirSync(`/proc/${workerPid}/fd`).map(Number);
  let limit = 0;
  for (let free = 0; free < freeDescriptors; limit += 1) if (!open.includes(limit)) free += 1;
  t.equal((await limitTo(limit)).exitCode, 0);
  program.next();
  await program.says('round 1');
  // Nor when it has as many as it likes to have.
  t.equal((await limitTo(1000)).exitCode, 0);
  program.next();
  await program.says('round 2');
  t.equal((await limitTo(60)).exitCode, 0);
  program.next();
  await program.says('round 3');
  t.equal((await limitTo(1000)).exitCode, 0);
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  t.equal((await mount.processes()).restarts, 0);
  await mount.endInOrder(t);

  await mount.mount();
  t.match(await mount.content(join(`file-${files - 1}`)), new RegExp(`^3 ${files - 1}`));
  await mount.endInOrder(t);
});
