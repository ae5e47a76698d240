/**
 * Where objects live. A store is trusted with nothing: whatever it returns is authenticated by `repo/`.
 *
 * `openStore` picks an implementation by URL and stacks the wrappers that the URL asks for.
 */
export {
  ObjectChanged,
  ObjectMissing,
  ObjectTruncated,
  PutIfAbsentMissing,
  StoreRefused,
  StoreUnreachable,
  type StoreFailure,
} from './errors.js';
export { LabStore } from './lab-store.js';
export { perfectConditions, type LabConditions } from './lab-store/conditions.js';
export { seededRandom } from './lab-store/seeded-random.js';
export { inOnePiece } from './request.js';
export {
  everyCapability,
  isObjectKey,
  objectKey,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
  type StoreCapabilities,
} from './object-store.js';
export {
  ObservedStore,
  type OperationCounts,
  type StoreCounts,
  type StoreOperation,
} from './observed-store.js';
export { localDirectoryOf, openStore, storePlace, type OpenStoreOptions } from './open-store.js';
