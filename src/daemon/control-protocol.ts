/**
 * The control socket speaks HTTP/1.1 with JSON bodies: `POST /METHOD` with the parameters. The answer is
 * newline-delimited JSON: any number of `progress` messages, then exactly one `result` or `error`.
 * Try it: `curl --unix-socket SOCKET -d '{}' http://isr/status`.
 */
import type { Progress } from '../base/index.js';
import type { Explanation } from './explain/index.js';
import type { FillOptions } from './fill/index.js';
import type { WarmPlan, WarmRequest, WarmResult, WarmScope } from '../warm/index.js';
import type { DaemonStatus, PublishResult, Resuming, UnmountResult } from './types.js';
import type { Program } from './supervisor-protocol.js';
import type { WireError } from './errors.js';

export interface ControlMethods {
  status: { parameters: Record<string, never>; result: DaemonStatus };
  explain: { parameters: Record<string, never>; result: Explanation };
  flush: { parameters: Record<string, never>; result: null };
  publish: { parameters: { readonly releaseLease: boolean }; result: PublishResult };
  warm: { parameters: WarmRequest; result: WarmResult };
  planWarming: { parameters: WarmScope; result: WarmPlan };
  resuming: { parameters: Resuming; result: null };
  fill: { parameters: FillOptions; result: null };
  upgrade: { parameters: { readonly program: Program }; result: null };
  unmount: { parameters: Record<string, never>; result: UnmountResult };
}

export type ControlMethod = keyof ControlMethods;

export type ControlMessage =
  { readonly progress: Progress } | { readonly result: unknown } | { readonly error: WireError };

/** Longest request body the server reads: parameters are small. */
export const requestBytesMax = 64 * 1024;
