import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { openOverlay, rootInode } from '../../src/fs/index.js';
import type { PublishSource } from '../../src/repo/index.js';
import { chunkBytes, FakeVersion, manifestOf } from './support/fake-version.js';
import { caller, temporaryDirectory } from './support/open-file-system.js';
import { publishInto } from './support/publish.js';
import { Twins, type Step } from './support/twins.js';

type Event =
  | Step
  | { readonly kind: 'flush' | 'close' | 'kill' | 'publish' | 'compare' }
  | { readonly kind: 'memory'; readonly share: number };

const baseBytes = 5 * 4096 + 1234;
const name = fc.constantFrom('a', 'b', 'c', 'base');
const which = fc.nat(20);
/** Near the borders of pages, where mistakes are. */
const place = fc.oneof(
  fc.nat(8 * 4096),
  fc.tuple(fc.nat(8), fc.integer({ min: -2, max: 2 })).map(([page, by]) => Math.max(page * 4096 + by, 0)),
);
const length = place.map((bytes) => bytes + 1);
const mode = fc.constantFrom('replace' as const, 'noReplace' as const, 'exchange' as const);
const allocateMode = fc.constantFrom(
  'allocate' as const,
  'allocateKeepSize' as const,
  'punchHole' as const,
  'zeroRange' as const,
  'zeroRangeKeepSize' as const,
);
const permissions = fc.nat(0o7777);
const attributeName = fc.constantFrom('user.a', 'user.b', 'trusted.c');

const nameStep: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ kind: fc.constantFrom('makeFile' as const, 'makeDirectory' as const), at: which, name }),
  fc.record({ kind: fc.constantFrom('makeSymlink' as const, 'makeFifo' as const), at: which, name }),
  fc.record({ kind: fc.constantFrom('unlink' as const, 'removeDirectory' as const), at: which, name }),
  fc.record({ kind: fc.constant('link' as const), which, at: which, name }),
  fc.record({ kind: fc.constant('rename' as const), at: which, name, to: which, newName: name, mode }),
  fc.record({ kind: fc.constant('attributes' as const), which, permissions }),
  fc.record({
    kind: fc.constantFrom('setAttribute' as const, 'removeAttribute' as const),
    which,
    name: attributeName,
  }),
);
const contentStep: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ kind: fc.constantFrom('open' as const, 'release' as const), which }),
  fc.record({ kind: fc.constant('write' as const), which, offset: place, length }),
  fc.record({
    kind: fc.constant('write' as const),
    which,
    offset: place,
    length: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({ kind: fc.constant('resize' as const), which, size: place }),
  fc.record({ kind: fc.constant('copy' as const), which, to: which, offset: place, toOffset: place, length }),
  fc.record({ kind: fc.constant('allocate' as const), which, mode: allocateMode, offset: place, length }),
);
const lifeStep: fc.Arbitrary<Event> = fc.oneof(
  fc.record({
    kind: fc.constantFrom(
      'flush' as const,
      'close' as const,
      'kill' as const,
      'publish' as const,
      'compare' as const,
    ),
  }),
  fc.record({ kind: fc.constant('fsync' as const), which }),
  fc.record({ kind: fc.constant('memory' as const), share: fc.constantFrom(0, 0.5, 1) }),
);

t.test('any sequence of calls, crashes and publications leaves what the model has', async (t) => {
  const events = fc.array(
    fc.oneof(
      { arbitrary: nameStep, weight: 3 },
      { arbitrary: contentStep, weight: 6 },
      { arbitrary: lifeStep, weight: 2 },
    ),
    { maxLength: 40, size: 'max' },
  );
  await fc.assert(
    fc.asyncProperty(events, fc.constantFrom(3000, 10_000_000), (events, growth) => run(t, events, growth)),
    { numRuns: 150 },
  );
  t.pass('for all sequences');
});

async function run(t: Test, events: readonly Event[], journalGrowthBytes: number): Promise<void> {
  const directory = temporaryDirectory(t);
  let overlay = join(directory, 'overlay');
  // Far ahead of the disk's clock, which writes in place take their time from after a crash.
  let nowMs = 4_000_000_000_000;
  const clock = { wallMs: () => nowMs };
  const version = new FakeVersion();
  const content = randomBytes(baseBytes);
  const tree = {
    base: { file: version.addFile(content) },
    b: { directory: { a: { file: version.addFile(content.subarray(0, 4096)) } } },
  };
  const manifest = manifestOf(tree, BigInt(nowMs) * 1_000_000n);
  const open = (identity: string, path = overlay) =>
    openOverlay({
      directory: path,
      base: { manifest, identity },
      openFile: version.openFile,
      clock,
      bootId: 'boot 1',
      journalGrowthBytes,
      onError: (error) => {
        throw error;
      },
    });
  const twins = new Twins(await open('1'), () => BigInt(nowMs) * 1_000_000n);
  likeManifest(twins, content);
  let identity = 1;
  try {
    // Without an open file most steps would do nothing.
    await twins.apply({ kind: 'open', which: 2 });
    for (const event of events) {
      nowMs += 1;
      switch (event.kind) {
        case 'flush':
          await twins.real.flush();
          break;
        case 'compare':
          await twins.compare();
          break;
        case 'close':
          await twins.real.close();
          await twins.reopened(await open(String(identity)));
          break;
        case 'kill':
          overlay = await kill(twins, overlay, directory, (copy) => open(String(identity), copy));
          break;
        case 'publish':
          identity += 1;
          await publish(twins, version, String(identity));
          break;
        case 'memory':
          version.inMemory = (offsetBytes) => (offsetBytes / 4096) % 2 < event.share * 2;
          break;
        default:
          await twins.apply(event);
      }
    }
    await twins.compare();
  } finally {
    await twins.real.close();
    rmSync(directory, { recursive: true });
  }
}

/** The model has no base: it starts with the same files, written. */
function likeManifest({ model }: Twins, content: Buffer): void {
  const write = (parent: ReturnType<typeof model.lookup>['inode'], name: string, data: Buffer): void => {
    const { handle } = model.create(parent, name, 0o644, 2, caller);
    void model.write(handle, 0, data);
    model.release(handle);
  };
  write(rootInode, 'base', content);
  const { inode } = model.makeDirectory(rootInode, 'b', 0o755, caller);
  write(inode, 'a', content.subarray(0, 4096));
}

/** What a process that was killed leaves is opened elsewhere, before the process here does anything more. */
async function kill(
  twins: Twins,
  overlay: string,
  directory: string,
  open: (copy: string) => Promise<Twins['real']>,
): Promise<string> {
  const copy = mkdtempSync(join(directory, 'killed-'));
  cpSync(overlay, copy, { recursive: true });
  const killed = twins.real;
  twins.comparesTimes = false;
  await twins.reopened(await open(copy));
  await killed.close();
  return copy;
}

async function publish(twins: Twins, version: FakeVersion, identity: string): Promise<void> {
  twins.real.freeze({ force: true });
  const source: PublishSource = twins.real.publishSource(chunkBytes);
  const files = await publishInto(version, source);
  await twins.real.rebase(identity, files);
  twins.real.thaw();
  assert.deepEqual(twins.real.dirty(), { bytes: 0, changedFiles: 0 });
  await twins.compare();
}
