import type { Clock } from '../base/index.js';
import { limits } from '../base/index.js';
import type { ByteRange, ObjectKey, ObjectStore } from '../store/index.js';
import { AbortScope } from './abort-scope.js';
import type { LinkEstimate } from './link-estimate.js';

/** An answer that brought next to nothing for too long. Never leaves this folder: it is tried again. */
export class TryTimedOut extends Error {
  constructor(readonly patienceMs: number) {
    super(`no answer within ${Math.round(patienceMs)} ms`);
  }
}

/** Bytes that have come over a link by any request; the difference of two looks is what it carried in between. */
export interface Delivered {
  bytes: number;
}

export interface StoreTryOptions {
  readonly store: Pick<ObjectStore, 'read'>;
  readonly clock: Clock;
  readonly link: LinkEstimate;
  readonly delivered: Delivered;
  readonly key: ObjectKey;
  readonly range: ByteRange;
  readonly signal: AbortSignal;
  /** Asked whenever the time to wait begins anew. */
  readonly patienceMs: () => number;
  readonly onPiece: (piece: Uint8Array) => void;
}

/**
 * One try at reading a range: `TryTimedOut` when it brings less than `limits.storePatience.progressBytes` in the time that the
 * link should need. A request that is given up is cancelled and left alone, so that a store which does not even hear that
 * cannot hold a reader up.
 */
export async function readInTime(options: StoreTryOptions): Promise<void> {
  const scope = new AbortScope(options.signal);
  const progress = { bytes: 0 };
  const tooLate = watch(options, scope.signal, progress);
  const answer = options.store.read(options.key, options.range, { signal: scope.signal });
  const pieces = answer[Symbol.asyncIterator]();
  let isOver = false;
  try {
    const measure = new Measure(options);
    for (;;) {
      const next = pieces.next();
      const result = await Promise.race([next, tooLate]);
      if (result.done === true) break;
      const piece = result.value;
      progress.bytes += piece.length;
      measure.note(piece.length);
      options.onPiece(piece);
    }
    isOver = true;
    measure.end();
  } finally {
    scope.end();
    if (!isOver) void pieces.return?.().catch(() => undefined);
  }
}

/** Rejects when the answer stands still; never settles otherwise. */
function watch(
  { clock, patienceMs }: StoreTryOptions,
  signal: AbortSignal,
  progress: { readonly bytes: number },
): Promise<never> {
  const watching = new Promise<never>((_resolve, reject) => {
    const goOn = (): void => {
      const atStart = progress.bytes;
      const ms = patienceMs();
      clock.delay(ms, signal).then(
        () => {
          if (progress.bytes - atStart >= limits.storePatience.progressBytes) goOn();
          else reject(new TryTimedOut(ms));
        },
        () => undefined,
      );
    };
    goOn();
  });
  watching.catch(() => undefined);
  return watching;
}

/** Tells the estimate of the link what one answer says about it. */
class Measure {
  readonly #options: StoreTryOptions;
  readonly #startedAtMs: number;
  readonly #deliveredAtStart: number;
  #first: { readonly atMs: number; readonly delivered: number; readonly bytes: number } | undefined;
  #pieces = 0;

  constructor(options: StoreTryOptions) {
    this.#options = options;
    this.#startedAtMs = options.clock.now();
    this.#deliveredAtStart = options.delivered.bytes;
  }

  note(pieceBytes: number): void {
    const { clock, delivered } = this.#options;
    delivered.bytes += pieceBytes;
    this.#pieces += 1;
    this.#first ??= { atMs: clock.now(), delivered: delivered.bytes, bytes: pieceBytes };
  }

  end(): void {
    const { clock, delivered, link } = this.#options;
    if (this.#first === undefined) return;
    const now = clock.now();
    const after = { bytes: delivered.bytes - this.#first.delivered, ms: now - this.#first.atMs };
    const rate = after.ms > 0 && after.bytes > 0 ? after.bytes / after.ms : undefined;
    // On a slow link the first piece may be long on its way: what came after it tells how long.
    link.noteFirstPiece(this.#first.atMs - this.#startedAtMs, this.#first.bytes, rate);
    if (this.#pieces > 1) {
      link.noteTransfer(after.bytes, after.ms);
      return;
    }
    // Of an answer in one piece only the whole is known: the round trip is taken off.
    const elapsedMs = now - this.#startedAtMs - (link.roundTripMs ?? 0);
    link.noteTransfer(delivered.bytes - this.#deliveredAtStart, elapsedMs);
  }
}
