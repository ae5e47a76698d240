import { fileURLToPath } from 'node:url';

/** The processes and threads of isr, each with the module below `src/` that it begins with. */
export const programs = {
  cli: 'cli/main',
  worker: 'daemon/main',
  supervisor: 'daemon/supervisor',
  puller: 'daemon/replay/puller-program',
  'serving-thread': 'fuse/kernel/serving-thread',
  'notifying-thread': 'fuse/kernel/notifying-thread',
  'codec-thread': 'repo/codec/worker',
  'sweep-thread': 'fetch/local-cache/sweep-worker',
} as const;

export type ProgramName = keyof typeof programs;

/**
 * The file to start a program of isr with. Where the caller was started from a bundle (`scripts/programs/`), that of the
 * bundle next to it; else the module itself, as the compiler wrote it.
 */
export function programPath(name: ProgramName): string {
  const bundles = (globalThis as { isrPrograms?: string }).isrPrograms;
  if (bundles !== undefined) return `${bundles}/${name}/main.js`;
  return fileURLToPath(new URL(`../${programs[name]}.js`, import.meta.url));
}
