export interface ExerciseOptions {
  /** Ends the exercise early, which then fails and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

/** An exercise found something. Its message says what, where, what led to it, and how to see it again. */
export class ExerciseFailed extends Error {
  override readonly name = 'ExerciseFailed';
}
