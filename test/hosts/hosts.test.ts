/** Where new things go: nowhere that is closed, and to no host that does not answer. */
import pg from 'pg';
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { refusal } from '../support/operations.ts';
import { simulatorInventory } from '../support/simulated.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

const answer = (api: Api, path: string, body: unknown): Promise<string> => refusal(api.call('POST', path, body));
const deployable = (more: Record<string, unknown> = {}, api = tenant): Promise<string> =>
  answer(api, '/v1/instances?dryRun=true', instanceBody(cloud, 'would-be', { projectId: cloud.project.id, ...more }));
const volumeBody = { name: 'would-be', zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[1]?.id, sizeGib: 1 };
const volumeMakable = (): Promise<string> => answer(tenant, '/v1/volumes?dryRun=true', volumeBody);

const act = (id: string, verb: string, body: unknown = {}): Promise<unknown> =>
  tenant.done('POST', `/v1/instances/${id}/actions/${verb}`, body);
const instanceOf = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);

/** What a test has closed or cut off; it is opened again whatever becomes of the test. */
const restore: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const again of restore.splice(0).reverse()) await again();
});

async function close(plural: string, id: string): Promise<() => Promise<unknown>> {
  await admin.call('PATCH', `/v1/${plural}/${id}`, { enabled: false });
  const open = (): Promise<unknown> => admin.call('PATCH', `/v1/${plural}/${id}`, { enabled: true });
  restore.push(open);
  return open;
}

/** A host answers, or does not, and the records say so. */
async function network(hostId: string, what: 'partition' | 'heal'): Promise<void> {
  const { name } = await admin.call('GET', `/v1/hosts/${hostId}`);
  await fetch(`${address.simulatorUrl}/_sim/hosts/${name}/${what}`, { method: 'POST' });
  const wanted = what === 'heal' ? 'connected' : 'disconnected';
  while ((await admin.call('GET', `/v1/hosts/${hostId}`)).connection !== wanted)
    await new Promise((resolve) => setTimeout(resolve, 100));
}
async function cutOff(hostId: string): Promise<void> {
  restore.push(() => network(hostId, 'heal'));
  await network(hostId, 'partition');
}

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => removeInstance((await deploy('first')).id));

test('a closed zone, pod or cluster takes no instance and no volume, and opened again it does', async () => {
  const { podId } = await admin.call('GET', `/v1/clusters/${cloud.cluster.id}`);
  const { id } = await deploy('stopped');
  await act(id, 'stop', { mode: 'force' });
  for (const [plural, place, refused] of [
    ['zones', cloud.zone.id, '422 INVALID_ARGUMENT'],
    ['pods', String(podId), '409 NO_CAPACITY'],
    ['clusters', cloud.cluster.id, '409 NO_CAPACITY'],
  ] as const) {
    const open = await close(plural, place);
    expect([plural, await deployable(), await volumeMakable()]).toEqual([plural, refused, refused]);
    await expect(act(id, 'start')).rejects.toThrow('NO_CAPACITY');
    await open();
    expect([plural, await deployable(), await volumeMakable()]).toEqual([plural, 'accepted', 'accepted']);
  }
  await act(id, 'start');
  await removeInstance(id);
});

test('a closed host is no place to deploy, to start or to move to; its own guests run on', async () => {
  const { id } = await deploy('guest');
  const home = String((await instanceOf(id)).hostId);
  const other = await deploy('mover');
  await close('hosts', home);
  expect(await deployable({ requestedHostId: home }, admin)).toBe('409 NO_CAPACITY');
  const moved = String((await instanceOf(other.id)).hostId);
  if (moved !== home)
    expect(await answer(admin, `/v1/instances/${other.id}/actions/migrate?dryRun=true`, { hostId: home })).toBe(
      '409 NO_CAPACITY',
    );
  expect((await instanceOf(id)).state).toBe('running');
  await act(id, 'stop', { mode: 'force' });
  await act(id, 'start');
  expect((await instanceOf(id)).hostId).not.toBe(home);
  expect(await wrong()).toEqual([]);
  await Promise.all([removeInstance(id), removeInstance(other.id)]);
});

test('what a cluster promises of its hosts changes with the cluster', async () => {
  const { reservedHostCapacity } = await admin.call('GET', `/v1/clusters/${cloud.cluster.id}`);
  restore.push(() => admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, { reservedHostCapacity }));
  await admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
    reservedHostCapacity: { vcpus: 0, memoryMib: 262_144 },
  });
  expect(await deployable()).toBe('409 NO_CAPACITY');
});

