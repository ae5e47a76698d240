import { mkdtempSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** A directory for homes, removed after the test. Its path is so short that a home's sockets fit into the home. */
export function shortDirectory(t: Pick<Test, 'teardown'>): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'isr-t-')));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
