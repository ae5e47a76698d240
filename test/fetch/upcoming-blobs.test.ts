import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { spanOf } from '../../src/fetch/pack-range.js';
import { UpcomingBlobs } from '../../src/fetch/upcoming-blobs.js';
import type { BlobId, BlobReference } from '../../src/repo/index.js';
import { packIdOf } from './support.js';

const rangeBytes = 1024 * 1024;
const blobBytes = 64 * 1024;

function referenceAt(pack: number, offsetBytes: number, sealedBytes: number): BlobReference {
  const id = `${pack}:${offsetBytes}` as BlobId;
  return { packId: packIdOf(pack), offsetBytes, sealedBytes, counter: 0, id };
}

function takeAll(blobs: readonly BlobReference[]): (readonly BlobReference[])[] {
  const upcoming = new UpcomingBlobs();
  for (const blob of blobs) upcoming.add(blob);
  const groups: (readonly BlobReference[])[] = [];
  for (let group = upcoming.take(rangeBytes); group !== undefined; group = upcoming.take(rangeBytes)) {
    groups.push(group);
  }
  return groups;
}

t.test('each request begins with what is wanted first, and every blob comes once', async () => {
  const blob = fc.record({
    pack: fc.integer({ min: 0, max: 2 }),
    place: fc.integer({ min: 0, max: 2000 }),
    sealedBytes: fc.integer({ min: 1, max: 2 * rangeBytes }),
  });
  fc.assert(
    fc.property(fc.array(blob, { maxLength: 100 }), (places) => {
      const blobs = places.map(({ pack, place, sealedBytes }) =>
        referenceAt(pack, place * blobBytes, sealedBytes),
      );
      const left = [...blobs];
      for (const group of takeAll(blobs)) {
        if (left[0] === undefined || !group.includes(left[0])) return false;
        const span = spanOf(group);
        if (group.length > 1 && (span === undefined || !fits(group, span.lengthBytes))) return false;
        if (!group.every(({ packId }) => packId === group[0]?.packId)) return false;
        for (const taken of group) left.splice(left.indexOf(taken), 1);
      }
      return left.length === 0;
    }),
  );
});

/** One that is longer than a range alone may have others within its own span. */
function fits(group: readonly BlobReference[], lengthBytes: number): boolean {
  return lengthBytes <= Math.max(rangeBytes, ...group.map(({ sealedBytes }) => sealedBytes));
}

t.test('the first requests bring only what is wanted soon, later ones what lies beside it', async (t) => {
  // Wanted in an order that goes to and fro between the two halves of a pack.
  const count = 400;
  const blobs = Array.from({ length: count }, (_, rank) => {
    const place = rank % 2 === 0 ? rank / 2 : count / 2 + (rank - 1) / 2;
    return referenceAt(0, place * blobBytes, blobBytes);
  });
  const groups = takeAll(blobs);
  const [first] = groups;
  const wantedSoon = (2 * rangeBytes) / blobBytes;
  t.equal(first?.length, wantedSoon / 2);
  t.ok(first?.every((blob) => blobs.indexOf(blob) < wantedSoon));
  t.ok(groups.length <= count / (rangeBytes / blobBytes) + 2, 'and there are few of them');
});

t.test('a gap that is cheaper than a request is fetched, a wider one is not', async (t) => {
  const near = [referenceAt(0, 0, blobBytes), referenceAt(0, blobBytes + limits.warmGapBytes, blobBytes)];
  t.equal(takeAll(near).length, 1);
  const far = [referenceAt(0, 0, blobBytes), referenceAt(0, blobBytes + limits.warmGapBytes + 1, blobBytes)];
  t.equal(takeAll(far).length, 2);
});

t.test('a blob that is wanted twice comes with the same request', async (t) => {
  const blob = referenceAt(0, 0, 2 * rangeBytes);
  t.strictSame(takeAll([blob, blob]), [[blob, blob]]);
});
