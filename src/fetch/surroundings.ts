import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '../base/index.js';
import type { FetchOptions } from './types.js';

/** From so many on, what follows them is all that is fetched. */
const ascentsOfScan = 2;

/** One on each side. */
const piecesClose = 2;

/** What is asked of a file whose chunks lie around a demand. */
export interface SurroundedFile {
  readonly map: { readonly chunkBytes: number; readonly sizeBytes: number };
  warm(offsetBytes: number, lengthBytes: number, options: FetchOptions): Promise<unknown>;
}

/** What is known of the link, and of what else uses it. */
export interface SurroundingsLink {
  /** Milliseconds. */
  now(): number;
  readonly roundTripMs: number | undefined;
  /**
   * What lies farther away does not pay: a replay is under way, which has a better use of the link; or what is brought pushes
   * others out of the local cache.
   */
  readonly keepsClose: boolean;
}

/** A demand that was not local, and what was asked for around it: wider each time. */
interface Centre {
  readonly file: SurroundedFile;
  /** What lies between is on its way or was looked at. */
  startBytes: number;
  endBytes: number;
  /** Of the next piece on each side. */
  aheadBytes: number;
  behindBytes: number;
  /** Pieces that were asked for. */
  pieces: number;
  /** Where the newest demand was. */
  readonly demandBytes: number;
  /** Demands here that came after one that was before them in the file: many, where a program goes through memory or a disk. */
  readonly ascents: number;
}

/**
 * While a demand is on its way its link idles for most of a round trip. The chunks around it, which a guest is most likely
 * to want next, use that time: those after it, then those before it, then wider around; around the newest demands first. So
 * the link is busy as long as somebody waits for it, and no longer. Demands that ascend have as much fetched after them as the
 * link carries before they come there.
 *
 * All goes behind every demand, and no more of it at once than the link holds.
 */
export class Surroundings implements Disposable {
  readonly #link: SurroundingsLink;
  /** Newest first. */
  #centres: Centre[] = [];
  readonly #stop = new AbortController();
  #demands = 0;
  #demandEndedAt = -Infinity;
  #underWay = 0;

  constructor(link: SurroundingsLink) {
    this.#link = link;
  }

  /** A demand for a chunk that is not local has begun. */
  async missed(file: SurroundedFile, chunkIndex: number, demand: Promise<unknown>): Promise<void> {
    this.#add(file, chunkIndex);
    this.#demands += 1;
    const isAnswered = demand.then(
      () => true,
      () => true,
    );
    void isAnswered.then(() => {
      this.#demands -= 1;
      this.#demandEndedAt = this.#link.now();
    });
    // A little later, so that the answers come behind the demand's; not at all where that comes so soon that no time is left.
    const isSlow = sleep(this.#delayMs, false, { ref: false });
    if (!(await Promise.race([isAnswered, isSlow]))) this.#fill();
  }

  [Symbol.dispose](): void {
    this.#centres = [];
    this.#stop.abort();
  }

  #add(file: SurroundedFile, chunkIndex: number): void {
    const { chunkBytes } = file.map;
    const { pieceBytes, centres } = limits.surroundings;
    const startBytes = chunkIndex * chunkBytes;
    const endBytes = startBytes + chunkBytes;
    const before = this.#centres.find(
      (centre) =>
        centre.file === file && startBytes >= centre.startBytes && startBytes <= centre.endBytes + pieceBytes,
    );
    if (before === undefined) {
      const sideBytes = Math.max(chunkBytes, pieceBytes);
      const [aheadBytes, behindBytes] = [sideBytes, sideBytes];
      const place = { file, startBytes, endBytes, demandBytes: startBytes };
      this.#centres.unshift({ ...place, aheadBytes, behindBytes, pieces: 0, ascents: 0 });
      this.#centres.splice(centres);
      return;
    }
    const ascents = startBytes > before.demandBytes ? before.ascents + 1 : 0;
    const centre: Centre = {
      ...before,
      endBytes: Math.max(before.endBytes, endBytes),
      demandBytes: startBytes,
      ascents,
      pieces: ascents >= ascentsOfScan && !this.#link.keepsClose ? 0 : before.pieces,
    };
    this.#centres = [centre, ...this.#centres.filter((each) => each !== before)];
  }

  #fill(): void {
    while (this.#underWay < limits.surroundings.piecesInFlight && this.#isDemandExpected) {
      const piece = this.#next();
      if (piece === undefined) return;
      this.#underWay += 1;
      const options = { fetchClass: 'around', signal: this.#stop.signal } as const;
      // What goes wrong here is counted by the fetcher, and shows again when the chunk is really wanted.
      void piece.file
        .warm(piece.startBytes, piece.endBytes - piece.startBytes, options)
        .catch(() => undefined)
        .finally(() => {
          this.#underWay -= 1;
          this.#fill();
        });
    }
  }

  get #delayMs(): number {
    const { delayMs } = limits.surroundings;
    return Math.min(delayMs, (this.#link.roundTripMs ?? Infinity) / 4);
  }

  get #isDemandExpected(): boolean {
    if (this.#stop.signal.aborted) return false;
    const lingerMs = Math.max(limits.demandLingerMs, 2 * (this.#link.roundTripMs ?? 0));
    return this.#demands > 0 || this.#link.now() - this.#demandEndedAt < lingerMs;
  }

  /** Around that centre which had the fewest pieces so far, and of several around the newest. */
  #next():
    { readonly file: SurroundedFile; readonly startBytes: number; readonly endBytes: number } | undefined {
    for (;;) {
      const [first, ...others] = this.#centres;
      if (first === undefined) return undefined;
      const centre = others.reduce((least, each) => (each.pieces < least.pieces ? each : least), first);
      if (this.#link.keepsClose && centre.pieces >= piecesClose) return undefined;
      const { file } = centre;
      const isAhead = centre.ascents >= ascentsOfScan || centre.pieces % 2 === 0;
      const piece = isAhead ? ahead(centre) : behind(centre);
      centre.pieces += 1;
      if (centre.pieces >= limits.surroundings.piecesMax) {
        this.#centres = this.#centres.filter((each) => each !== centre);
      }
      if (piece.startBytes < piece.endBytes) return { file, ...piece };
    }
  }
}

/** The next piece after a centre, which then reaches to its end. */
function ahead(centre: Centre): { readonly startBytes: number; readonly endBytes: number } {
  const startBytes = centre.endBytes;
  const endBytes = Math.min(startBytes + centre.aheadBytes, centre.file.map.sizeBytes);
  centre.endBytes = Math.max(startBytes, endBytes);
  centre.aheadBytes = Math.min(2 * centre.aheadBytes, limits.surroundings.pieceBytesMax);
  return { startBytes, endBytes };
}

function behind(centre: Centre): { readonly startBytes: number; readonly endBytes: number } {
  const endBytes = centre.startBytes;
  centre.startBytes = Math.max(0, endBytes - centre.behindBytes);
  centre.behindBytes = Math.min(2 * centre.behindBytes, limits.surroundings.pieceBytesMax);
  return { startBytes: centre.startBytes, endBytes };
}
