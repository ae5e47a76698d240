import { protectFromMemoryPressure, type Protection } from '../system/index.js';
import { oomScoreAdj } from './supervisor-protocol.js';

let protection: Protection | undefined;

/**
 * A worker that waits for memory which only it can free would wait for ever, and one that is killed for want of memory
 * gives little of it back. To be called before there are threads. Answers what was permitted.
 */
export function protectWorker(): Protection {
  protection ??= protectFromMemoryPressure(oomScoreAdj.worker);
  return protection;
}
