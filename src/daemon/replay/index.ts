/** Brings what a resumed guest will touch before it does, and records what it touches. */
export type { ReplayStatus } from './replay.js';
export { ResumedRun } from './resumed-run.js';
