import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { hasExitCode } from '../../src/cli/exit-codes.js';

t.test('every error class of the program has an exit code', async (t) => {
  const source = fileURLToPath(new URL('../../../src', import.meta.url));
  const files = (await readdir(source, { recursive: true })).filter((file) => file.endsWith('.ts'));
  const codes = new Set<string>();
  for (const file of files) {
    const text = await readFile(join(source, file), 'utf8');
    for (const match of text.matchAll(/override readonly code = '(\w+)'/g)) codes.add(match[1]!);
  }
  t.ok(codes.size > 50, 'the classes were found');
  t.same(
    [...codes].filter((code) => !hasExitCode(code)),
    [],
  );
});
