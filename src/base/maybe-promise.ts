/** A value that is there at once, or later. Hot paths answer at once and must not pay for a promise. */
export type MaybePromise<T> = T | Promise<T>;
