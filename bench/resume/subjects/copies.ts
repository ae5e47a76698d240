import { execFile } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { OwnHypervisor } from './own-hypervisor.js';
import type { Place, Resuming, Subject } from './subject.js';

const run = promisify(execFile);

/** The local disk: nothing comes over the link. What a resume costs when all is here. */
export const localDisk: Subject = {
  name: 'local',
  title: 'local ext4',
  serves: undefined,
  async begin({ prepared, directory }) {
    const copy = join(directory, 'vm');
    await run('cp', ['-a', '--sparse=always', join(prepared.root, 'state'), copy]);
    return OwnHypervisor.prepare(copy, join(directory, 'run'));
  },
};

/** Everything is copied before the guest runs, as the prototype of 2002 did; `decode` turns it into plain bytes. */
function copyIn(name: string, title: string, part: 'state' | 'gzip' | 'zstd', decode: string): Subject {
  return { name, title, serves: part, begin: (place) => beginCopy(place, part, decode) };
}

export const copies: readonly Subject[] = [
  copyIn('copy-raw', 'copy in: raw', 'state', 'cat'),
  copyIn('copy-gzip', 'copy in: gzip -1', 'gzip', 'gzip -dc'),
  copyIn('copy-zstd', 'copy in: zstd -3', 'zstd', 'zstd -q -dc'),
];

async function beginCopy(place: Place, part: string, decode: string): Promise<Resuming> {
  const { prepared, link, directory, signal } = place;
  const copy = join(directory, 'vm');
  await mkdir(copy);
  const files = await readdir(join(prepared.root, part));
  const own = await OwnHypervisor.prepare(copy, join(directory, 'run'));
  return {
    consolePath: own.consolePath,
    async resume() {
      for (const file of files) {
        const url = `${link.url}/${part}/${file}`;
        const command = `curl -sSf "$1" | ${decode} > "$2"`;
        await run('bash', ['-o', 'pipefail', '-c', command, 'bash', url, join(copy, file)], { signal });
      }
      await own.resume();
    },
    [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
  };
}
