/** `make bench`: every measurement but those of a resume over a link. Prints tables, writes JSON under bench/results/. */
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { benchBackgroundLoad } from './background-load.js';
import { benchFuse } from './fuse.js';
import { benchImport } from './import.js';
import { benchLookaside } from './lookaside.js';
import { benchMetadata } from './metadata.js';
import { benchMount } from './mount.js';
import { benchResumeLocal } from './resume-local.js';
import { benchStore } from './store.js';

const resultsDirectory = fileURLToPath(new URL('../../bench/results/', import.meta.url));

/** One part of the suite: prints its table and returns what goes into its JSON file. */
const parts: Readonly<Record<string, () => Promise<object>>> = {
  import: benchImport,
  mount: benchMount,
  fuse: benchFuse,
  'resume-local': benchResumeLocal,
  store: benchStore,
  'background-load': benchBackgroundLoad,
  lookaside: benchLookaside,
};

/** Parts that need a package which the project does not install: `npm install --no-save lmdb`. */
const onRequest: typeof parts = { metadata: benchMetadata };

const wanted = process.argv.slice(2);
await mkdir(resultsDirectory, { recursive: true });
for (const [name, run] of Object.entries({ ...parts, ...onRequest })) {
  if (wanted.length > 0 ? !wanted.includes(name) : name in onRequest) continue;
  const result = await run();
  await writeFile(
    `${resultsDirectory}${name}.json`,
    `${JSON.stringify({ date: new Date(), ...result }, null, 2)}\n`,
  );
}
