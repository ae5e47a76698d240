import type { Link } from '../link.js';
import type { Prepared, PreparedPart } from '../prepared.js';

/** What a run of a subject has: the suspended guest behind a link, and a directory of its own that is removed after it. */
export interface Place {
  readonly prepared: Prepared;
  readonly link: Link;
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** A guest on its way back. */
export interface Resuming extends AsyncDisposable {
  /** Where its console's socket appears. */
  readonly consolePath: string;
  /** Starts it: from here on the time counts. Resolves when the commands have returned. */
  resume(): Promise<void>;
  /** What it can say of itself once the work is done. */
  figures?(): Promise<SubjectFigures>;
  /** Brings all that is not here yet; absent where all is here once it runs. */
  bringAll?(): Promise<void>;
}

export interface SubjectFigures {
  /** Requests of the store that somebody waited for, and the sum of what they took. */
  readonly demandFaults: number;
  readonly stalledMs: number;
  /** Anything else worth keeping. */
  readonly details: unknown;
}

/** One way to resume a guest that lies behind a link. */
export interface Subject {
  readonly name: string;
  readonly title: string;
  /** What the server has in memory, as busy servers do, when a run begins. */
  readonly serves: PreparedPart | undefined;
  /** Everything that a user would have on the new host before: programs, keys; and empty caches. Not measured. */
  begin(place: Place): Promise<Resuming>;
}
