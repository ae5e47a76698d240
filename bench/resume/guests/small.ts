import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeInitramfs } from '../../../fixtures/guest/initramfs.js';
import { fetchKernel } from '../../../fixtures/guest/kernel.js';
import { cacheDirectory, guestConfig, makeEmptyFile, sourcePath, type BenchGuest } from './bench-guest.js';

const memoryMiB = 256;
const fillMiB = 96;

const config = guestConfig({ memoryMiB, arguments: [], kernelParameters: `isr_fill=${fillMiB}` });

/** 256 MiB, an initramfs with busybox; its work reads 32 MiB of RAM, in 256 pieces. */
export const smallGuest: BenchGuest = {
  name: 'small',
  title: '256 MiB, initramfs; works on 33 MB of RAM',
  memoryMiB,
  disk: undefined,

  async recipe() {
    return [config, await source('guests/small-init.sh'), await source('guests/work.sh')].join('\n');
  },

  async build(directory) {
    const kernel = await fetchKernel(join(cacheDirectory(), 'kernel'));
    await copyFile(kernel, join(directory, 'vmlinuz'));
    const executable = { mode: 0o755 };
    const initramfs = makeInitramfs(
      ['bin'],
      [
        { path: 'bin/busybox', ...executable, content: await readFile('/bin/busybox') },
        { path: 'init', ...executable, content: Buffer.from(await source('guests/small-init.sh')) },
        { path: 'work.sh', ...executable, content: Buffer.from(await source('guests/work.sh')) },
      ],
    );
    await writeFile(join(directory, 'initrd'), initramfs);
    await writeFile(join(directory, 'isr.toml'), config);
    await makeEmptyFile(join(directory, 'mem'), memoryMiB * 2 ** 20);
  },
};

function source(name: string): Promise<string> {
  return readFile(sourcePath(name), 'utf8');
}
