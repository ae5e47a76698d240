import createDebug from 'debug';
import { Cancelled, limits } from '../../base/index.js';
import type { Engine } from '../../fuse/index.js';
import type { Manifest, Trace, VersionNumber, VmHistory } from '../../repo/index.js';
import type { Fetcher } from '../../fetch/index.js';
import type { VmFileSystem } from '../../fs/index.js';
import { keepRecording, likelyTouches, Probes, TraceRecorder } from '../../trace/index.js';
import type { ReplayPlan } from '../explain/index.js';
import { Puller } from './puller.js';
import { Replay, type ReplayStatus } from './replay.js';

const debug = createDebug('isr:daemon:replay');

export interface ResumedRunRequest {
  readonly version: VersionNumber;
  readonly chunkBytes: number;
  readonly history: VmHistory;
  readonly readManifest: (signal: AbortSignal) => Promise<Manifest>;
  readonly fetcher: Fetcher;
  readonly fileSystem: Pick<VmFileSystem, 'watchTouches'>;
  readonly engine: Pick<Engine, 'replayFor'>;
  readonly mountPath: string;
  /** Whether what earlier resumes touched is brought before the guest asks for it. */
  readonly prefetch: boolean;
}

/** What a mount does for a guest that is resumed: records what it touches, and brings what earlier ones touched. */
export class ResumedRun {
  readonly #request: ResumedRunRequest;
  readonly #recorder: TraceRecorder;
  readonly #stop = new AbortController();
  readonly #replaying: Promise<void>;
  #replay: Replay | undefined;
  /** The trace was read, or there is none. */
  #isPlanned = false;
  #probes: Probes | undefined;
  readonly #timer: NodeJS.Timeout;
  #ending: Promise<void> | undefined;

  /** Begins at once, and never fails. */
  constructor(request: ResumedRunRequest) {
    this.#request = request;
    this.#recorder = new TraceRecorder(request);
    request.fileSystem.watchTouches((path, chunkIndex) => this.#recorder.touched(path, chunkIndex));
    this.#replaying = request.prefetch ? this.#startReplay() : Promise.resolve();
    this.#timer = setTimeout(() => void this.end(), limits.traceDurationMs).unref();
  }

  /** Undefined where there is nothing to replay. */
  get replay(): ReplayStatus | undefined {
    return this.#replay?.status();
  }

  /** Whether what earlier resumes touched is being brought, or about to be. */
  get isReplaying(): boolean {
    return this.#replay === undefined
      ? this.#request.prefetch && !this.#isPlanned
      : !this.#replay.status().isDone;
  }

  /** Resolves when that is over, however it ended. */
  async whenReplayed(): Promise<void> {
    await this.#replaying;
    await this.#replay?.whenDone().catch((error: unknown) => debug('a replay failed: %o', error));
  }

  /** What was meant to be done about a chunk before the guest wants it. */
  planFor(path: string, chunkIndex: number): ReplayPlan {
    if (!this.#request.prefetch) return 'noPrefetch';
    if (this.#replay !== undefined) return this.#replay.planFor({ path, chunkIndex });
    return this.#isPlanned ? 'noTrace' : 'toCome';
  }

  /** Whether a replay is going to bring a chunk. */
  isForeseen(path: string, chunkIndex: number): boolean {
    return this.#replay?.isBringing({ path, chunkIndex }) === true;
  }

  /** The guest read a chunk, and had to wait. */
  stalled(path: string, chunkIndex: number): void {
    this.#replay?.touched({ path, chunkIndex });
  }

  /** Brings nothing more, and notes nothing more. Idempotent. */
  async halt(): Promise<void> {
    clearTimeout(this.#timer);
    this.#stop.abort();
    this.#request.fileSystem.watchTouches(undefined);
    await this.#replaying;
    await this.#replay?.[Symbol.asyncDispose]();
  }

  /** Ends the replay and stores what was recorded: advice for the next resume, whose loss harms nobody. Idempotent. */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    await this.halt();
    const recording = this.#recorder.recording();
    const assumed = this.#probes?.assumed(recording.entries);
    try {
      await keepRecording(this.#request.history, recording, {
        signal: AbortSignal.timeout(limits.traceWriteTimeoutMs),
        ...(assumed === undefined ? {} : { assumed }),
      });
    } catch (error) {
      debug('what this resume touched is not stored: %o', error);
    }
  }

  async #startReplay(): Promise<void> {
    // It takes as long to start as the trace takes to come.
    const puller = this.#request.engine.replayFor === undefined ? undefined : await Puller.start();
    try {
      const trace = await this.#readTrace();
      if (!this.#stop.signal.aborted && trace !== undefined) {
        const chunks = likelyTouches(trace);
        const manifest = await this.#request.readManifest(this.#stop.signal);
        const probes = new Probes(chunks, trace.resumes);
        this.#probes = probes;
        this.#replay = new Replay({ ...this.#request, manifest, chunks, probes, puller });
        return;
      }
    } catch (error) {
      if (!(error instanceof Cancelled)) debug('no replay: %o', error);
    } finally {
      this.#isPlanned = true;
    }
    await puller?.[Symbol.asyncDispose]();
  }

  /** Undefined if there is none that fits. */
  async #readTrace(): Promise<Trace | undefined> {
    const { history, chunkBytes } = this.#request;
    const trace = await history.readTrace({ signal: this.#stop.signal });
    return trace?.chunkBytes === chunkBytes ? trace : undefined;
  }
}
