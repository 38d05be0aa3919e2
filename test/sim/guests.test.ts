/** What guests do by themselves, also while operations are at work on them: the records follow what the host answers, not what was heard. */
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, untilSeen } from '../support/operations.ts';
import { describe as inWords } from '../support/persistent.ts';
import { setRules } from '../support/rollback.ts';
import { realityOf, simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

let letGo: () => Promise<void> = async () => {};
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});
const held = async (call: string, when?: 'before' | 'after'): Promise<void> => {
  letGo = await hold(address.simulatorUrl, call, when);
};

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => removeInstance((await deploy('first')).id));

const instanceOf = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
const settled = async (id: string): Promise<OperationView[]> =>
  (
    await admin.call<{ items: OperationView[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`targetId = "${id}" AND type = "instance.settle"`)}`,
    )
  ).items;
/** The host on which the guest really runs. */
const placeOf = async (id: string): Promise<string | undefined> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).running.get(id)?.[0];

async function guest(id: string, what: 'guestPowerOff' | 'guestCrash'): Promise<void> {
  const place = await placeOf(id);
  const body = JSON.stringify({ domainId: id });
  const response = await fetch(`${address.simulatorUrl}/_sim/hosts/${place}/${what}`, { method: 'POST', body });
  expect(response.status).toBe(200);
}
const tell = (host: string, event: Record<string, unknown>): Promise<unknown> =>
  fetch(`${address.simulatorUrl}/_sim/hosts/${host}/tellEvent`, { method: 'POST', body: JSON.stringify(event) });

const follow = follower(admin);

/** It is stopped in the records, for that reason, and all it had is free. */
async function isStopped(id: string, reason: string): Promise<void> {
  const stopped = await untilSeen(
    () => instanceOf(id),
    ({ state, currentOperationId }) => state === 'stopped' && currentOperationId === null,
  );
  expect(stopped).toMatchObject({ stateReason: reason, hostId: null, desiredPower: 'off' });
  expect(await wrong()).toEqual([]);
  await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
  expect((await instanceOf(id)).stateReason).toBeNull();
  await removeInstance(id);
}

test('a guest that powers itself off while a snapshot of it is taken is stopped once that has ended', async () => {
  const { id } = await deploy('off-in-snapshot');
  const { rootVolumeId } = await instanceOf(id);
  await held('rbd.ensureSnapshot');
  const snapshot = await tenant.call<OperationView>('POST', '/v1/snapshots', {
    name: 'of a guest that goes',
    volumeId: rootVolumeId,
  });
  await follow(snapshot.id, inStep('snapshots.take'));
  await guest(id, 'guestPowerOff');
  await letGo();
  expect(inWords(await admin.settled(snapshot.id))).toContain(' succeeded');
  await untilSeen(
    () => instanceOf(id),
    ({ state }) => state === 'stopped',
  );
  await tenant.done('DELETE', `/v1/snapshots/${snapshot.targetId}`);
  await isStopped(id, 'guestPowerOff');
});

test('a guest that powers itself off while a volume is attached is stopped, with the volume', async () => {
  const { id } = await deploy('off-in-attach');
  const volume = await make(tenant, 'volumes', {
    name: 'late',
    zoneId: cloud.zone.id,
    volumeTypeId: cloud.volumeTypes[1]?.id,
    sizeGib: 1,
  });
  await held('domain.ensureDisk', 'after');
  const attach = await tenant.call<OperationView>('POST', `/v1/volumes/${volume.id}/actions/attach`, {
    instanceId: id,
  });
  await follow(attach.id, inStep('volumes.plug'));
  await guest(id, 'guestPowerOff');
  await letGo();
  expect(inWords(await admin.settled(attach.id))).toContain(' succeeded');
  await untilSeen(
    () => instanceOf(id),
    ({ state }) => state === 'stopped',
  );
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/detach`, {});
  await isStopped(id, 'guestPowerOff');
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

