import { programPath } from '../base/index.js';
import type { Program } from './supervisor-protocol.js';

/**
 * A new generation of 1 MiB instead of 16 is collected so often that buffers outside V8's heap, which it does not weigh
 * enough, never pile up: the difference is 50 MB of resident memory while chunks stream through, at no measured cost.
 */
const semiSpaceOption = '--max-semi-space-size=1';

/** Set here because it is set before codec threads begin: compiled code is only used under the flags that it was made under. */
const collectOption = '--expose-gc';

/** The program that serves a mount. */
export function workerProgram(vmName: string): Program {
  return {
    execPath: process.execPath,
    parameters: [semiSpaceOption, collectOption, programPath('worker'), vmName],
  };
}
