import { decodeManifest } from './format/manifest.js';
import { packKey } from './format/object-keys.js';
import type { BlobReader, BlobReference, Manifest } from './types.js';

/** The directory of a version, checked to be a tree of valid names. Rejects as `readBlob` does, and with `DamagedObject`. */
export async function loadManifest(
  reference: BlobReference,
  reader: BlobReader,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Manifest> {
  const plaintext = await reader.readBlob(reference, 'manifest', options);
  return decodeManifest(plaintext, packKey(reference.packId));
}
