/** Every file that isr keeps on a host is in the table of docs/operations.md. */
import { randomBytes } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runProgram } from './support/mount-contract.js';
import { SupervisedMount } from './support/supervised-mount.js';

const documentPath = fileURLToPath(new URL('../../docs/operations.md', import.meta.url));

/** What stands for something else in the table's names. */
const placeholders = /\b(?:REPOSITORY|HASH|XX|ID|KIND|VM|INODE)\b/g;

/** Of the table's first column: a pattern for the paths below a host's home that each row speaks of. */
async function documentedPaths(): Promise<readonly RegExp[]> {
  const [, section = ''] = (await readFile(documentPath, 'utf8')).split('## State files on a host');
  const [table = ''] = section.split('\n## ');
  const patterns: RegExp[] = [];
  let vm = '';
  for (const row of table.split('\n').filter((line) => line.startsWith('| '))) {
    const names = [...(row.split(' | ')[0] ?? '').matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
    const [first = ''] = names;
    // `…` stands for what the row above began with; other names of a row lie beside its first.
    if (first.startsWith('vms/')) vm = first.slice(0, first.indexOf('/overlay'));
    const directory = first.includes('/') ? first.replace(/[^/]+\/?$/, '') : '';
    for (const [index, name] of names.entries()) {
      const path = (index === 0 || directory === '' ? name : directory + name).replace(/^…/, vm);
      patterns.push(patternOf(path));
    }
  }
  return patterns;
}

function patternOf(path: string): RegExp {
  const escaped = path
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace('run/…', 'run/.*')
    .replace('*', '[^/]*')
    .replace(placeholders, '[^/]+');
  // A directory stands for all that is in it; a name with a star is one anywhere.
  return new RegExp(`^${path.startsWith('*') ? '(?:.*/)?' : ''}${escaped}${path.endsWith('/') ? '.*' : ''}$`);
}

t.test('nothing is kept that the table does not tell of', async (t) => {
  const mount = await SupervisedMount.make(t, { disk: randomBytes(400_000), file: 'content' });
  const { vmName, mountPath } = mount.trial;
  const seen = new Set<string>();
  const look = async (): Promise<void> => {
    const { home } = mount.host;
    for (const entry of await readdir(home, { recursive: true, withFileTypes: true }))
      if (!entry.isDirectory()) seen.add(relative(home, join(entry.parentPath, entry.name)));
  };
  await look();
  await runProgram('cat', [join(mountPath, 'disk')]);
  await runProgram('dd', ['if=/dev/urandom', `of=${join(mountPath, 'new')}`, 'bs=64K', 'count=4']);
  await look();
  await mount.killWorker();
  await look();
  await mount.host.isr(['publish', vmName], mount.url);
  await mount.host.isr(['warm', vmName], mount.url);
  await mount.host.isr(['cache', 'pin', vmName], mount.url);
  await look();
  await mount.endInOrder(t);
  await look();

  const documented = await documentedPaths();
  t.ok(documented.length > 20);
  t.ok(seen.size > 10);
  for (const path of seen)
    t.ok(
      documented.some((pattern) => pattern.test(path)),
      path,
    );
});
