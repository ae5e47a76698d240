import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import { MapNode } from '../format/map-node.js';
import { packKey } from '../format/object-keys.js';
import type { BlobId, BlobReader, BlobReference } from '../types.js';

/**
 * Decoded chunk-map nodes, bounded by bytes, shared by all maps of a process. Nodes are kept as the bytes they were
 * sealed from; an entry becomes an object only when somebody asks for it. Concurrent loads of one node share one read.
 */
export class NodeCache {
  readonly #nodes: LRUCache<BlobId, MapNode>;
  readonly #loading = new Map<BlobId, Promise<MapNode>>();

  constructor(maxBytes: number = limits.mapCacheBytes) {
    this.#nodes = new LRUCache({ maxSize: maxBytes, sizeCalculation: (node) => node.memoryBytes });
  }

  get bytes(): number {
    return this.#nodes.calculatedSize;
  }

  peek(reference: BlobReference): MapNode | undefined {
    return this.#nodes.get(reference.id);
  }

  /** The node, from memory or through `reader`. Rejects as `reader.readBlob` does, and with `DamagedObject`. */
  async load(
    reference: BlobReference,
    reader: BlobReader,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<MapNode> {
    const known = this.#nodes.get(reference.id);
    if (known !== undefined) return known;
    // A load that carries a signal is not shared: its cancellation must not reach others.
    if (options.signal !== undefined) return this.#read(reference, reader, options);
    const loading =
      this.#loading.get(reference.id) ??
      this.#read(reference, reader, options).finally(() => this.#loading.delete(reference.id));
    this.#loading.set(reference.id, loading);
    return loading;
  }

  async #read(
    reference: BlobReference,
    reader: BlobReader,
    options: { readonly signal?: AbortSignal },
  ): Promise<MapNode> {
    const plaintext = await reader.readBlob(reference, 'map-node', options);
    const node = MapNode.decode(plaintext, packKey(reference.packId));
    this.#nodes.set(reference.id, node);
    return node;
  }
}
