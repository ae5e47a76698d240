import * as v from 'valibot';
import type { QmpClient } from './qmp.js';

/** The few QMP commands that saving and resuming need. Reference: "QEMU QMP Reference Manual". */

const statusSchema = v.object({ running: v.boolean(), status: v.string() });

const migrationSchema = v.object({
  status: v.optional(v.string(), 'none'),
  'error-desc': v.optional(v.string()),
});

/** While a migration is in one of these, the guest cannot go on. */
const migrationUnderWay = new Set(['setup', 'active', 'device', 'pre-switchover', 'cancelling']);

const migrationOutcomes = ['completed', 'failed', 'cancelled'] as const;

export type MigrationOutcome = (typeof migrationOutcomes)[number];

/** The guest's run state, such as `running`, `paused`, `inmigrate`, `postmigrate`. */
export async function queryStatus(
  client: QmpClient,
  signal: AbortSignal,
): Promise<v.InferOutput<typeof statusSchema>> {
  return v.parse(statusSchema, await client.execute('query-status', {}, { signal }));
}

/** Leaves shared memory out of the state, and has QEMU tell how the transfer goes. */
export async function prepareMigration(client: QmpClient, signal: AbortSignal): Promise<void> {
  const capabilities = ['x-ignore-shared', 'events'].map((capability) => ({ capability, state: true }));
  await client.execute('migrate-set-capabilities', { capabilities }, { signal });
}

/**
 * How the migration that is begun after this call ends; QEMU says so after every change of state that belongs to it. It is
 * no error to let the promise go unused.
 */
export function migrationOutcome(client: QmpClient, signal: AbortSignal): Promise<MigrationOutcome> {
  const outcome = client
    .nextEvent(
      ({ name, data }) => name === 'MIGRATION' && migrationOutcomes.some((end) => end === data['status']),
      { what: 'Transferring the device state', signal },
    )
    .then(({ data }) => data['status'] as MigrationOutcome);
  outcome.catch(() => undefined);
  return outcome;
}

export async function queryMigration(
  client: QmpClient,
  signal: AbortSignal,
): Promise<{ readonly underWay: boolean; readonly error: string | undefined }> {
  const migration = v.parse(migrationSchema, await client.execute('query-migrate', {}, { signal }));
  return { underWay: migrationUnderWay.has(migration.status), error: migration['error-desc'] };
}
