/** A migration whose agent was started anew in the middle: libvirt goes on with it, and only libvirt can end it. */
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import type { OperationView } from '../../lab/api.ts';
import { inBatches } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { realityOf, simulatorInventory } from '../support/simulated.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

const sim = async <T>(method: string, path: string, body?: unknown): Promise<T> =>
  (await (
    await fetch(`${address.simulatorUrl}/_sim/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  ).json()) as T;
const migrationsTake = (ms: number): Promise<unknown> => sim('PUT', 'migration', { ms });

beforeEach(() => migrationsTake(5_000));
afterEach(async () => {
  await migrationsTake(200);
  await sim('DELETE', 'rules');
});

const nameOf = (hostId: unknown): string => String(cloud.hosts.find(({ id }) => id === hostId)?.name);
const migrate = (id: string): Promise<OperationView> => tenant.call('POST', `/v1/instances/${id}/actions/migrate`, {});
const cancel = (id: string): Promise<unknown> => admin.call('POST', `/v1/operations/${id}/actions/cancel`);
const look = (id: string): Promise<OperationView> => admin.call('GET', `/v1/operations/${id}`);

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
}
const isMoving = (id: string): Promise<boolean> => look(id).then(({ progress }) => progress > 0);

/** The guest, and where it runs. */
const runsOn = async (id: string): Promise<string[]> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).running.get(id) ?? [];
const knownTo = async (id: string): Promise<string[]> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).defined.get(id) ?? [];

test('cancelled after its agent was started anew, it leaves the guest where it was, however late the copy is removed', async () => {
  const { id } = await deploy('kept');
  const before = await picture();
  const home = nameOf((await admin.call('GET', `/v1/instances/${id}`)).hostId);
  const moving = await migrate(id);
  await until(() => isMoving(moving.id));
  await sim('POST', `hosts/${home}/restartAgent`);
  // The copy at the target is removed last. If the migration went on meanwhile, that would be the only guest.
  const { id: rule } = await sim<{ id: string }>('POST', 'rules', {
    call: 'domain.ensureAbsent',
    about: [id],
    when: 'before',
    action: 'hang',
    times: 1,
  });
  await cancel(moving.id);
  await until(async () => (await sim<{ used: number }[]>('GET', 'rules')).some(({ used }) => used > 0));
  // Until the migration has come to an end, one or the other.
  await until(async () => (await knownTo(id)).length === 1);
  await sim('DELETE', `rules/${rule}`);
  expect((await admin.settled(moving.id)).state).toBe('cancelled');
  expect(await runsOn(id)).toEqual([home]);
  expect(changes(before, await picture())).toEqual([]);
  await removeInstance(id);
}, 180_000);

test('goes on when its agent is started anew, and ends once', async () => {
  await migrationsTake(1_000);
  const { id } = await deploy('moved');
  const home = nameOf((await admin.call('GET', `/v1/instances/${id}`)).hostId);
  const moving = await migrate(id);
  await until(() => isMoving(moving.id));
  await sim('POST', `hosts/${home}/restartAgent`);
  expect(await admin.settled(moving.id)).toMatchObject({ state: 'succeeded' });
  expect(await runsOn(id)).not.toEqual([home]);
  expect(await wrong()).toEqual([]);
  await removeInstance(id);
}, 180_000);

test('cancelled at any moment, with a new agent or the old one, the guest runs once', async () => {
  await migrationsTake(300);
  const tries = 12;
  const ids = (await inBatches([...Array(tries).keys()], 8, (n) => deploy(`moving ${n}`))).map(({ id }) => id);
  const ended = await Promise.all(
    ids.map(async (id, n) => {
      const home = nameOf((await admin.call('GET', `/v1/instances/${id}`)).hostId);
      const moving = await migrate(id);
      await until(async () => (await knownTo(id)).length === 2 || (await look(moving.id)).endedAt !== null);
      await new Promise((resolve) => setTimeout(resolve, n * 30));
      if (n % 2 === 0) await sim('POST', `hosts/${home}/restartAgent`);
      // Refused where it comes too late.
      await cancel(moving.id).catch(() => {});
      const { state } = await admin.settled(moving.id);
      const guests = await runsOn(id);
      return { isOnce: guests.length === 1, isWhereItSays: (guests[0] === home) === (state === 'cancelled'), state };
    }),
  );
  expect(ended.filter(({ isOnce, isWhereItSays }) => !isOnce || !isWhereItSays)).toEqual([]);
  expect(await wrong()).toEqual([]);
  await inBatches(ids, 8, removeInstance);
}, 300_000);
