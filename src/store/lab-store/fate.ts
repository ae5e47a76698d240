import type { LabConditions } from './conditions.js';

/** What keeps a request from being answered. */
export interface LabFailure {
  /** Continues the sentence "STORE cannot be reached: " or "STORE refuses: ". */
  readonly reason: string;
  /** Whether it is carried out before it fails. */
  readonly isCarriedOut: boolean;
  readonly isRefusal: boolean;
}

/** What will happen to one request. What is said of answers is only of use for reading. */
export interface Fate {
  readonly latencyMs: number;
  readonly failure: LabFailure | undefined;
  readonly isCorrupted: boolean;
  readonly isTruncated: boolean;
  readonly isCut: boolean;
  readonly isStalled: boolean;
  readonly isWrongRange: boolean;
  /** Where in the answer, 0 to 1. */
  readonly position: number;
}

/** Always draws the same number of numbers, so that one rate does not move the faults of another. */
export function drawFate(conditions: LabConditions, random: () => number): Fate {
  const happens = (rate: number): boolean => random() < rate;
  const error = random();
  const latencyMs = conditions.roundTripMs + conditions.jitterMs * random();
  const isCorrupted = happens(conditions.corruptRate);
  const isTruncated = happens(conditions.truncateRate);
  const position = random();
  const reset = random();
  const failures: readonly (LabFailure | false)[] = [
    error < conditions.errorRate / 2 && failing('the request was lost'),
    error < conditions.errorRate && { ...failing('the answer was lost'), isCarriedOut: true },
    happens(conditions.refuseRate) && failing('the connection was refused'),
    reset < conditions.resetRate && {
      ...failing('the connection broke off'),
      isCarriedOut: reset < conditions.resetRate / 2,
    },
    happens(conditions.serverErrorRate) && failing('it answers 500 (Internal Server Error)'),
    happens(conditions.slowDownRate) && failing('it answers 503 (SlowDown)'),
    happens(conditions.forbiddenRate) && { ...failing('it answers 403 (Forbidden)'), isRefusal: true },
  ];
  return {
    ...{ latencyMs, isCorrupted, isTruncated, position },
    failure: failures.find((failure) => failure !== false),
    isCut: happens(conditions.cutRate),
    isStalled: happens(conditions.stallRate),
    isWrongRange: happens(conditions.wrongRangeRate),
  };
}

function failing(reason: string): LabFailure {
  return { reason, isCarriedOut: false, isRefusal: false };
}
