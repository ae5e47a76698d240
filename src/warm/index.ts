/** Fetching ahead of use: what of a version is wanted, in which order, and what that will take. Never knows a mount. */
export { planWarming, type Prediction, type StagePlan, type WarmPlan } from './plan.js';
export { warmVersion, type WarmOptions } from './warm.js';
export { warmOrder, type WantedChunk } from './order.js';
export type { StageResult, WarmRequest, WarmResult, WarmScope, WarmStage, WarmVersion } from './types.js';
