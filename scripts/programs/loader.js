/*
 * Loads one bundled program together with V8's compiled code of it, if there is some that fits: the version of V8, its
 * flags and the processor. Compiling what a program needs while it starts takes several times as long. The bundle alone
 * decides what the program does: code that does not fit, is damaged or absent costs time only.
 */
'use strict';
const { createHash } = require('node:crypto');
const { existsSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { dirname } = require('node:path');
const v8 = require('node:v8');
const vm = require('node:vm');

/** Bytes of the digest that a file of compiled code begins with: V8 itself believes what it reads. */
const digestBytes = 32;

/** Set by the run of all programs that `train.js` makes: what was compiled is kept. */
const isTraining = process.env.ISR_KEEP_COMPILED_CODE === '1';
const trainingIntervalMs = 200;

/** What the program in this directory exports. */
exports.load = function load(directory) {
  globalThis.isrPrograms = dirname(directory);
  const filename = `${directory}/bundle.js`;
  // The bundler writes nothing but ASCII.
  const source = Module.wrap(readFileSync(filename, 'latin1'));
  const compiledPath = `${directory}/${v8.cachedDataVersionTag().toString(16)}.compiled`;
  const script = new vm.Script(source, {
    filename,
    cachedData: readCompiled(compiledPath, source),
    importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  if (isTraining) keepCompiled(script, compiledPath, source);
  const module = new Module(filename);
  module.filename = filename;
  module.paths = Module._nodeModulePaths(directory);
  script.runInThisContext()(module.exports, Module.createRequire(filename), module, filename, directory);
  return isTraining ? kept(module.exports) : module.exports;
};

function readCompiled(path, source) {
  if (!existsSync(path)) return undefined;
  const bytes = readFileSync(path);
  const compiled = bytes.subarray(digestBytes);
  return digestOf(compiled, source).equals(bytes.subarray(0, digestBytes)) ? compiled : undefined;
}

let keep = () => undefined;

/** Again and again, since processes are killed. What earlier runs compiled is part of what later ones keep. */
function keepCompiled(script, path, source) {
  keep = () => {
    const compiled = script.createCachedData();
    const temporaryPath = `${path}.${process.pid}.${require('node:worker_threads').threadId}`;
    writeFileSync(temporaryPath, Buffer.concat([digestOf(compiled, source), compiled]));
    renameSync(temporaryPath, path);
  };
  setInterval(keep, trainingIntervalMs).unref();
  process.on('exit', keep);
}

/** A thread that does jobs has no timers between them, and ends without notice. */
function kept(exported) {
  const { default: work } = exported;
  if (typeof work !== 'function') return exported;
  const worked = (job) => {
    const result = work(job);
    keep();
    return result;
  };
  return { __esModule: true, ...exported, default: worked };
}

function digestOf(compiled, source) {
  return createHash('sha256').update(source, 'latin1').update(compiled).digest();
}