test('a guest that powers itself off before or after its switch-over is stopped, wherever it was', async () => {
  for (const when of ['before', 'after'] as const) {
    const { id } = await deploy(`off-${when}-switch-over`);
    const source = await placeOf(id);
    await held('domain.migrate', when);
    const move = await tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/migrate`, {});
    await follow(move.id, inStep('hypervisor.migrate'));
    if (when === 'after')
      await untilSeen(
        () => placeOf(id),
        (place) => place !== source,
      );
    await guest(id, 'guestPowerOff');
    await letGo();
    const ended = await admin.settled(move.id);
    // Whichever way the migration ends, the guest is not taken for one that runs.
    expect([when, ['failed', 'succeeded'].includes(ended.state)]).toEqual([when, true]);
    await isStopped(id, 'guestPowerOff');
  }
});

test('a migration ends with the guest running, though its source says that it stopped there', async () => {
  const { id } = await deploy('goes-over');
  await tenant.done('POST', `/v1/instances/${id}/actions/migrate`, {});
  const { hostId, state } = await instanceOf(id);
  expect([state, (await admin.call('GET', `/v1/hosts/${String(hostId)}`)).name]).toEqual([
    'running',
    await placeOf(id),
  ]);
  expect(await settled(id)).toEqual([]);
  await removeInstance(id);
});

test('what a host says late of an earlier life of a guest does not touch the guest', async () => {
  const { id } = await deploy('started-again');
  const act = (verb: string, body: unknown = {}) => tenant.done('POST', `/v1/instances/${id}/actions/${verb}`, body);
  await act('stop', { mode: 'force' });
  await act('start');
  const place = await placeOf(id);
  if (!place) throw new Error('a started guest runs');
  for (const [asked, event] of [
    [1, { type: 'domain.stopped', domainId: id, reason: 'shutdown' }],
    [2, { type: 'domain.crashed', domainId: id, reason: 'crashed' }],
    [3, { type: 'hello', domains: [{ id, state: 'off', reason: 'shutdown' }] }],
    [4, { type: 'hello', domains: [] }],
  ] as const) {
    await tell(place, event);
    const operations = await untilSeen(
      () => settled(id),
      (all) => all.length === asked && all.every(({ endedAt }) => endedAt !== null),
    );
    expect(operations.map(({ state, result }) => [state, result])).toEqual(
      Array(asked).fill(['succeeded', { running: true }]),
    );
  }
  expect([(await instanceOf(id)).state, await placeOf(id)]).toEqual(['running', place]);
  expect(await wrong()).toEqual([]);
  await removeInstance(id);
});

test('a guest that crashes is stopped as crashed', async () => {
  const { id } = await deploy('crashes');
  await guest(id, 'guestCrash');
  await isStopped(id, 'crashed');
});

test('a guest that stops while nobody listens to its host is found stopped when somebody does again', async () => {
  const { id } = await deploy('unheard');
  const place = await placeOf(id);
  const network = (what: string) => fetch(`${address.simulatorUrl}/_sim/hosts/${place}/${what}`, { method: 'POST' });
  await network('partition');
  await guest(id, 'guestPowerOff');
  await network('heal');
  await isStopped(id, 'guestPowerOff');
});

test('asking goes on after a step of it has failed, and its steps may run twice', async () => {
  const { id } = await deploy('asked-again');
  const rule = { operationType: 'instance.settle', targetId: id, times: 1 };
  await setRules(admin, [
    { ...rule, step: 'hypervisor.turnOff', fault: 'failAfter' },
    { ...rule, step: 'networkInterfaces.unbind', fault: 'twice' },
    { ...rule, step: 'placement.release', fault: 'twice' },
    { ...rule, step: 'instances.becomeStopped', fault: 'twice' },
  ]);
  await guest(id, 'guestPowerOff');
  await untilSeen(
    () => instanceOf(id),
    ({ state }) => state === 'stopped',
  );
  expect((await settled(id)).map(({ state }) => state).sort()).toEqual(['failed', 'succeeded']);
  const { items } = await tenant.call<{ items: { type: string; payload: { state: string } }[] }>(
    'GET',
    `/v1/events?filter=${encodeURIComponent(`resourceId = "${id}" AND type = "instance.stopped"`)}`,
  );
  expect(items.map(({ payload }) => payload.state)).toEqual(['stopped']);
  // Off, and its definition forgotten, before the second asking.
  await isStopped(id, 'absent');
});
