import { rename, writeFile } from 'node:fs/promises';
import createDebug from 'debug';
import { limits } from '../../base/index.js';
import { StallRecord, type StallFacts, type StallListener } from '../../fetch/index.js';
import type { VmPaths } from '../../host/index.js';
import { causeOf, type ReplayPlan, type StallCause, type StallSetting } from './causes.js';
import { readStallReport, stallReportPath, type Explanation } from './stall-report.js';

const debug = createDebug('isr:daemon:explain');

export interface StallKeeperOptions {
  readonly paths: VmPaths;
  readonly vmName: string;
  readonly version: number | undefined;
  /** A record of a resume is written down; that of a mere mount is gone with it. */
  readonly isResume: boolean;
  /** What was to be done about a chunk before it was wanted. */
  readonly planFor: (path: string, chunkIndex: number) => ReplayPlan;
  readonly isForeseen: (path: string, chunkIndex: number) => boolean;
  /** Told of each chunk that a read waited for. */
  readonly onStall: (path: string, chunkIndex: number) => void;
  readonly linkUse: () => { readonly receivedBytes: number; readonly bytesPerMs: number | undefined };
}

/**
 * What programs waited for since a guest was resumed, or since the mount. Written beside the VM's other state now and then,
 * so that it outlives the mount, and most of it the worker. It is advice: what goes wrong with the file is noted and ignored.
 */
export class StallKeeper implements AsyncDisposable {
  readonly #options: StallKeeperOptions;
  readonly #startedAt: string;
  readonly #record: StallRecord<StallCause>;
  readonly #startMs: number;
  readonly #receivedBefore: number;
  #written = -1;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: StallKeeperOptions, earlier: Explanation | undefined) {
    this.#options = options;
    this.#receivedBefore = options.linkUse().receivedBytes;
    this.#startedAt = earlier?.startedAt ?? new Date().toISOString();
    this.#startMs = performance.now();
    const elapsedMs = Math.max(0, Date.now() - Date.parse(this.#startedAt));
    this.#record = new StallRecord({
      causeOf: (facts) => causeOf(facts, this.#setting(facts)),
      isForeseen: options.isForeseen,
      ...(earlier === undefined ? {} : { earlier: { report: earlier, elapsedMs } }),
    });
  }

  static begin(options: StallKeeperOptions): StallKeeper {
    const keeper = new StallKeeper(options, undefined);
    keeper.#keepWriting();
    return keeper;
  }

  /** For a worker that follows another: what that one wrote down of the same mount is gone on with. */
  static async goOn(options: Omit<StallKeeperOptions, 'isResume'>): Promise<StallKeeper> {
    const earlier = await readStallReport(options.paths).catch(() => undefined);
    if (earlier === undefined || earlier.isOver) return StallKeeper.begin({ ...options, isResume: false });
    const keeper = new StallKeeper({ ...options, isResume: true }, earlier);
    keeper.#keepWriting();
    return keeper;
  }

  get isResume(): boolean {
    return this.#options.isResume;
  }

  get listener(): StallListener {
    return this.#record;
  }

  explanation(isOver = false): Explanation {
    const { vmName, version, isResume } = this.#options;
    return { vmName, isResume, version, startedAt: this.#startedAt, isOver, ...this.#record.report() };
  }

  /** Writes it down as it is now. Never rejects. */
  write(): Promise<void> {
    return this.#write(false);
  }

  /** Writes it down for good. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#write(true);
  }

  #setting({ path, chunkIndex, access }: StallFacts): StallSetting {
    const { planFor, linkUse, onStall } = this.#options;
    const { receivedBytes, bytesPerMs } = linkUse();
    const couldBytes = (bytesPerMs ?? Infinity) * (performance.now() - this.#startMs);
    const plan = chunkIndex === undefined ? 'untraced' : planFor(path, chunkIndex);
    if (chunkIndex !== undefined && access === 'read') onStall(path, chunkIndex);
    return {
      plan,
      linkUse: couldBytes > 0 ? (receivedBytes - this.#receivedBefore) / couldBytes : 0,
    };
  }

  #keepWriting(): void {
    if (!this.#options.isResume) return;
    // The last resume's record must not be taken for this one's.
    void this.#write(false);
    this.#timer = setInterval(() => void this.#write(false), limits.stallsWrittenEveryMs).unref();
  }

  /** One after the other. Never rejects. */
  #write(isOver: boolean): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      if (!this.#options.isResume) return;
      const explanation = this.explanation(isOver);
      if (!isOver && explanation.stalls === this.#written) return;
      this.#written = explanation.stalls;
      const path = stallReportPath(this.#options.paths);
      try {
        await writeFile(`${path}.tmp`, JSON.stringify(explanation), { mode: 0o600 });
        await rename(`${path}.tmp`, path);
      } catch (error) {
        debug('%s cannot be written: %o', path, error);
      }
    });
    return this.#writing;
  }
}
