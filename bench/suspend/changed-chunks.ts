import { open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { compress } from 'zstd-napi';

/** What of a VM differs between two versions. */
export interface ChangedChunks {
  readonly chunks: number;
  /** Each chunk by itself, with zstd's default level: the least that a publish of whole chunks can store. */
  readonly compressedBytes: number;
}

/** Compares two exported versions, chunk by chunk. Chunks that are all zero now cost nothing. */
export async function changedChunks(
  before: string,
  after: string,
  chunkBytes: number,
): Promise<ChangedChunks> {
  let chunks = 0;
  let compressedBytes = 0;
  const zeros = Buffer.alloc(chunkBytes);
  for (const name of await readdir(after)) {
    if (!(await stat(join(after, name))).isFile()) continue;
    const newer = await open(join(after, name));
    const older = await open(join(before, name)).catch(() => undefined);
    try {
      const { size } = await newer.stat();
      for (let offsetBytes = 0; offsetBytes < size; offsetBytes += chunkBytes) {
        const chunk = await readChunk(newer, offsetBytes, chunkBytes);
        if (chunk.equals(zeros.subarray(0, chunk.length))) continue;
        if (older !== undefined && chunk.equals(await readChunk(older, offsetBytes, chunkBytes))) continue;
        chunks += 1;
        compressedBytes += compress(chunk).length;
      }
    } finally {
      await newer.close();
      await older?.close();
    }
  }
  return { chunks, compressedBytes };
}

async function readChunk(file: FileHandle, offsetBytes: number, chunkBytes: number): Promise<Buffer> {
  const chunk = Buffer.allocUnsafe(chunkBytes);
  const { bytesRead } = await file.read(chunk, 0, chunkBytes, offsetBytes);
  return chunk.subarray(0, bytesRead);
}
