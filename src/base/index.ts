/** The ground floor: error classes, limits and small types that every room uses. Imports nothing of ours. */
export { parseByteSize } from './byte-size.js';
export { systemClock, type Clock } from './clock.js';
export {
  Cancelled,
  InvalidInput,
  IsrError,
  LimitExceeded,
  systemErrorCode,
  type ErrorFacts,
} from './errors.js';
export { limits } from './limits.js';
export type { MaybePromise } from './maybe-promise.js';
export { programPath } from './programs.js';
export type { Progress, ProgressListener } from './progress.js';
export { ResourceStack } from './resource-stack.js';
