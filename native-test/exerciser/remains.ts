import { firstDifference } from './difference.js';
import type { FileModel } from './file-model.js';

const pageBytes = 4096;

/**
 * What may be left of a change that was under way when its mount was lost: all or nothing of it; each page, or each
 * byte, from before or after it.
 */
export type Atomicity = 'whole' | 'pages' | 'bytes';

export interface Content {
  readonly bytes: Buffer;
  readonly sizeBytes: number;
}

/** Why content is not legal. */
export interface Objection {
  readonly offsetBytes: number;
  readonly what: string;
}

/** What else a page may hold, each byte of it any of them. */
type Doubted = (page: number) => readonly Buffer[] | undefined;

/**
 * What may remain of a file when its mount is lost: everything acknowledged. A change that is under way may have been
 * made, not, or in part, as far as its kind allows. Pages that a mapping has changed since they were last written
 * back may hold what they held at any time since; acknowledged changes count for all of that.
 */
export class Remains {
  readonly #model: FileModel;
  readonly #before: Buffer;
  #beforeBytes = 0;
  #underWay: Atomicity | undefined;
  /** What the file becomes in one step, where the model does not say so yet. */
  #next: Content | undefined;
  /** Of pages that a mapping changed: what the disk may have instead of what the model says. */
  readonly #doubts = new Map<number, Buffer[]>();

  constructor(model: FileModel) {
    this.#model = model;
    this.#before = Buffer.alloc(model.bytes.length);
  }

  /** A change begins; the model is changed before the file is. */
  begin(atomicity: Atomicity): void {
    const { bytes, sizeBytes } = this.#model;
    bytes.copy(this.#before, 0, 0, Math.max(sizeBytes, this.#beforeBytes));
    this.#beforeBytes = sizeBytes;
    this.#underWay = atomicity;
    this.#next = undefined;
  }

  /** In one step the file is going to hold something else. */
  willHold(data: Buffer): void {
    this.#next = { bytes: data, sizeBytes: data.length };
  }

  /** The change was made, between these bytes. */
  acknowledge(offsetBytes: number, lengthBytes: number): void {
    this.#underWay = this.#next = undefined;
    const { bytes, sizeBytes } = this.#model;
    for (const [page, contents] of this.#doubts) {
      const start = page * pageBytes;
      if (start >= sizeBytes) {
        this.#doubts.delete(page);
        continue;
      }
      const from = Math.max(offsetBytes, start);
      const to = Math.min(offsetBytes + lengthBytes, start + pageBytes);
      for (const content of contents) {
        if (from < to) bytes.copy(content, from - start, from, to);
        if (sizeBytes < start + pageBytes) content.fill(0, sizeBytes - start);
      }
    }
  }

  /** A mapping is about to change these bytes. */
  doubt(offsetBytes: number, lengthBytes: number): void {
    const last = Math.floor((offsetBytes + lengthBytes - 1) / pageBytes);
    for (let page = Math.floor(offsetBytes / pageBytes); page <= last; page++) {
      const contents = this.#doubts.get(page) ?? [];
      contents.push(Buffer.from(this.#model.bytes.subarray(page * pageBytes, (page + 1) * pageBytes)));
      this.#doubts.set(page, contents);
    }
  }

  /** What mappings changed is acknowledged. */
  writtenBack(): void {
    this.#doubts.clear();
  }

  /** Why the file may not hold this now; undefined if it may. */
  objection(found: Content): Objection | undefined {
    const now: Content = this.#next ?? this.#model;
    const before: Content = { bytes: this.#before, sizeBytes: this.#beforeBytes };
    const doubted: Doubted = (page) => {
      const contents = this.#doubts.get(page);
      if (contents === undefined) return undefined;
      const ofPage = ({ bytes }: Content): Buffer => bytes.subarray(page * pageBytes, (page + 1) * pageBytes);
      return [...contents, ofPage(this.#model), ...(this.#underWay === undefined ? [] : [ofPage(before)])];
    };
    if (this.#underWay === undefined) return objectionTo(found, [now], doubted);
    if (this.#underWay === 'whole') return objectionTo(found, [before, now], doubted);
    return objectionToPart(found, { before, after: now, atomicity: this.#underWay }, doubted);
  }

  /** What was found is what the file holds from now on. */
  adopt(found: Content): void {
    this.#model.resize(0);
    this.#model.write(0, found.bytes.subarray(0, found.sizeBytes));
    this.#doubts.clear();
    this.#underWay = this.#next = undefined;
  }
}

/** Each page must be that of one and the same content, or one that is in doubt. */
function objectionTo(
  found: Content,
  contents: readonly Content[],
  doubted: Doubted = () => undefined,
): Objection | undefined {
  const objections: Objection[] = [];
  for (const content of contents) {
    const objection =
      content.sizeBytes === found.sizeBytes
        ? objectionToPages(found, [content], 'pages', doubted)
        : {
            offsetBytes: Math.min(found.sizeBytes, content.sizeBytes),
            what: `${found.sizeBytes} bytes, not ${content.sizeBytes}`,
          };
    if (objection === undefined) return undefined;
    objections.push(objection);
  }
  const what = objections.map((objection) => objection.what).join('; nor: ');
  return { offsetBytes: objections[0]?.offsetBytes ?? 0, what };
}

/**
 * A change that was under way: while the file has its old size, each page or byte is from before or after it. Where it has
 * grown, it has all of the change up to there.
 */
export function objectionToPart(
  found: Content,
  change: { readonly before: Content; readonly after: Content; readonly atomicity: 'pages' | 'bytes' },
  doubted: Doubted = () => undefined,
): Objection | undefined {
  const { before, after, atomicity } = change;
  if (found.sizeBytes === before.sizeBytes) {
    return objectionToPages(found, [before, after], atomicity, doubted);
  }
  const isPart = atomicity === 'bytes' || found.sizeBytes % pageBytes === 0;
  const isBetween = found.sizeBytes > before.sizeBytes && found.sizeBytes < after.sizeBytes && isPart;
  if (!isBetween && found.sizeBytes !== after.sizeBytes) {
    const what = `${found.sizeBytes} bytes, which is neither ${before.sizeBytes} nor ${after.sizeBytes}`;
    return { offsetBytes: Math.min(found.sizeBytes, before.sizeBytes), what };
  }
  return objectionToPages(found, [after], atomicity, doubted);
}

function objectionToPages(
  found: Content,
  contents: readonly Content[],
  atomicity: 'pages' | 'bytes',
  doubted: Doubted,
): Objection | undefined {
  for (let start = 0; start < found.sizeBytes; start += pageBytes) {
    const end = Math.min(start + pageBytes, found.sizeBytes);
    const page = found.bytes.subarray(start, end);
    const possible = contents.map(({ bytes }) => bytes.subarray(start, end));
    if (possible.some((one) => one.equals(page))) continue;
    const doubts = doubted(start / pageBytes);
    let at = Math.max(...possible.map((one) => firstDifference(page, one)), 0);
    if (doubts !== undefined || atomicity === 'bytes') {
      const choices = [...possible, ...(doubts ?? [])];
      at = page.findIndex((byte, index) => !choices.some((one) => (one[index] ?? 0) === byte));
      if (at < 0) continue;
    }
    const show = (bytes: Buffer): string => bytes.toString('hex', at, at + 16);
    const what = `${show(page)}, where ${possible.map(show).join(' or ')} should be`;
    return { offsetBytes: start + at, what };
  }
  return undefined;
}
