import type { MaybePromise } from '../../../base/index.js';

/** `transform` of a value that may come later. */
export function whenDone<Value, Result>(
  value: MaybePromise<Value>,
  transform: (value: Value) => Result,
): MaybePromise<Result> {
  return value instanceof Promise ? value.then(transform) : transform(value);
}
