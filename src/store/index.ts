/**
 * Where objects live. A store is trusted with nothing: whatever it returns is authenticated by `repo/`.
 *
 * Interface only; `openStore` picks an implementation by URL and stacks the wrappers that the URL asks for.
 */
export type { ByteRange, ObjectInfo, ObjectKey, ObjectStore, RequestOptions } from './object-store.js';
export { objectKey } from './object-store.js';
