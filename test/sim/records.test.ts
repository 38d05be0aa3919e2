/** No record lies, and no disk is written twice, however many ask at the same moment. */
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { maintainUntil } from '../support/maintenance.ts';
import { openClient } from '../support/postgres.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const tries = Number(process.env.BELAY_RACE_TRIES ?? 4);

let database: Awaited<ReturnType<typeof openClient>>;
beforeAll(async () => {
  database = await openClient(address.databaseUrl);
});
afterAll(() => database?.end());

/** Answers the operation's end, or what the request was refused with. */
const asked = async (path: string, body: Record<string, unknown> = {}): Promise<OperationView | string> => {
  try {
    const { id } = await tenant.call<OperationView>('POST', path, body);
    return await admin.settled(id);
  } catch (error) {
    return String((error as { code?: string }).code ?? error);
  }
};

/** How many guests of the simulated world have the disk of a volume. */
async function guestsWith(volumeId: string): Promise<number> {
  const { hosts } = await simulatorInventory(address.simulatorUrl);
  return Object.values(hosts)
    .flatMap(({ domains }) => Object.values(domains))
    .filter((domain) => domain.state === 'running' && JSON.stringify(domain).includes(volumeId)).length;
}

test('a detach beside a migration or a stop never overlaps with it, and the disk is never in two guests', async () => {
  const [one, other] = await Promise.all([deploy('two-guests-a'), deploy('two-guests-b')]);
  const volume = await make(tenant, 'volumes', {
    name: 'two-guests',
    zoneId: cloud.zone.id,
    volumeTypeId: cloud.volumeTypes[1]?.id,
    sizeGib: 1,
  });
  const on = (id: string): string => `/v1/volumes/${volume.id}/actions/${id}`;
  for (let n = 0; n < tries; n++) {
    await tenant.done('POST', on('attach'), { instanceId: one.id });
    const beside = n % 2 === 0 ? 'migrate' : 'stop';
    const ended = await Promise.all([
      asked(on('detach')),
      asked(`/v1/instances/${one.id}/actions/${beside}`, beside === 'stop' ? { mode: 'force' } : {}),
    ]);
    for (const operation of ended)
      expect(typeof operation === 'string' ? operation : operation.state).toBe('succeeded');
    const { rows } = await database.query<{ overlap: boolean }>(
      `SELECT a."startedAt" < b."endedAt" AND b."startedAt" < a."endedAt" AS overlap FROM "operation" a, "operation" b WHERE a.id = $1 AND b.id = $2`,
      ended.map((operation) => (operation as OperationView).id),
    );
    expect(rows[0]?.overlap).toBe(false);
    // Attached elsewhere at once: nobody but the other guest has it.
    await tenant.done('POST', on('attach'), { instanceId: other.id });
    expect(await guestsWith(volume.id)).toBe(1);
    await tenant.done('POST', on('detach'), {});
    if (beside === 'stop') await tenant.done('POST', `/v1/instances/${one.id}/actions/start`, {});
  }
  await removeInstance(one.id);
  await removeInstance(other.id);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
  expect(await wrong()).toEqual([]);
});

test('labels that are changed all the while take nothing from what stops, starts and moves', async () => {
  const { id } = await deploy('patched');
  const path = `/v1/instances/${id}`;
  let going = true;
  let patches = 0;
  const patching = (async () => {
    while (going) {
      await tenant.call('PATCH', path, { labels: { touched: String(patches) } });
      patches += 1;
    }
  })();
  for (let n = 0; n < tries; n++) {
    await tenant.done('POST', `${path}/actions/migrate`, {});
    await tenant.done('POST', `${path}/actions/stop`, { mode: 'force' });
    await tenant.done('POST', `${path}/actions/start`, {});
  }
  going = false;
  await patching;
  const seen = await admin.call<Resource>('GET', path);
  expect(seen).toMatchObject({ state: 'running', currentOperationId: null, labels: { touched: String(patches - 1) } });
  expect(seen.hostId).not.toBeNull();
  expect(await wrong()).toEqual([]);
  await removeInstance(id);
});

test('a resource that says an ended operation holds it is set right, and it is told', async () => {
  const { id } = await deploy('forgotten');
  const stopped = await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  await database.query(`SET session_replication_role = replica`);
  await database.query(`UPDATE "instance" SET state = 'stopping', "currentOperationId" = $2 WHERE id = $1`, [
    id,
    stopped.id,
  ]);
  await database.query(`SET session_replication_role = origin`);
  const seen = (): Promise<Resource> => tenant.call<Resource>('GET', `/v1/instances/${id}`);
  await maintainUntil(
    address.temporalAddress,
    'releaseForgotten',
    async () => (await seen()).currentOperationId === null,
  );
  expect((await seen()).state).toBe('stopped');
  const { rows } = await database.query(
    `SELECT severity FROM "event" WHERE type = 'instance.released' AND "resourceId" = $1`,
    [id],
  );
  expect(rows).toEqual([{ severity: 'error' }]);
  await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
  await removeInstance(id);
});
