import t from 'tap';
import { limits } from '../../src/base/index.js';
import type { VersionNumber } from '../../src/repo/index.js';
import { TraceRecorder } from '../../src/trace/index.js';
import { VirtualClock } from '../store/virtual-clock.js';

function recorderAt(time: { ms: number }): TraceRecorder {
  return new TraceRecorder({
    version: 3 as VersionNumber,
    chunkBytes: 131072,
    clock: new VirtualClock(),
    monotonicMs: () => time.ms,
  });
}

t.test('a recording has each chunk once, in order, with times since the resume', async (t) => {
  const time = { ms: 500 };
  const recorder = recorderAt(time);
  recorder.touched('state', 0);
  time.ms += 20.4;
  recorder.touched('mem', 7);
  recorder.touched('mem', 3);
  time.ms += 100;
  recorder.touched('mem', 7);
  recorder.touched('state', 0);
  recorder.touched('disk/root.img', 7);
  t.strictSame(recorder.recording(), {
    version: 3,
    recordedAt: new Date(0),
    chunkBytes: 131072,
    resumes: 1,
    entries: [
      { path: 'state', chunkIndex: 0, atMs: 0, seenIn: 1 },
      { path: 'mem', chunkIndex: 7, atMs: 20, seenIn: 1 },
      { path: 'mem', chunkIndex: 3, atMs: 20, seenIn: 1 },
      { path: 'disk/root.img', chunkIndex: 7, atMs: 120, seenIn: 1 },
    ],
  });
});

t.test('a recording goes on after it was looked at', async (t) => {
  const recorder = recorderAt({ ms: 0 });
  recorder.touched('mem', 1);
  const before = recorder.recording();
  recorder.touched('mem', 2);
  t.equal(before.entries.length, 1);
  t.equal(recorder.count, 2);
});

t.test('a recording is bounded in touches, files and time', async (t) => {
  const many = recorderAt({ ms: 0 });
  for (let index = 0; index < limits.traceTouches + 5; index += 1) many.touched('mem', index);
  t.equal(many.count, limits.traceTouches);

  const files = recorderAt({ ms: 0 });
  for (let file = 0; file < limits.traceFiles + 5; file += 1) files.touched(`file ${file}`, 0);
  t.equal(files.count, limits.traceFiles);
  files.touched('file 0', 1);
  t.equal(files.count, limits.traceFiles + 1, 'files that it knows go on');

  const time = { ms: 0 };
  const long = recorderAt(time);
  time.ms = limits.traceDurationMs;
  long.touched('mem', 1);
  time.ms += 1;
  long.touched('mem', 2);
  t.equal(long.count, 1);
});
