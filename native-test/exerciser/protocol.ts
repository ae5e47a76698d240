/** What the process that makes operations is asked to do, one thing at a time. */
export type ExerciserRequest =
  | { readonly type: 'run'; readonly operations: number }
  /** Compares all files. */
  | { readonly type: 'check' }
  /** Nothing of the mount is in use when it is answered; or what is can only be read. */
  | { readonly type: 'letGo'; readonly keepReading: boolean }
  /** Reads at random through what stays open. */
  | { readonly type: 'look'; readonly operations: number }
  /** Compares the files of a directory elsewhere. */
  | { readonly type: 'compare'; readonly directory: string };

export interface ExerciserAnswer {
  readonly type: 'done';
}

/** Comes with a failure that is a difference. */
export interface PlaceOfDifference {
  readonly file: number;
  readonly offsetBytes: number;
}

export interface ExerciserArguments {
  readonly directory: string;
  readonly originals: string;
  readonly seed: number;
  readonly logPath: string;
  readonly fileNames: readonly string[];
  readonly fileBytesMax: number;
  readonly operationBytesMax: number;
  readonly allocates: boolean;
}
