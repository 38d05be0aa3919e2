/** A host that dies while an operation holds it is failed over by itself: what could not go on without it gives way, and ends by itself. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { type DetectedHost, detecting } from '../support/detection.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, untilSeen } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';

const address = inject('cloud');
const { admin, cloud, wrong, removeInstance } = joinCloud(address);
const { cluster: newCluster, suffer, list, failovers, now } = detecting(admin, address.simulatorUrl);
const until = follower(admin);

let cluster: Resource;
let hosts: Resource[] = [];
let volumeTypeId = '';
const at = (index: number): Resource => hosts[index] as Resource;
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
const ask = ({ id }: Resource, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.call('POST', `/v1/hosts/${id}/actions/${verb}`, body);
const childOf = (of: OperationView): string =>
  String((of.steps.at(-1) as { operationId?: string } | undefined)?.operationId);
const isFree = ({ currentOperationId }: Resource): boolean => currentOperationId === null;

const made = new Set<string>();
async function on(host: Resource, name: string): Promise<string> {
  const body = {
    ...instanceBody(cloud, name),
    projectId: cloud.project.id,
    requestedHostId: host.id,
    rootVolume: { volumeTypeId },
  };
  const { targetId } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  made.add(targetId);
  return targetId;
}
const runsElsewhere = (id: string, than: Resource): Promise<Resource> =>
  untilSeen(
    () => instanceNow(id),
    ({ state, hostId, currentOperationId }) => state === 'running' && hostId !== than.id && currentOperationId === null,
  );
/** Shut out, by one failover that nobody has asked for, and held by nobody. */
async function isFailedOver(host: Resource): Promise<DetectedHost> {
  const seen = await untilSeen(
    () => now(host),
    (one) => one.state === 'fenced' && isFree(one),
  );
  const ended = await failovers(host);
  expect(ended.filter(({ state }) => state === 'succeeded')).toHaveLength(1);
  return seen;
}
/** How an operation ended that was in the way: by itself, and its error says why. */
async function endedWithHost(id: string): Promise<OperationView> {
  // One that is stuck because a host does not answer goes on by itself once that is shut out.
  const ended = await untilSeen(
    () => admin.call<OperationView>('GET', `/v1/operations/${id}`),
    ({ endedAt }) => Boolean(endedAt),
  );
  expect(ended.state).toBe('failed');
  expect(['HOST_FENCED', 'HOST_UNREACHABLE', 'PARTLY_FAILED']).toContain(ended.error?.code);
  return ended;
}

const restore: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  ({ cluster, hosts } = await newCluster(
    'giving way',
    cloud.zone.id,
    [216, 217, 218, 219, 220, 221, 222].map((n) => `host-${n}`),
  ));
  await make(admin, 'storage-pools', {
    name: 'giving way',
    pool: 'giving-way',
    storageClass: 'giving-way',
    replicas: 1,
    failureDomain: 'osd',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cluster.id],
    overprovision: 100,
  });
  const type = { name: 'giving way', storageClass: 'giving-way', visibility: 'public' };
  volumeTypeId = (await admin.call('POST', '/v1/volume-types', type)).id;
});
afterEach(async () => {
  for (const again of restore.splice(0).reverse()) await again();
  for (const host of hosts) {
    await suffer(host, 'heal');
    const { state } = await untilSeen(
      () => now(host),
      (seen) => isFree(seen) && (seen.state === 'fenced' || seen.connection === 'connected'),
    );
    if (state === 'fenced') await admin.done('POST', `/v1/hosts/${host.id}/actions/reinstate`, {});
    if (state === 'maintenance') await admin.done('POST', `/v1/hosts/${host.id}/actions/exitMaintenance`, {});
    await untilSeen(
      () => now(host),
      ({ health, connection }) => health === 'well' && connection === 'connected',
    );
  }
  await Promise.all([...made].map(removeInstance));
  made.clear();
  expect(await wrong()).toEqual([]);
});
afterAll(async () => {
  await setRules(admin, []);
});

test('a host that dies while its guests migrate away; what waits behind that is refused', async () => {
  const host = at(0);
  const ids = [await on(host, 'leaves'), await on(host, 'leaves too')];
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const entering = await ask(host, 'enterMaintenance', { reason: 'a fan is loud' });
  await until(childOf(await until(entering.id, inStep('instance.migrate'))), inStep('hypervisor.migrate'));
  const waiting = await ask(host, 'connect');
  await suffer(host, 'crash');
  for (const id of ids) await runsElsewhere(id, host);
  await endedWithHost(entering.id);
  expect((await admin.settled(waiting.id)).error?.code).toBe('INVALID_STATE');
  expect(await isFailedOver(host)).toMatchObject({ maintenanceReason: null });
});

