import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { decodeHeader, encodeHeader } from '../../../src/repo/format/header.js';
import { purposeKey, type KeyPurpose } from '../../../src/repo/format/key-schedule.js';
import {
  decodeBranch,
  decodeLogEntry,
  encodeBranch,
  encodeLogEntry,
} from '../../../src/repo/format/log-entry.js';
import { decodeManifest, encodeManifest } from '../../../src/repo/format/manifest.js';
import { encodeMapNode, MapNode } from '../../../src/repo/format/map-node.js';
import { encodePackEnding, encodePackHeader, packHeaderBytes } from '../../../src/repo/format/pack.js';
import { RecordSealer } from '../../../src/repo/format/record.js';
import { decodeTrace, encodeTrace } from '../../../src/repo/format/trace.js';
import { decodeVmName, encodeVmName } from '../../../src/repo/format/vm-name.js';
import {
  exportKey,
  importKey,
  packKey,
  Repository,
  type BlobKind,
  type BlobReference,
  type LogPosition,
  type PackId,
} from '../../../src/repo/index.js';
import { decodeSecrets, encodeSecrets } from '../../../src/repo/keys/secrets.js';
import type { ObjectKey } from '../../../src/store/index.js';
import { MemoryStore } from '../../support/memory-store.js';
import { sameBytes } from '../../support/same-bytes.js';

/*
 * A repository of format version 1, written once and kept (fixtures/make-format-v1.ts made it): today's code must read
 * it, and must write the same bytes again wherever the format leaves no choice.
 */

interface Expected {
  readonly passphrase: string;
  readonly secrets: object;
  readonly derivedKeys: Readonly<Record<KeyPurpose, string>>;
  readonly header: object;
  readonly records: Readonly<Record<string, unknown>>;
  readonly blobs: readonly (BlobReference & {
    readonly kind: BlobKind;
    readonly plaintextBytes: number;
    readonly plaintextSha256: string;
  })[];
  readonly manifest: unknown;
  readonly traces: unknown;
}

const directory = fileURLToPath(new URL('../../../../fixtures/format-v1/', import.meta.url));
const expected = JSON.parse(readFileSync(`${directory}expected.json`, 'utf8')) as Expected;
const keyFile = readFileSync(`${directory}key.json`);
const secrets = decodeSecrets(Buffer.from(JSON.stringify(expected.secrets)));

