/** How far a long operation has come. Units are bytes of plaintext unless the operation's docstring says otherwise. */
export interface Progress {
  readonly doneBytes: number;
  /** Undefined while the total is not known. */
  readonly totalBytes: number | undefined;
  /** What is being worked on now, for people: a file name, a step. */
  readonly detail?: string;
}

/** Called at most a few times a second; must not throw. */
export type ProgressListener = (progress: Progress) => void;
