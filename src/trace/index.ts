/** What resumes touch: recording first touches, and merging recordings of many resumes into what the next one needs. */
export { mergeTraces } from './merge.js';
export { TraceEvidence } from './evidence.js';
export { keepRecording } from './keep-recording.js';
export { TraceRecorder, type TraceRecorderOptions } from './recorder.js';
export { chunkKey, Probes } from './probes.js';
export { ageInResumes, likelyTouches, timesSeen } from './likely.js';
