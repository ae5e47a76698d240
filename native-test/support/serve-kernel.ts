import { existsSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { rootInode } from '../../src/fs/index.js';
import { mountKernelThrough } from '../../src/fuse/kernel/mount.js';
import { mountAsThisUser } from '../../src/fuse/kernel/mounting.js';
import { ModelFileSystem } from '../../test/support/model-file-system.js';

/**
 * A daemon for tests: serves empty model file systems on new directories below the one given to it. Ends, all
 * unmounted, when its standard input does; or is killed. Says what it has left when it ends.
 */
const [root = '', count = '1'] = process.argv.slice(2);
const countDescriptors = (): number => readdirSync('/proc/self/fd').length;
const descriptorsBefore = countDescriptors();

const engines = [];
for (let index = 0; index < Number(count); index++) {
  const mountPath = join(root, String(index));
  if (!existsSync(mountPath)) await mkdir(mountPath);
  const options = { mountPath, sourceName: `isr:served-${index}`, allowOther: false };
  const fileSystem = new ModelFileSystem();
  // Whoever serves owns what it serves, as a VM's directory does.
  fileSystem.setAttributes(rootInode, { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  engines.push(await mountKernelThrough(mountAsThisUser, fileSystem, options));
}
process.stdout.write('mounted\n');
await new Promise((resolve) => process.stdin.once('end', resolve).resume());
await Promise.all(engines.map((engine) => engine.unmount()));
const threads = readdirSync('/proc/self/task').length;
process.stdout.write(JSON.stringify({ descriptors: countDescriptors() - descriptorsBefore, threads }));
