/*
 * Makes one file of each program of isr (`src/base/programs.ts`), in build/programs/. A command loads some three hundred
 * modules otherwise, and a resume starts six programs and threads. What has not changed stays, with its compiled code.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { programs } from '../../build/src/base/programs.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const output = `${root}build/programs`;

/** Packages that have native code, or threads of their own. */
const external = ['fuse-native', 'koffi', 'zstd-napi', 'piscina'];

async function bundle(module) {
  const { outputFiles } = await build({
    entryPoints: [`${root}build/src/${module}.js`],
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    external,
    // The loader reads it as such.
    charset: 'ascii',
    legalComments: 'none',
    banner: { js: `const bundleUrl = require('node:url').pathToFileURL(__filename).href;` },
    define: { 'import.meta.url': 'bundleUrl' },
    logLevel: 'warning',
  });
  return outputFiles[0].text;
}

/** Answers whether that changed anything. */
async function write(path, text) {
  if ((await readFile(path, 'utf8').catch(() => '')) === text) return false;
  await writeFile(path, text);
  return true;
}

await mkdir(output, { recursive: true });
await write(`${output}/package.json`, '{ "type": "commonjs" }\n');
await write(`${output}/loader.js`, await readFile(`${root}scripts/programs/loader.js`, 'utf8'));
await Promise.all(
  Object.entries(programs).map(async ([name, module]) => {
    const directory = `${output}/${name}`;
    await mkdir(directory, { recursive: true });
    await write(
      `${directory}/main.js`,
      `'use strict';\nmodule.exports = require('../loader.js').load(__dirname);\n`,
    );
    if (!(await write(`${directory}/bundle.js`, await bundle(module)))) return;
    const files = await readdir(directory);
    const compiled = files.filter((file) => file.endsWith('.compiled'));
    await Promise.all(compiled.map((file) => rm(`${directory}/${file}`)));
  }),
);
