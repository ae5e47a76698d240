/** Drawings of the runs, beside `resume.json`. */
import type { RunRecord } from '../runs.js';
import { drawBars } from './bars.js';
import { drawBandwidths } from './bandwidths.js';

/** Draws all that there are runs for. */
export async function drawPlots(runs: readonly RunRecord[]): Promise<void> {
  await drawBars(runs);
  await drawBandwidths(runs);
}
