import type { Repository } from '../repository.js';
import type { BlobKind, BlobReader, BlobReference, PackId } from '../types.js';
import { ContentWriter } from './content-writer.js';
import type { StoredChunks } from './earlier-packs.js';
import type { SourceChunk } from './layout.js';

export interface StoreAheadRequest {
  readonly repository: Repository;
  /** For nodes of the maps of what the chunks were before. */
  readonly reader: BlobReader;
  readonly chunks: readonly SourceChunk[];
  /** What need not be stored again. */
  readonly stored: StoredChunks;
  /** Called for every new chunk before its pack is uploaded; waited for. */
  readonly onSealed: (reference: BlobReference, kind: BlobKind, sealed: Uint8Array) => Promise<void>;
  /** Called before a pack is uploaded; waited for. */
  readonly onPackBegun: (packId: PackId) => Promise<void>;
  readonly signal: AbortSignal;
}

/**
 * Stores chunks that may become part of a version later, in packs of their own, and answers how many bytes these have. Nothing
 * refers to them: a publish that is given the packs as `earlierPacks` uses of them what it would store itself. The
 * chunks may change meanwhile; what is stored is what was read. Memory: see `ContentWriter`.
 */
export async function storeAhead(request: StoreAheadRequest): Promise<number> {
  const { repository, reader, chunks, stored, onSealed, onPackBegun, signal } = request;
  const ignore = (): void => undefined;
  const content = new ContentWriter({
    ...{ repository, reader, onSealed, onPackBegun, signal },
    ...{ onPosition: ignore, onLaidOut: ignore, earlierPacks: stored, rewriteFraction: 0 },
  });
  try {
    await content.storeChunks(chunks);
    await content.finish();
    return content.storedBytes - stored.usedBytes;
  } finally {
    await content.settle();
  }
}
