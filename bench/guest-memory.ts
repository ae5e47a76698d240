import { open } from 'node:fs/promises';

const pageBytes = 4096;
const blockBytes = 1024 * 1024;

/**
 * Writes a file that compresses like the RAM of an idle Linux guest (zstd level 1 on 128 KiB: about 0.42): zero pages,
 * pages of pointers and small numbers, pages of text, pages that do not compress. No chunk is all zero, which would
 * flatter. The same for the same seed.
 */
export async function writeGuestMemory(path: string, lengthBytes: number, seed = 1): Promise<void> {
  const random = xorshift(seed);
  const block = Buffer.alloc(blockBytes);
  const file = await open(path, 'wx');
  try {
    for (let offset = 0; offset < lengthBytes; offset += blockBytes) {
      for (let page = 0; page < blockBytes; page += pageBytes) {
        fillPage(block.subarray(page, page + pageBytes), random);
      }
      await file.write(block, 0, Math.min(blockBytes, lengthBytes - offset), offset);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

type Random = () => number;

/** Marsaglia's xorshift32: unsigned 32-bit numbers. */
function xorshift(seed: number): Random {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>>= 0);
  };
}

function fillPage(page: Buffer, random: Random): void {
  const kind = random() % 100;
  if (kind < 12) page.fill(0);
  else if (kind < 34) fillNoise(page, random);
  else if (kind < 67) fillPointers(page, random);
  else fillText(page, random);
}

function fillNoise(page: Buffer, random: Random): void {
  for (let at = 0; at < page.length; at += 4) page.writeUInt32LE(random(), at);
}

/** Structures of kernel pointers, counters and padding. */
function fillPointers(page: Buffer, random: Random): void {
  const region = random() & 0xfff000;
  for (let at = 0; at < page.length; at += 32) {
    page.fill(0, at, at + 32);
    page.writeUInt32LE((region + (random() & 0xfff0)) >>> 0, at);
    page.writeUInt32LE(0xffff8880, at + 4);
    page.writeUInt16LE(random() & 0xff, at + 8);
    page.writeUInt32LE(random() & 0xffff, at + 16);
  }
}

const words =
  'the of init systemd device driver error page memory return static struct value kernel lib usr bin null'.split(
    ' ',
  );

function fillText(page: Buffer, random: Random): void {
  let text = '';
  while (text.length < page.length)
    text += `${words[random() % words.length] ?? ''}${random() % 4 === 0 ? random() % 1000 : ''} `;
  page.write(text, 'latin1');
}
