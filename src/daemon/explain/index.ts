export { stallCauses, type ReplayPlan, type StallCause } from './causes.js';
export { StallKeeper } from './stall-keeper.js';
export { readStallReport, type Explanation } from './stall-report.js';
