import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { limits } from '../base/index.js';
import { requestsFor } from '../fetch/index.js';
import { likelyTouches } from '../trace/index.js';
import { warmOrder, type WantedChunk } from './order.js';
import { firstPause, resumeSeconds, transferSeconds, type Link, type Load } from './predict.js';
import type { WarmScope, WarmStage, WarmVersion } from './types.js';

/** Chunks of a stage: all of them, and those that are on this host. Sealed bytes. */
export interface StagePlan {
  readonly stage: WarmStage;
  readonly chunks: number;
  readonly bytes: number;
  readonly localChunks: number;
  readonly localBytes: number;
}

/** A moment of the next resume, if it began now. */
export interface Prediction {
  /** Sealed bytes of the chunks that are touched until then, and of those that have to come. */
  readonly bytes: number;
  readonly absentBytes: number;
  readonly requests: number;
  /** From the start of the command. What the guest itself computes is not in it. Undefined where the link is not known. */
  readonly seconds: number | undefined;
}

export interface WarmPlan {
  readonly stages: readonly StagePlan[];
  readonly absentBytes: number;
  readonly requests: number;
  /** What fetching the rest now takes. Undefined where the link is not known. */
  readonly seconds: number | undefined;
  /** As measured; undefined where nothing was fetched yet and nothing need be. */
  readonly link: Link | undefined;
  /** Undefined without a trace. */
  readonly resume: { readonly firstTick: Prediction; readonly work: Prediction } | undefined;
}

/** Chunks that are looked at before somebody else has a turn. */
const chunksPerTurn = 256;

/**
 * What warming would do, and what a resume would take now. Fetches nothing but map nodes and, where the link was not measured
 * yet, the first megabyte of what is wanted.
 */
export async function planWarming(
  version: WarmVersion,
  scope: WarmScope,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<WarmPlan> {
  const options = { fetchClass: 'background', ...(signal === undefined ? {} : { signal }) } as const;
  const { fetcher, trace } = version;
  const wanted: WantedChunk[] = [];
  const absent = new Set<WantedChunk>();
  for await (const chunk of warmOrder(version, scope, options)) {
    wanted.push(chunk);
    if (wanted.length % chunksPerTurn === 0) await eventLoopTurn();
    if (!fetcher.isLocal(chunk.reference)) absent.add(chunk);
  }
  const stages = stagesOf(wanted, absent);
  if (linkOf(version) === undefined) await fetcher.warmChunks(probeOf(absent), options);
  const link = linkOf(version);
  const loadOf = (chunks: readonly WantedChunk[]): Load => {
    const references = chunks.filter((chunk) => absent.has(chunk)).map(({ reference }) => reference);
    return { bytes: sealedBytes(references), requests: requestsFor(references, fetcher.rangeBytes) };
  };
  const predict = (chunks: readonly WantedChunk[]): Prediction => {
    const load = loadOf(chunks);
    return {
      bytes: sealedBytes(chunks.map(({ reference }) => reference)),
      absentBytes: load.bytes,
      requests: load.requests,
      seconds:
        link === undefined
          ? load.requests === 0
            ? limits.resumeStartMs / 1000
            : undefined
          : resumeSeconds(load, link),
    };
  };
  const load = loadOf(wanted);
  const traced = wanted.filter(({ stage }) => stage === 'trace');
  return {
    stages,
    absentBytes: load.bytes,
    requests: load.requests,
    seconds: link === undefined ? (absent.size === 0 ? 0 : undefined) : transferSeconds(load, link),
    link,
    resume:
      trace === undefined || traced.length === 0
        ? undefined
        : { firstTick: predict(beforeFirstPause(version, traced)), work: predict(traced) },
  };
}

function stagesOf(wanted: readonly WantedChunk[], absent: ReadonlySet<WantedChunk>): StagePlan[] {
  const stages = new Map<WarmStage, WantedChunk[]>();
  for (const chunk of wanted) {
    const ofStage = stages.get(chunk.stage);
    if (ofStage === undefined) stages.set(chunk.stage, [chunk]);
    else ofStage.push(chunk);
  }
  return [...stages].map(([stage, chunks]) => {
    const local = chunks.filter((chunk) => !absent.has(chunk));
    return {
      stage,
      chunks: chunks.length,
      bytes: sealedBytes(chunks.map(({ reference }) => reference)),
      localChunks: local.length,
      localBytes: sealedBytes(local.map(({ reference }) => reference)),
    };
  });
}

/** Undefined before both are known. Where all is local that is for ever, and does not matter. */
function linkOf({ fetcher }: WarmVersion): Link | undefined {
  const { roundTripMs, bytesPerSecond } = fetcher.status().link;
  return roundTripMs === undefined || bytesPerSecond === undefined
    ? undefined
    : { roundTripMs, bytesPerSecond };
}

function* probeOf(absent: Iterable<WantedChunk>): Generator<WantedChunk['reference'], void> {
  let bytes = 0;
  for (const { reference } of absent) {
    if (bytes >= limits.planProbeBytes) return;
    bytes += reference.sealedBytes;
    yield reference;
  }
}

/** Chunks that are zero by now are touched too, and cost nothing. */
function beforeFirstPause({ trace }: WarmVersion, traced: readonly WantedChunk[]): readonly WantedChunk[] {
  if (trace === undefined) return [];
  const touches = likelyTouches(trace);
  const early = new Set(
    touches.slice(0, firstPause(touches)).map(({ path, chunkIndex }) => `${chunkIndex} ${path}`),
  );
  return traced.filter(({ path, chunkIndex }) => early.has(`${chunkIndex} ${path}`));
}

function sealedBytes(references: readonly { readonly sealedBytes: number }[]): number {
  return references.reduce((sum, reference) => sum + reference.sealedBytes, 0);
}
