import fc from 'fast-check';
import t from 'tap';
import zstd from 'zstd-napi';
import { BadFrame, Compression } from '../../../src/repo/format/compression.js';
import { errorOf } from './damage.js';

const compression = new Compression();

function frame(method: number, lengthBytes: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(5);
  header[0] = method;
  header.writeUInt32BE(lengthBytes, 1);
  return Buffer.concat([header, payload]);
}

t.test('any bytes are undone or refused, never anything else', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        compression.unframe(Buffer.from(bytes));
      } catch (error) {
        return error instanceof BadFrame;
      }
      return true;
    }),
  );
  t.pass();
});

t.test('frames that lie are refused before memory is spent on them', async (t) => {
  const compressed = zstd.compress(Buffer.alloc(1000));
  const withoutSize = new zstd.Compressor();
  withoutSize.setParameters({ contentSizeFlag: false });
  const lies: Record<string, Buffer> = {
    'an empty frame': Buffer.alloc(0),
    'an unknown method': frame(2, 1, Buffer.alloc(1)),
    'raw, too short': frame(0, 11, Buffer.alloc(10)),
    'raw, too long': frame(0, 9, Buffer.alloc(10)),
    'more than a blob may hold': frame(1, 0xffff_ffff, compressed),
    'zstd, another length': frame(1, 1001, compressed),
    'zstd, truncated': frame(1, 1000, compressed.subarray(0, -1)),
    'zstd, extended': frame(1, 1000, Buffer.concat([compressed, Buffer.alloc(3, 1)])),
    'zstd, a second frame': frame(1, 1000, Buffer.concat([compressed, compressed])),
    'zstd, no content size': frame(1, 1000, withoutSize.compress(Buffer.alloc(1000))),
    'zstd, nothing': frame(1, 0, Buffer.alloc(0)),
  };
  for (const [what, lie] of Object.entries(lies)) {
    t.type(
      errorOf(() => compression.unframe(lie)),
      BadFrame,
      what,
    );
  }
  t.equal(compression.unframe(frame(1, 1000, compressed)).length, 1000, 'a true one is accepted after them');
});