test('a host that has not answered for a few seconds is chosen by nothing, until it answers again', async () => {
  const stopped = await deploy('was-there');
  const silent = String((await instanceOf(stopped.id)).hostId);
  await act(stopped.id, 'stop', { mode: 'force' });
  const mover = await deploy('would-move');
  if ((await instanceOf(mover.id)).hostId === silent) await act(mover.id, 'migrate');
  await cutOff(silent);
  expect(await deployable({ requestedHostId: silent }, admin)).toBe('409 NO_CAPACITY');
  expect(await answer(admin, `/v1/instances/${mover.id}/actions/migrate?dryRun=true`, { hostId: silent })).toBe(
    '409 NO_CAPACITY',
  );
  // Its last host would be the first choice.
  await act(stopped.id, 'start');
  expect((await instanceOf(stopped.id)).hostId).not.toBe(silent);
  // Work on the pool is done by those that answer: many, so that chance would find the silent one.
  for (let round = 0; round < 6; round++) {
    const { id } = await make(tenant, 'volumes', volumeBody);
    await tenant.done('DELETE', `/v1/volumes/${id}`);
    await tenant.done('POST', `/v1/volumes/${id}/actions/expunge`, {});
  }
  await network(silent, 'heal');
  expect(await deployable({ requestedHostId: silent }, admin)).toBe('accepted');
  expect(await wrong()).toEqual([]);
  await Promise.all([removeInstance(stopped.id), removeInstance(mover.id)]);
});

