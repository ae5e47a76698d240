import t, { type Test } from 'tap';
import { encodePackEnding, encodePackHeader, packHeaderBytes } from '../../src/repo/format/pack.js';
import { encodeHeader } from '../../src/repo/format/header.js';
import {
  DamagedObject,
  packKey,
  Repository,
  RepositoryExists,
  RepositoryMissing,
  type BlobReference,
  type PackIndexEntry,
  type RepositorySecrets,
} from '../../src/repo/index.js';
import { ObjectMissing, type ObjectKey } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { otherSecrets, packA, packB, secrets } from './format/examples.js';

const headerKey = 'isr' as ObjectKey;

async function open(t: Test, store: MemoryStore, withSecrets: RepositorySecrets): Promise<Repository> {
  const repository = await Repository.open(store, withSecrets);
  t.teardown(() => repository[Symbol.asyncDispose]());
  return repository;
}

async function create(t: Test, store: MemoryStore): Promise<Repository> {
  const { repository } = await Repository.create(store, { codecThreads: 1 });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return repository;
}

t.test('a repository is created once', async (t) => {
  const store = new MemoryStore();
  await t.rejects(Repository.readHeader(store), {
    code: new RepositoryMissing('').code,
    message: 'There is no repository in memory:.',
  });
  await t.rejects(Repository.open(store, secrets), RepositoryMissing);
  const { repository, secrets: made } = await Repository.create(store, { chunkBytes: 65536 });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const before = store.object(headerKey);
  await t.rejects(Repository.create(store), RepositoryExists);
  t.same(store.object(headerKey), before, 'the one that is there is not touched');
  t.same(await Repository.readHeader(store), {
    version: 1,
    repositoryId: made.repositoryId,
    chunkBytes: 65536,
  });
  t.same((await open(t, store, made)).header, repository.header);
});

t.test('a lost answer to the creation is no failure', async (t) => {
  const store = new MemoryStore();
  store.putIfAbsent = async (key, parts) => {
    await store.put(key, parts);
    return 'exists';
  };
  const { repository } = await Repository.create(store);
  t.teardown(() => repository[Symbol.asyncDispose]());
  t.same(await Repository.readHeader(store), repository.header);
});

t.test('another key, another format, another header', async (t) => {
  const store = new MemoryStore();
  const repository = await create(t, store);
  await t.rejects(Repository.open(store, otherSecrets), { code: 'WRONG_KEY' });
  store.objects.set(headerKey, Buffer.from('{"format":"isr-repository","version":7}\n'));
  const newer = { code: 'UNKNOWN_FORMAT', message: /^The repository in memory: has format version 7; / };
  await t.rejects(Repository.open(store, repository.secrets), newer);
  await t.rejects(Repository.readHeader(store), newer);
  store.objects.set(headerKey, Buffer.alloc(0));
  await t.rejects(Repository.readHeader(store), DamagedObject);
});

/** A pack of two chunks of one length, in the store. */
function putPack(store: MemoryStore, repository: Repository, packId = packA): [BlobReference, BlobReference] {
  const { sealer } = repository;
  let offsetBytes = packHeaderBytes;
  const blobs = [Buffer.alloc(1000, 1), Buffer.alloc(1000, 2)].map((plaintext, position) => {
    const id = sealer.identify(plaintext);
    const sealed = sealer.seal(plaintext, 'chunk', packId, position + 1, id);
    const reference = { packId, id, counter: position + 1, offsetBytes, sealedBytes: sealed.length };
    offsetBytes += sealed.length;
    return { sealed, entry: { kind: 'chunk', reference } satisfies PackIndexEntry };
  });
  const entries = blobs.map(({ entry }) => entry);
  const parts = [
    encodePackHeader(packId),
    ...blobs.map(({ sealed }) => sealed),
    encodePackEnding(sealer, packId, entries),
  ];
  store.objects.set(packKey(packId), Buffer.concat(parts));
  return entries.map(({ reference }) => reference) as [BlobReference, BlobReference];
}

t.test('blobs are read by range and verified', async (t) => {
  const store = new MemoryStore();
  const repository = await create(t, store);
  const [first, second] = putPack(store, repository);
  const read = async (reference: BlobReference) =>
    Buffer.from(await repository.blobs.readBlob(reference, 'chunk'));
  t.same(await read(first), Buffer.alloc(1000, 1));
  t.same(await read(second), Buffer.alloc(1000, 2));
  t.same(
    (await repository.packIndex(packA)).map(({ reference }) => reference),
    [first, second],
  );

  const intact = Buffer.from(store.object(packKey(packA)));
  const swapped = Buffer.from(intact);
  intact.copy(swapped, first.offsetBytes, second.offsetBytes, second.offsetBytes + second.sealedBytes);
  intact.copy(swapped, second.offsetBytes, first.offsetBytes, first.offsetBytes + first.sealedBytes);
  store.objects.set(packKey(packA), swapped);
  await t.rejects(read(first), DamagedObject, 'two blobs of one pack swapped');
  await t.rejects(read(second), DamagedObject);

  store.objects.set(packKey(packA), intact.subarray(0, second.offsetBytes + 1));
  await t.rejects(read(second), { code: 'DAMAGED_OBJECT', what: 'it is truncated' });
  await t.rejects(repository.packIndex(packA), DamagedObject);
  store.objects.set(packKey(packA), intact.subarray(0, 10));
  await t.rejects(repository.packIndex(packA), DamagedObject, 'shorter than any pack');
  store.objects.delete(packKey(packA));
  await t.rejects(read(first), ObjectMissing);
  await t.rejects(repository.packIndex(packA), ObjectMissing);
});

t.test('two packs swapped are refused', async (t) => {
  const store = new MemoryStore();
  const repository = await create(t, store);
  const [inA] = putPack(store, repository, packA);
  const [inB] = putPack(store, repository, packB);
  store.swap(packKey(packA), packKey(packB));
  for (const reference of [inA, inB]) {
    await t.rejects(repository.blobs.readBlob(reference, 'chunk'), DamagedObject);
    await t.rejects(repository.packIndex(reference.packId), DamagedObject);
  }
});

t.test('what a key of the same id but other secrets makes of it', async (t) => {
  const store = new MemoryStore();
  const repository = await create(t, store);
  const impostor = { ...otherSecrets, repositoryId: repository.secrets.repositoryId };
  await t.rejects(Repository.open(store, impostor), { code: 'DAMAGED_OBJECT', what: 'it is not authentic' });
  store.objects.set(headerKey, Buffer.from(encodeHeader(repository.header, impostor)));
  await t.rejects(Repository.open(store, repository.secrets), DamagedObject);
});