const store = new MemoryStore();
for (const key of readdirSync(`${directory}store`, { recursive: true, encoding: 'utf8' })) {
  const path = `${directory}store/${key}`;
  if (statSync(path).isFile()) store.objects.set(key as ObjectKey, readFileSync(path));
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');
const headerKey = 'isr' as ObjectKey;

t.test('the key file', async (t) => {
  sameBytes(t, encodeSecrets(await importKey(keyFile, expected.passphrase)), encodeSecrets(secrets));
  const { scrypt, nonce } = JSON.parse(text(keyFile)) as { scrypt: { salt: string }; nonce: string };
  const randomness = [scrypt.salt, nonce].map((hex) => Buffer.from(hex, 'hex'));
  const randomBytes = () => randomness.shift() ?? t.fail('too much randomness is used');
  const again = await exportKey(secrets, expected.passphrase, { randomBytes: randomBytes as () => Buffer });
  t.equal(text(again), text(keyFile), 'is written the same again');
});

t.test('the derived keys', async (t) => {
  for (const [purpose, key] of Object.entries(expected.derivedKeys)) {
    t.equal(
      purposeKey(secrets, purpose as KeyPurpose)
        .export()
        .toString('hex'),
      key,
      purpose,
    );
  }
});

t.test('the header', async (t) => {
  const header = decodeHeader(store.object(headerKey), 'fixture');
  t.same(header, expected.header);
  sameBytes(t, encodeHeader(header, secrets), store.object(headerKey), 'is written the same again');
});

t.test('the records: names, log, branches', async (t) => {
  const keys = ['names/', 'log/', 'branch/'].flatMap((prefix) => store.keys(prefix));
  t.same(keys, Object.keys(expected.records));
  for (const key of keys) {
    const object = store.object(key);
    const records = new RecordSealer(secrets, () => object.subarray(12, 28));
    const payload = records.open(object, key);
    t.equal(text(payload), JSON.stringify(expected.records[key]), key);
    t.equal(text(encodeAgain(payload, key)), text(payload), 'its payload is written the same again');
    sameBytes(t, records.seal(payload, key, 'test'), object, 'and so is the record');
  }
});

function encodeAgain(payload: Uint8Array, key: ObjectKey): Uint8Array {
  switch (key.split('/')[0]) {
    case 'names':
      return encodeVmName(decodeVmName(payload, key));
    case 'log':
      return encodeLogEntry(decodeLogEntry(payload, key, Number(key.slice(-10)) as LogPosition));
    default:
      return encodeBranch(decodeBranch(payload, key));
  }
}

t.test('the packs', async (t) => {
  const repository = await Repository.open(store, secrets, { codecThreads: 1 });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const { sealer } = repository;
  const packIds = [...new Set(expected.blobs.map(({ packId }) => packId))];
  t.same(
    store.keys('pack/'),
    packIds.map((packId: PackId) => packKey(packId)),
  );
  for (const packId of packIds) {
    const object = store.object(packKey(packId));
    const index = await repository.packIndex(packId);
    const inThisPack = expected.blobs.filter((blob) => blob.packId === packId);
    t.same(
      index.map(({ kind, reference }) => ({ kind, ...reference })),
      inThisPack.map(({ plaintextBytes: _, plaintextSha256: __, ...blob }) => blob),
    );
    sameBytes(t, encodePackHeader(packId), object.subarray(0, packHeaderBytes));
    const ending = encodePackEnding(sealer, packId, index);
    sameBytes(
      t,
      ending,
      object.subarray(object.length - ending.length),
      'the index is written the same again',
    );
    for (const { kind, plaintextBytes, plaintextSha256, ...reference } of inThisPack) {
      const { offsetBytes, sealedBytes, counter, id } = reference;
      const sealed = object.subarray(offsetBytes, offsetBytes + sealedBytes);
      const plaintext = sealer.open(sealed, reference, kind);
      t.equal(plaintext.length, plaintextBytes);
      t.equal(createHash('sha256').update(plaintext).digest('hex'), plaintextSha256);
      t.equal(sealer.identify(plaintext), id);
      // Other versions of zstd may compress differently.
      if (sealedBytes > plaintextBytes)
        sameBytes(t, sealer.seal(plaintext, kind, packId, counter, id), sealed);
      if (kind === 'map-node') {
        const node = MapNode.decode(plaintext, 'fixture');
        const entries = Array.from({ length: 512 }, (_, position) => node.entry(position));
        sameBytes(t, encodeMapNode(entries), plaintext, 'the map node is written the same again');
        t.equal(entries.filter((entry) => entry !== 'zero').length, 2);
      }
    }
  }
});

t.test('the traces', async (t) => {
  const repository = await Repository.open(store, secrets, { codecThreads: 1 });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const stored = await repository.history('laptop').traces();
  const traces = stored.map(({ number, trace }) => ({ number, ...trace }));
  t.equal(JSON.stringify(traces), JSON.stringify(expected.traces));
  t.same(
    stored.map(({ storedBytes }) => storedBytes),
    store.keys('trace/').map((key) => store.object(key).length),
  );
  for (const key of store.keys('trace/')) {
    const object = store.object(key);
    const records = new RecordSealer(secrets, () => object.subarray(12, 28));
    const payload = records.open(object, key);
    // Other versions of zstd may compress differently; this one is too small to be compressed.
    sameBytes(t, encodeTrace(decodeTrace(payload, key)), payload, 'is written the same again');
    sameBytes(t, records.seal(payload, key, 'test'), object, 'and so is the record');
  }
});

t.test('the version as a whole', async (t) => {
  const repository = await Repository.open(store, secrets, { codecThreads: 1 });
  t.teardown(() => repository[Symbol.asyncDispose]());
  t.same(await repository.vmNames(), ['laptop', 'phone']);
  const history = repository.history('laptop');
  const head = await history.head();
  t.match(head, {
    position: 5,
    latest: { version: 2, mountPath: '/vm/laptop', position: 3, parent: 1 },
    lease: { state: 'held', holder: { hostName: 'train' }, leaseNumber: 5 },
  });
  t.match(await history.branches(), [{ name: 'lab-v2-20240102T030405678Z' }]);
  const plaintext = await repository.blobs.readBlob(head.latest!.manifest, 'manifest');
  t.equal(text(plaintext), JSON.stringify(expected.manifest));
  sameBytes(
    t,
    encodeManifest(decodeManifest(plaintext, 'fixture')),
    plaintext,
    'the manifest is written the same again',
  );
});
