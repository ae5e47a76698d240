import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { systemErrorCode } from '../../base/index.js';
import { waitParts, type StallReport, type WaitPart } from '../../fetch/index.js';
import type { VmPaths } from '../../host/index.js';
import { stallCauses, type StallCause } from './causes.js';

/** What programs waited for since a guest was resumed, or since the VM was mounted. */
export interface Explanation extends StallReport<StallCause> {
  readonly vmName: string;
  /** Whether a guest was resumed when it began. */
  readonly isResume: boolean;
  readonly version: number | undefined;
  readonly startedAt: string;
  /** Whether the mount was gone in order when this was written. */
  readonly isOver: boolean;
}

const ms = v.pipe(v.number(), v.minValue(0));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const partsMs = v.strictObject(
  Object.fromEntries(waitParts.map((part) => [part, ms])) as Record<WaitPart, typeof ms>,
);
const sums = { stalls: count, durationMs: ms, partsMs };
const cause = v.picklist(stallCauses);
const fetchClass = v.picklist(['demand', 'around', 'replay', 'background']);

const schema = v.object({
  ...sums,
  vmName: v.string(),
  isResume: v.boolean(),
  version: v.optional(v.number()),
  startedAt: v.string(),
  isOver: v.boolean(),
  wallMs: ms,
  elapsedMs: ms,
  causes: v.array(v.object({ ...sums, cause })),
  files: v.array(v.object({ ...sums, path: v.string() })),
  longest: v.array(
    v.object({
      path: v.string(),
      offsetBytes: count,
      lengthBytes: count,
      access: v.picklist(['read', 'write', 'seek']),
      chunkIndex: v.optional(count),
      atMs: ms,
      durationMs: ms,
      partsMs,
      mapMs: ms,
      joined: v.optional(fetchClass),
      cause,
    }),
  ),
});

/** Written while a guest that was resumed has its VM mounted, and kept until the next resume. */
export function stallReportPath(paths: VmPaths): string {
  return join(paths.directory, 'stalls.json');
}

/** Of the last resume on this host; undefined where there is none that can be read. */
export async function readStallReport(paths: VmPaths): Promise<Explanation | undefined> {
  try {
    const parsed = v.safeParse(schema, JSON.parse(await readFile(stallReportPath(paths), 'utf8')));
    if (!parsed.success) return undefined;
    const { version, longest, ...report } = parsed.output;
    return {
      ...report,
      version,
      longest: longest.map(({ chunkIndex, joined, ...stall }) => ({ ...stall, chunkIndex, joined })),
    };
  } catch (error) {
    if (error instanceof SyntaxError || systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
