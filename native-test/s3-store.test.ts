import { randomUUID } from 'node:crypto';
import t from 'tap';
import { openStore } from '../src/store/index.js';
import { S3Store } from '../src/store/s3-store.js';
import { CephCluster } from '../fixtures/ceph.js';
import { key, storeConformance } from '../test/store/conformance.js';
import { storeMeetsWireFaults } from '../test/store/wire-faults.js';
import { FaultProxy } from '../test/support/fault-proxy.js';

const ceph = await CephCluster.start();
t.teardown(() => ceph[Symbol.asyncDispose]());
Object.assign(process.env, ceph.environment);
await ceph.makeBucket('isr');

t.test('S3 on Ceph keeps the contract of a store', async (t) => {
  await storeConformance(t, async () => {
    const url = `s3://isr/${randomUUID()}`;
    return { store: await openStore(url, { create: true }), url };
  });
});

t.test('each failure of the wire between us and Ceph is told, and harmless', async (t) => {
  const content = Uint8Array.from({ length: 10_000 }, (_, index) => (index * 31) & 0xff);
  const url = `s3://isr/${randomUUID()}`;
  const direct = await openStore(url);
  t.teardown(() => direct[Symbol.asyncDispose]());
  await direct.put(key('object'), [content]);
  t.teardown(() => Object.assign(process.env, ceph.environment));
  await storeMeetsWireFaults(t, {
    open: (proxyUrl) => {
      process.env['AWS_ENDPOINT_URL_S3'] = proxyUrl;
      return S3Store.open(url, { idleMs: 2000 });
    },
    makeProxy: () => FaultProxy.start(ceph.access.endpoint),
    key: key('object'),
    content,
  });
});
