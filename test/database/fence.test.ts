/** Whom storage can shut out, and what of a host that has failed is started elsewhere. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { clientsOf, isShutOut, noteClients, strandedOn, unknownTo } from '../../database/fence.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene?.stop());

const id = (name: string): string => scene.ids[name] ?? '';
const connections = () => scene.database.connections;
const query = (text: string, values: unknown[] = []): Promise<unknown> => scene.stage.query(text, values);
const host = (what: string): Promise<unknown> => query(`UPDATE "host" SET ${what} WHERE id = $1`, [id('host')]);

/** The instance runs on the host, from a volume in the pool. */
beforeEach(async () => {
  await scene.reset();
  await query(`UPDATE "storagePool" SET capacity = '{}', state = 'ready' WHERE id = $1`, [id('storagePool')]);
  await query(`UPDATE "volume" SET "poolId" = $1 WHERE "instanceId" = $2`, [id('storagePool'), id('instance')]);
  await query(`UPDATE "host" SET "storageClients" = NULL, "fencedAt" = NULL, "deadAt" = NULL WHERE "clusterId" = $1`, [
    id('cluster'),
  ]);
  await query(`UPDATE "instance" SET state = 'running', fault = NULL, "hostId" = $1 WHERE id = $2`, [
    id('host'),
    id('instance'),
  ]);
  await query(
    `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, $3, 1, 128) ON CONFLICT DO NOTHING`,
    [id('instance'), id('host'), crypto.randomUUID()],
  );
});

const gone = async (): Promise<boolean | undefined> =>
  (await isShutOut(connections(), { hostId: id('host'), instanceId: id('instance') }))[0]?.gone;
const know = (hostId: string, addresses: string[]): Promise<unknown> =>
  noteClients(connections(), { hostId, storageClusterId: id('storageCluster'), addresses });

test('a host whose only address has become another’s can not be shut out', async () => {
  await host(`"fencedAt" = now()`);
  await know(id('host'), ['10.0.0.5']);
  expect(await gone()).toBe(true);
  expect(await unknownTo(connections(), { hostId: id('host') })).toEqual([]);
  await know(id('otherHost'), ['10.0.0.5']);
  expect(await clientsOf(connections(), { hostId: id('host') })).toEqual([
    { storageClusterId: id('storageCluster'), addresses: [] },
  ]);
  expect(await gone()).toBe(false);
  expect(await unknownTo(connections(), { hostId: id('host') })).toHaveLength(1);
  await know(id('host'), ['10.0.0.9']);
  expect(await gone()).toBe(true);
});

test('nobody waits for who is at work on what may still run on a host that has failed', async () => {
  const stranded = async (): Promise<string[]> =>
    (await strandedOn(connections(), { hostId: id('host') })).map((one) => one.id);
  await host(`"fencedAt" = now()`);
  await query(`UPDATE "instance" SET "currentOperationId" = $1 WHERE id = $2`, [crypto.randomUUID(), id('instance')]);
  expect(await stranded()).toEqual([]);
  // Its storage shuts the host out: whatever holds the instance ends soon.
  await know(id('host'), ['10.0.0.5']);
  expect(await stranded()).toEqual([id('instance')]);
  await query(`UPDATE "host" SET "storageClients" = NULL WHERE id = $1`, [id('host')]);
  await query(`UPDATE "instance" SET "currentOperationId" = NULL WHERE id = $1`, [id('instance')]);
  expect(await stranded()).toEqual([id('instance')]);
});
