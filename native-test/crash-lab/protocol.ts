import type { ExerciserArguments } from '../exerciser/protocol.js';
import type { TreeExerciserOptions } from '../exerciser/tree-exerciser.js';
import type { CrashPlan } from './crash-plan.js';

/** What the programs of the lab are asked. Each works below the mount as its working directory, which stays its even if it is lost. */
export type LabRequest =
  | { readonly type: 'enter' }
  | { readonly type: 'check' }
  /** Nothing of the mount is in use when it is answered. */
  | { readonly type: 'leave' }
  /** As `leave`, of a mount that may be lost. */
  | { readonly type: 'abandon' }
  /** In the new mount: compares what is there with what must be. */
  | { readonly type: 'recover' }
  /** Compares the files of a directory elsewhere. */
  | { readonly type: 'compare'; readonly directory: string };

export type CrashRequest =
  | LabRequest
  | {
      readonly type: 'run';
      readonly plan: CrashPlan;
      readonly workerPid: number;
      readonly supervisorPid: number;
    };

export type TreeCrashRequest =
  | LabRequest
  | {
      readonly type: 'run';
      readonly operations: number;
      readonly mayLoseMount: boolean;
      readonly holdsOn: boolean;
    };

export interface LabAnswer {
  readonly type: 'done';
  /** An operation failed as it does where the mount is lost. */
  readonly metLoss: boolean;
}

/** With which programs hold on to a mount that may be lost. */
export const holdOnOperations = 100;

export type FileProgramArguments = Omit<ExerciserArguments, 'directory'> & { readonly mountPath: string };

export type TreeProgramArguments = TreeExerciserOptions & { readonly mountPath: string };