test('disabling a pool is as if it were full: what lies there is used, nothing new goes in, nothing grows', async () => {
  const { id } = await deploy('in-the-pool');
  const { rootVolumeId } = await instanceOf(id);
  const { poolId } = await admin.call('GET', `/v1/volumes/${String(rootVolumeId)}`);
  const volume = await make(tenant, 'volumes', volumeBody);
  await act(id, 'stop', { mode: 'force' });
  const tries = async (): Promise<string[]> => {
    const grown = await answer(tenant, `/v1/volumes/${volume.id}/actions/resize`, { sizeGib: 2 });
    await act(id, 'start');
    const { state } = await instanceOf(id);
    await act(id, 'stop', { mode: 'force' });
    return [await deployable(), await volumeMakable(), grown, String(state)];
  };
  const refused = ['409 NO_CAPACITY', '409 NO_CAPACITY', '409 NO_CAPACITY', 'running'];
  const pools = [String(poolId), String((await admin.call('GET', `/v1/volumes/${volume.id}`)).poolId)];
  const open = await Promise.all([...new Set(pools)].map((pool) => close('storage-pools', pool)));
  expect(await tries()).toEqual(refused);
  for (const again of open) await again();
  const client = new pg.Client({ connectionString: address.databaseUrl });
  await client.connect();
  restore.push(async () => {
    await client.query(`UPDATE "storagePool" SET "totalGib" = -"totalGib" WHERE id = ANY($1)`, [pools]);
    await client.end();
  });
  await client.query(`UPDATE "storagePool" SET "totalGib" = -"totalGib" WHERE id = ANY($1)`, [pools]);
  expect(await tries()).toEqual(refused);
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

/** An instance on a host of its own choice, and that host. */
async function deployAlone(name: string): Promise<{ id: string; hostId: string }> {
  const { id } = await deploy(name);
  return { id, hostId: String((await instanceOf(id)).hostId) };
}

test('work that only a silent host could do is refused at once; work on its pools is done by another', async () => {
  const { id, hostId } = await deployAlone('out-of-reach');
  const { rootVolumeId } = await instanceOf(id);
  const volume = await make(tenant, 'volumes', volumeBody);
  await cutOff(hostId);
  for (const [path, body] of [
    [`/v1/instances/${id}/actions/stop`, { mode: 'force' }],
    [`/v1/instances/${id}/actions/reboot`, {}],
    [`/v1/instances/${id}/actions/migrate`, {}],
    [`/v1/volumes/${volume.id}/actions/attach`, { instanceId: id }],
  ] as const) {
    const { id: operationId } = await tenant.call('POST', path, body);
    const { state, error } = await admin.settled(operationId);
    expect([path, state, error?.code]).toEqual([path, 'failed', 'HOST_UNREACHABLE']);
  }
  const snapshot = await make(tenant, 'snapshots', { name: 'of one out of reach', volumeId: rootVolumeId });
  await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
  expect((await instanceOf(id)).state).toBe('running');
  await network(hostId, 'heal');
  expect(await wrong()).toEqual([]);
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

test('a deploy to a host that vanishes before it was asked for anything is undone from elsewhere, and leaves nothing', async () => {
  const hostId = String(cloud.hosts[7]?.id);
  const before = await picture();
  restore.push(await hold(address.simulatorUrl, 'rbd.ensureClone', 'after'));
  const deploying = await admin.call<OperationView>(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'vanishing', { projectId: cloud.project.id, requestedHostId: hostId }),
  );
  while (
    !(await admin.call<OperationView>('GET', `/v1/operations/${deploying.id}`)).steps.some(
      ({ name, state }) => name === 'volumes.make' && state === 'running',
    )
  )
    await new Promise((resolve) => setTimeout(resolve, 50));
  await cutOff(hostId);
  await restore.splice(0, 1)[0]?.();
  const ended = await admin.settled(deploying.id);
  expect([ended.state, ended.error?.code]).toEqual(['failed', 'HOST_UNREACHABLE']);
  await network(hostId, 'heal');
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
});

test('a dead host goes by force, with what is on it only after a confirmation, and its disks are used elsewhere', async () => {
  const spare = await make(admin, 'hosts', {
    name: 'host-190',
    clusterId: cloud.cluster.id,
    address: `sim://${new URL(address.simulatorUrl).host}/host-190`,
  });
  const onSpare = { projectId: cloud.project.id, requestedHostId: spare.id };
  const idle = await make(admin, 'instances', instanceBody(cloud, 'idle', onSpare));
  const busy = await make(admin, 'instances', instanceBody(cloud, 'busy', onSpare));
  const volume = await make(tenant, 'volumes', volumeBody);
  const path = `/v1/hosts/${spare.id}`;
  expect(await refusal(admin.call('DELETE', `${path}?force=true&confirmDead=true`))).toBe('412 PRECONDITION_FAILED');
  // An attachment that may have got through, or not.
  restore.push(await hold(address.simulatorUrl, 'domain.ensureDisk', 'after'));
  const attach = await tenant.call<OperationView>('POST', `/v1/volumes/${volume.id}/actions/attach`, {
    instanceId: busy.id,
  });
  while (
    !(await admin.call<OperationView>('GET', `/v1/operations/${attach.id}`)).steps.some(
      ({ name, state }) => name === 'volumes.plug' && state === 'running',
    )
  )
    await new Promise((resolve) => setTimeout(resolve, 50));
  await fetch(`${address.simulatorUrl}/_sim/hosts/host-190/scrap`, { method: 'POST' });
  while ((await admin.call('GET', path)).connection !== 'disconnected')
    await new Promise((resolve) => setTimeout(resolve, 100));
  await restore.splice(0, 1)[0]?.();
  // Whether the disk is plugged in there nobody knows, so nobody else gets it.
  expect((await admin.settled(attach.id)).state).toBe('stuck');

  expect(await refusal(admin.call('DELETE', path))).toBe('409 HAS_DEPENDENTS');
  expect(await refusal(admin.call('DELETE', `${path}?force=true`))).toBe('409 HAS_DEPENDENTS');
  expect(await refusal(admin.call('DELETE', `${path}?confirmDead=true`))).toBe('422 INVALID_ARGUMENT');
  expect(await refusal(admin.call('DELETE', `${path}?force=perhaps`))).toBe('422 INVALID_ARGUMENT');
  expect((await instanceOf(idle.id)).state).toBe('running');

  const gone = await admin.done('DELETE', `${path}?force=true&confirmDead=true`);
  expect(gone.steps.map(({ name }) => name)).toEqual([
    'hosts.declareDead',
    'hosts.clean',
    'hosts.freeGuests',
    'hosts.uninstall',
    'hosts.forget',
  ]);
  const ended = await admin.settled(attach.id);
  expect([ended.state, ended.error?.code]).toEqual(['failed', 'HOST_UNREACHABLE']);
  for (const { id } of [idle, busy])
    expect(await instanceOf(id)).toMatchObject({ state: 'stopped', stateReason: 'hostFailed', hostId: null });
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/attach`, { instanceId: idle.id });
  await Promise.all([idle, busy].map(({ id }) => act(id, 'start')));
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/detach`, {});
  expect(await wrong()).toEqual([]);
  await Promise.all([removeInstance(idle.id), removeInstance(busy.id)]);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

test('a dead host whose power comes back is added again without its guests of before, unless one of them runs', async () => {
  const body = {
    name: 'host-189',
    clusterId: cloud.cluster.id,
    address: `sim://${new URL(address.simulatorUrl).host}/host-189`,
  };
  const power = (what: 'crash' | 'partition' | 'heal'): Promise<unknown> =>
    fetch(`${address.simulatorUrl}/_sim/hosts/host-189/${what}`, { method: 'POST' });
  const die = async (hostId: string, how: 'crash' | 'partition'): Promise<void> => {
    await power(how);
    while ((await admin.call('GET', `/v1/hosts/${hostId}`)).connection !== 'disconnected')
      await new Promise((resolve) => setTimeout(resolve, 100));
    await admin.done('DELETE', `/v1/hosts/${hostId}?force=true&confirmDead=true`);
    await power('heal');
  };
  const chassis = async (): Promise<unknown[]> => {
    const { ovn } = await simulatorInventory(address.simulatorUrl);
    return (ovn.OVN_Southbound?.Chassis ?? []).map((row) => (row as { name: string }).name);
  };
  const first = await make(admin, 'hosts', body);
  const { id } = await make(
    admin,
    'instances',
    instanceBody(cloud, 'moved-on', { projectId: cloud.project.id, requestedHostId: first.id }),
  );
  await die(first.id, 'crash');
  await act(id, 'start');
  const second = await make(admin, 'hosts', body);
  expect(await wrong()).toEqual([]);
  expect(await chassis()).toContain(second.id);
  expect(await chassis()).not.toContain(first.id);

  // It was not dead at all: its guest runs on, and is not ended without a person who has looked at it.
  const { id: other } = await make(
    admin,
    'instances',
    instanceBody(cloud, 'ran-on', { projectId: cloud.project.id, requestedHostId: second.id }),
  );
  await die(second.id, 'partition');
  const again = await admin.settled((await admin.call('POST', '/v1/hosts', body)).id);
  expect([again.state, again.error?.code]).toEqual(['failed', 'PRECONDITION_FAILED']);
  expect(again.error?.message).toContain(other);
  await power('crash');
  await power('heal');
  const third = await make(admin, 'hosts', body);
  expect(await wrong()).toEqual([]);
  await Promise.all([removeInstance(id), removeInstance(other)]);
  await admin.done('DELETE', `/v1/hosts/${third.id}`);
});

test('a host that is not there any more is not deleted without force, and with it goes at once', async () => {
  const doomed = await make(admin, 'hosts', {
    name: 'host-191',
    clusterId: cloud.cluster.id,
    address: `sim://${new URL(address.simulatorUrl).host}/host-191`,
  });
  await fetch(`${address.simulatorUrl}/_sim/hosts/host-191/scrap`, { method: 'POST' });
  while ((await admin.call('GET', `/v1/hosts/${doomed.id}`)).connection !== 'disconnected')
    await new Promise((resolve) => setTimeout(resolve, 100));
  const { id } = await admin.call('DELETE', `/v1/hosts/${doomed.id}`);
  expect((await admin.settled(id)).error?.code).toBe('HOST_UNREACHABLE');
  expect((await admin.call('GET', `/v1/hosts/${doomed.id}`)).state).toBe('active');
  await admin.done('DELETE', `/v1/hosts/${doomed.id}?force=true`);
});

test('a host that has moved is found at its new address, and used again', async () => {
  const { host } = new URL(address.simulatorUrl);
  const moved = await make(admin, 'hosts', {
    name: 'host-192',
    clusterId: cloud.cluster.id,
    address: `sim://${host}/host-192`,
  });
  const path = `/v1/hosts/${moved.id}`;
  const body = JSON.stringify({ to: 'host-193' });
  await fetch(`${address.simulatorUrl}/_sim/hosts/host-192/move`, { method: 'POST', body });
  while ((await admin.call('GET', path)).connection !== 'disconnected')
    await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await refusal(admin.call('PATCH', path, { address: `sim://${host}/host-0` }))).toBe('409 ADDRESS_IN_USE');
  expect(await refusal(admin.call('PATCH', path, { address: '127.0.0.1' }))).toBe('422 INVALID_ARGUMENT');
  await admin.call('PATCH', path, { address: `sim://${host}/host-193` });
  await admin.done('POST', `${path}/actions/connect`, {});
  while ((await admin.call('GET', path)).connection !== 'connected')
    await new Promise((resolve) => setTimeout(resolve, 100));
  const { id } = await make(
    admin,
    'instances',
    instanceBody(cloud, 'on-the-moved', { projectId: cloud.project.id, requestedHostId: moved.id }),
  );
  expect((await instanceOf(id)).state).toBe('running');
  await removeInstance(id);
  await admin.done('DELETE', path);
});