test('a host that dies while it is connected', async () => {
  const host = at(1);
  const id = await on(host, 'is there');
  restore.push(await hold(address.simulatorUrl, 'hypervisor.ensureConfigured'));
  const connecting = await ask(host, 'connect');
  await until(connecting.id, inStep('hosts.renewHypervisor'));
  await suffer(host, 'crash');
  await runsElsewhere(id, host);
  await endedWithHost(connecting.id);
  await isFailedOver(host);
});

test('a host that dies while its credentials are changed', async () => {
  const host = at(2);
  const id = await on(host, 'is there');
  // What it holds is known to nobody else, so it is kept from going on by a host that is gone already.
  await setRules(admin, [
    { operationType: 'host.rotateCredentials', targetId: host.id, step: 'hosts.addCredentials', fault: 'failAfter' },
  ]);
  restore.push(() => setRules(admin, []));
  await suffer(host, 'crash');
  const rotating = await ask(host, 'rotateCredentials');
  await runsElsewhere(id, host);
  expect((await admin.settled(rotating.id)).state).toBe('failed');
  await isFailedOver(host);
});

test('a host of a rolling maintenance that dies while it is emptied', async () => {
  const host = at(4);
  const id = await on(host, 'leaves');
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const rolling = await admin.call<OperationView>('POST', `/v1/clusters/${cluster.id}/actions/rollingMaintenance`, {
    order: [host.id],
  });
  const maintaining = childOf(await until(rolling.id, inStep('host.maintain')));
  const entering = childOf(await until(maintaining, inStep('host.enterMaintenance')));
  await until(childOf(await until(entering, inStep('instance.migrate'))), inStep('hypervisor.migrate'));
  await suffer(host, 'crash');
  await runsElsewhere(id, host);
  for (const each of [entering, maintaining, rolling.id]) await endedWithHost(each);
  await isFailedOver(host);
});

test('a host that dies while it is taken back stays shut out, and is taken back later', async () => {
  const host = at(3);
  const id = await on(host, 'is elsewhere');
  await suffer(host, 'crash');
  await runsElsewhere(id, host);
  await isFailedOver(host);
  await suffer(host, 'heal');
  restore.push(await hold(address.simulatorUrl, 'hypervisor.ensureConfigured'));
  const reinstating = await ask(host, 'reinstate');
  await until(reinstating.id, inStep('hosts.renewHypervisor'));
  await suffer(host, 'crash');
  await endedWithHost(reinstating.id);
  expect(await now(host)).toMatchObject({ state: 'fenced', currentOperationId: null });
});

test('a host in maintenance that dies while a person works on it is not missed', async () => {
  const host = at(5);
  const id = await on(host, 'leaves');
  const maintaining = await ask(host, 'maintain', { hook: 'wait' });
  await until(maintaining.id, (seen) => Boolean((seen as OperationView & { waitsFor: string | null }).waitsFor));
  await suffer(host, 'crash');
  await untilSeen(
    () => now(host),
    ({ connection }) => connection === 'disconnected',
  );
  await runsElsewhere(id, host);
  await admin.call('POST', `/v1/operations/${maintaining.id}/actions/continue`);
  await untilSeen(
    () => admin.call<OperationView>('GET', `/v1/operations/${maintaining.id}`),
    ({ state }) => state === 'stuck',
  );
  expect(await failovers(host)).toEqual([]);
  // Shut out, there is nothing left to take back.
  await admin.done('POST', `/v1/hosts/${host.id}/actions/failover`, {});
  await endedWithHost(maintaining.id);
});

test('a host that answers again before it is shut out is what the operation that gave way makes of it', async () => {
  const host = at(6);
  const id = await on(host, 'stays or leaves');
  await setRules(admin, [
    { operationType: 'host.failover', targetId: host.id, step: 'hosts.proveDown', fault: 'failBefore' },
  ]);
  restore.push(() => setRules(admin, []));
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const entering = await ask(host, 'enterMaintenance');
  await until(childOf(await until(entering.id, inStep('instance.migrate'))), inStep('hypervisor.migrate'));
  await suffer(host, 'cut', { from: ['peers', 'storage'] });
  await suffer(host, 'partition');
  await untilSeen(
    () => failovers(host),
    (tried) => tried.some(({ state }) => state === 'failed'),
  );
  await suffer(host, 'heal');
  await untilSeen(
    () => now(host),
    ({ health, connection }) => health === 'well' && connection === 'connected',
  );
  await restore.pop()?.();
  const { state } = await admin.settled(entering.id);
  const ended = await untilSeen(() => now(host), isFree);
  expect(ended.state).toBe(state === 'succeeded' ? 'maintenance' : 'active');
  expect((await failovers(host)).every((one) => one.state === 'failed')).toBe(true);
  expect((await instanceNow(id)).state).toBe('running');
  expect(await list('findings', `resourceId = "${host.id}" AND state = "open"`)).toEqual([]);
});
