import fc from 'fast-check';
import t from 'tap';
import { BlobAssembly } from '../../src/fetch/blob-intake.js';
import { spanOf } from '../../src/fetch/pack-range.js';
import type { BlobId, BlobReference } from '../../src/repo/index.js';
import { contentOf, packIdOf, sameBytes } from './support.js';

t.test('however an answer is cut, each blob comes once, whole, and as soon as it is there', (t) => {
  const layout = fc.array(
    fc.record({ gapBytes: fc.nat(40), sealedBytes: fc.integer({ min: 1, max: 200 }) }),
    {
      minLength: 1,
      maxLength: 12,
    },
  );
  const pieces = fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1 });
  fc.assert(
    fc.property(layout, pieces, fc.boolean(), (blobs, pieceBytes, ownMemory) => {
      let endBytes = 28;
      const wanted = blobs.map(({ gapBytes, sealedBytes }, counter) => {
        const offsetBytes = endBytes + gapBytes;
        endBytes = offsetBytes + sealedBytes;
        const id = String(counter) as BlobId;
        const reference: BlobReference = { packId: packIdOf(1), offsetBytes, sealedBytes, counter, id };
        return { reference };
      });
      const pack = contentOf(1, endBytes + 32);
      const span = spanOf(wanted.map(({ reference }) => reference))!;
      const complete: number[] = [];
      let atBytes = span.offsetBytes;
      const assembly = new BlobAssembly(span, wanted.toReversed(), ({ reference }, sealed) => {
        const { offsetBytes, sealedBytes, counter } = reference;
        if (offsetBytes + sealedBytes > atBytes) throw new Error('before it is there');
        if (!sameBytes(sealed, pack.slice(offsetBytes, offsetBytes + sealedBytes)))
          throw new Error('wrong bytes');
        if (sealed.byteLength !== sealed.buffer.byteLength)
          throw new Error('memory that is shared with others');
        complete.push(counter);
      });
      const spanEndBytes = span.offsetBytes + span.lengthBytes;
      for (let turn = 0; atBytes < spanEndBytes; turn += 1) {
        const lengthBytes = Math.min(pieceBytes[turn % pieceBytes.length]!, spanEndBytes - atBytes);
        const from = atBytes;
        atBytes += lengthBytes;
        const piece = ownMemory ? pack.slice(from, atBytes) : pack.subarray(from, atBytes);
        assembly.add(piece);
        const due = wanted.filter(
          ({ reference }) => reference.offsetBytes + reference.sealedBytes <= atBytes,
        );
        if (complete.length !== due.length)
          throw new Error(`${complete.length} of ${due.length} that are there`);
      }
      if (complete.join() !== [...wanted.keys()].join()) throw new Error(`complete: ${complete.join()}`);
    }),
  );
  t.end();
});
