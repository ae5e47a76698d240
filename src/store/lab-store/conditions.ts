/** What the imitated network and its faults are like. Rates are probabilities of one request, 0 to 1. */
export interface LabConditions {
  /** Bandwidth of each direction, shared by all requests under way; `Infinity` for none to wait for. */
  readonly megabitsPerSecond: number;
  /** From sending a request to the first byte of its answer. */
  readonly roundTripMs: number;
  /** Added to the round trip: evenly distributed between 0 and this. */
  readonly jitterMs: number;
  /** `StoreUnreachable`; half of the requests that fail so were carried out, and only the answer was lost. */
  readonly errorRate: number;
  /** `StoreUnreachable`: the connection is refused, and nothing was carried out. */
  readonly refuseRate: number;
  /** `StoreUnreachable`: the connection is reset; half of these requests were carried out. */
  readonly resetRate: number;
  /** `StoreUnreachable`: the store answers 500, or 503 SlowDown, and carries nothing out. */
  readonly serverErrorRate: number;
  readonly slowDownRate: number;
  /** `StoreRefused`: the store answers 403. */
  readonly forbiddenRate: number;
  /** `StoreUnreachable`: what is read breaks off on its way. */
  readonly cutRate: number;
  /** What is read stops on its way for `stallMs`, then goes on. */
  readonly stallRate: number;
  readonly stallMs: number;
  /** What is read are the bytes before those that were asked for; at the beginning of an object, one bit is wrong. */
  readonly wrongRangeRate: number;
  /** One bit of what is read is wrong. */
  readonly corruptRate: number;
  /** What is read is shorter than it was: `ObjectTruncated`. */
  readonly truncateRate: number;
  /** An outage begins after about so long without one (half to one and a half times), and lasts for `outageMs`; 0: never. */
  readonly outageEveryMs: number;
  readonly outageMs: number;
  /** Outages that are certain, in seconds since the store was opened. */
  readonly outages: readonly PlannedOutage[];
}

export interface PlannedOutage {
  readonly fromSeconds: number;
  readonly toSeconds: number;
}

export const perfectConditions: LabConditions = {
  megabitsPerSecond: Infinity,
  roundTripMs: 0,
  jitterMs: 0,
  errorRate: 0,
  refuseRate: 0,
  resetRate: 0,
  serverErrorRate: 0,
  slowDownRate: 0,
  forbiddenRate: 0,
  cutRate: 0,
  stallRate: 0,
  stallMs: 30_000,
  wrongRangeRate: 0,
  corruptRate: 0,
  truncateRate: 0,
  outageEveryMs: 0,
  outageMs: 10_000,
  outages: [],
};
