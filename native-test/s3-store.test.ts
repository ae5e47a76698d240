import { randomUUID } from 'node:crypto';
import t from 'tap';
import { openStore } from '../src/store/index.js';
import { CephCluster } from '../fixtures/ceph.js';
import { storeConformance } from '../test/store/conformance.js';

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
