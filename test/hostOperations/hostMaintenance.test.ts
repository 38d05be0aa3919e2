/** A host that enters maintenance is empty, whatever happens on it meanwhile, and stays so until it leaves it. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { closed } from '../support/closed.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, refusal, untilSeen } from '../support/operations.ts';
import { peopleOf } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { befall } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const until = follower(admin);
const others = cloud.hosts.map(({ id }) => id);
/** A host of this file alone: what other tests have left behind is on the others. */
const hostName = 'host-199';
let hostId = '';
const newHost = async (name: string): Promise<string> => {
  const simulator = new URL(address.simulatorUrl).host;
  return (await make(admin, 'hosts', { name, clusterId: cloud.cluster.id, address: `sim://${simulator}/${name}` })).id;
};

const hostNow = (): Promise<Resource> => admin.call('GET', `/v1/hosts/${hostId}`);
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.call('POST', `/v1/instances/${id}/actions/${verb}`, body);
const enter = (body: Record<string, unknown> = {}): Promise<OperationView> =>
  admin.call('POST', `/v1/hosts/${hostId}/actions/enterMaintenance`, body);
const entered = async (body: Record<string, unknown> = {}): Promise<OperationView> =>
  admin.settled((await enter(body)).id);
const exit = (body: Record<string, unknown> = {}): Promise<OperationView> =>
  admin.done('POST', `/v1/hosts/${hostId}/actions/exitMaintenance`, body) as Promise<OperationView>;
const childrenOf = async (id: string): Promise<OperationView[]> =>
  (
    await admin.call<{ items: OperationView[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${id}"`)}&orderBy=createdAt`,
    )
  ).items;

const made = new Set<string>();
async function onHost(name: string): Promise<string> {
  const body = { ...instanceBody(cloud, name), projectId: cloud.project.id, requestedHostId: hostId };
  const { targetId } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  made.add(targetId);
  return targetId;
}

const restore: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const again of restore.splice(0).reverse()) await again();
  await untilSeen(hostNow, ({ currentOperationId }) => !currentOperationId);
  if ((await hostNow()).state === 'maintenance') await exit();
  await Promise.all([...made].map(removeInstance));
  made.clear();
  expect(await wrong()).toEqual([]);
});

/** Closes all others, until it is let go or the test has ended. */
const onlyThisHost = (): Promise<() => Promise<unknown>> => closed(admin, others, restore);

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await deploy('first')).id);
  hostId = await newHost(hostName);
});
afterAll(async () => {
  await admin.done('DELETE', `/v1/hosts/${hostId}`);
});

test('instances leave it without stopping, nothing goes there meanwhile, and they come back when asked to', async () => {
  const ids = [await onHost('one'), await onHost('two')];
  const letGo = await hold(address.simulatorUrl, 'domain.migrate');
  restore.push(letGo);
  const { id } = await enter({ reason: 'a fan is loud' });
  // Of one that was just started the host may still be asked whether it runs; that one leaves after the other.
  await until(id, inStep('instance.migrate'));
  const body = { ...instanceBody(cloud, 'would-be'), projectId: cloud.project.id, requestedHostId: hostId };
  expect(await refusal(admin.call('POST', '/v1/instances?dryRun=true', body))).toBe('409 NO_CAPACITY');
  expect(await hostNow()).toMatchObject({ state: 'enteringMaintenance', maintenanceReason: 'a fan is loud' });
  await letGo();
  expect(await admin.settled(id)).toMatchObject({ state: 'succeeded', result: { left: 2 } });
  expect((await childrenOf(id)).map(({ type, state }) => [type, state])).toEqual([
    ['instance.migrate', 'succeeded'],
    ['instance.migrate', 'succeeded'],
  ]);
  expect(await hostNow()).toMatchObject({ state: 'maintenance', maintenanceReason: 'a fan is loud' });
  for (const one of ids) {
    const { state, hostId: at } = await instanceNow(one);
    expect([state, others.includes(String(at))]).toEqual(['running', true]);
  }
  expect(await refusal(admin.call('POST', '/v1/instances?dryRun=true', body))).toBe('409 NO_CAPACITY');
  expect(await exit({ moveBack: true })).toMatchObject({ result: { succeeded: 2, failed: [] } });
  expect(await hostNow()).toMatchObject({ state: 'active', maintenanceReason: null });
  for (const one of ids) expect(await instanceNow(one)).toMatchObject({ state: 'running', hostId });
});

test('what is stopped for it is started afterwards, unless somebody has done so', async () => {
  const [stopped, startedByItsOwner] = [await onHost('stopped'), await onHost('started')];
  expect(await entered({ instances: 'stop' })).toMatchObject({ state: 'succeeded', result: { left: 2 } });
  expect([(await instanceNow(stopped)).state, (await instanceNow(startedByItsOwner)).state]).toEqual([
    'stopped',
    'stopped',
  ]);
  await tenant.done('POST', `/v1/instances/${startedByItsOwner}/actions/start`, {});
  const elsewhere = (await instanceNow(startedByItsOwner)).hostId;
  expect(elsewhere).not.toBe(hostId);
  expect(await exit({ moveBack: true })).toMatchObject({ result: { succeeded: 1, failed: [] } });
  expect((await instanceNow(stopped)).state).toBe('running');
  expect(await instanceNow(startedByItsOwner)).toMatchObject({ state: 'running', hostId: elsewhere });
});

test('it is refused while anything runs there, if so asked, and nothing is different then', async () => {
  const id = await onHost('stays');
  expect(await entered({ instances: 'refuse', reason: 'none' })).toMatchObject({
    state: 'failed',
    error: { code: 'HAS_DEPENDENTS', blockers: [{ kind: 'instance', id }] },
  });
  expect(await hostNow()).toMatchObject({ state: 'active', maintenanceReason: null });
  expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId });
});

test('it is not empty while it has a disk open whose instance has left it', async () => {
  const id = await onHost('leaves its disk');
  const { rootVolumeId } = await instanceNow(id);
  const opened = (open: boolean): Promise<void> =>
    befall(address.simulatorUrl, hostName, 'openVolume', { volumeId: rootVolumeId, open });
  await opened(true);
  restore.push(() => opened(false));
  expect(await entered()).toMatchObject({
    state: 'failed',
    error: { code: 'RESOURCE_BUSY', message: expect.stringContaining(String(rootVolumeId)) },
  });
  expect((await hostNow()).state).toBe('active');
  await opened(false);
  expect(await entered()).toMatchObject({ state: 'succeeded' });
});

test('when there is no room elsewhere it is told which can not leave, and the host stays in use', async () => {
  const id = await onHost('stays');
  await onlyThisHost();
  expect(await entered()).toMatchObject({
    state: 'failed',
    error: { code: 'PARTLY_FAILED', failed: [{ targetId: id, code: 'NO_CAPACITY' }] },
  });
  expect(await hostNow()).toMatchObject({ state: 'active' });
  expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId });
});

test('what is under way on an instance there ends first, and the instance leaves then', async () => {
  const id = await onHost('busy');
  const letGo = await hold(address.simulatorUrl, 'domain.reset');
  restore.push(letGo);
  const reboot = await act(id, 'reboot', { mode: 'force' });
  await until(reboot.id, inStep('hypervisor.reboot'));
  const entering = await enter();
  await until(entering.id, inStep('instance.migrate'));
  await letGo();
  expect((await admin.settled(reboot.id)).state).toBe('succeeded');
  expect((await admin.settled(entering.id)).state).toBe('succeeded');
  expect(others).toContain((await instanceNow(id)).hostId);
});

test('what was about to arrive there is sent on', async () => {
  const { id } = await deploy('arrives');
  made.add(id);
  if ((await instanceNow(id)).hostId === hostId) await admin.settled((await act(id, 'migrate')).id);
  const open = await onlyThisHost();
  const letGo = await hold(address.simulatorUrl, 'domain.migrate');
  restore.push(letGo);
  const move = await act(id, 'migrate');
  await until(move.id, inStep('hypervisor.migrate'));
  await open();
  const entering = await enter();
  await letGo();
  expect((await admin.settled(move.id)).state).toBe('succeeded');
  expect((await admin.settled(entering.id)).state).toBe('succeeded');
  expect(others).toContain((await instanceNow(id)).hostId);
});

test('an instance that its owner stops meanwhile does not keep the host from it', async () => {
  const id = await onHost('stops');
  const letGo = await hold(address.simulatorUrl, 'domain.shutDown');
  restore.push(letGo);
  const stop = await tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/stop`, {});
  await until(stop.id, inStep('hypervisor.shutDown'));
  const entering = await enter();
  await until(entering.id, inStep('instance.migrate'));
  await letGo();
  expect((await admin.settled(stop.id)).state).toBe('succeeded');
  expect((await admin.settled(entering.id)).state).toBe('succeeded');
  expect((await instanceNow(id)).state).toBe('stopped');
});

test('a cancel ends the moves that are under way, and the host is used as before', async () => {
  const id = await onHost('stays');
  const letGo = await hold(address.simulatorUrl, 'domain.migrate');
  restore.push(letGo);
  const entering = await enter();
  await until(entering.id, inStep('instance.migrate'));
  const [child] = await childrenOf(entering.id);
  await until(String(child?.id), inStep('hypervisor.migrate'));
  await admin.call('POST', `/v1/operations/${entering.id}/actions/cancel`);
  await letGo();
  expect((await admin.settled(entering.id)).state).toBe('cancelled');
  expect((await admin.settled(String(child?.id))).state).toBe('cancelled');
  expect(await hostNow()).toMatchObject({ state: 'active' });
  expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId });
});

test('an instance that is elsewhere when its turn comes is left alone there', async () => {
  const [first, second] = [await onHost('first'), await onHost('second')];
  const letGo = await hold(address.simulatorUrl, 'domain.shutDown');
  restore.push(letGo);
  const entering = await enter({ instances: 'stop', maxParallel: 1 });
  const { steps } = await until(entering.id, inStep('instance.stop'));
  const stopping = await admin.call<OperationView>(
    'GET',
    `/v1/operations/${(steps.at(-1) as { operationId?: string }).operationId}`,
  );
  const moves = stopping.targetId === first ? second : first;
  expect((await admin.settled((await act(moves, 'migrate')).id)).state).toBe('succeeded');
  await letGo();
  expect((await admin.settled(entering.id)).state).toBe('succeeded');
  expect((await instanceNow(moves)).state).toBe('running');
  expect((await instanceNow(stopping.targetId)).state).toBe('stopped');
});

test('what left in a try that failed comes back with the rest', async () => {
  const ids = [await onHost('one'), await onHost('two')];
  const rule = { operationType: 'host.enterMaintenance', targetId: hostId, step: 'hosts.proveEmpty', times: 1 };
  await setRules(admin, [{ ...rule, fault: 'failBefore' }]);
  restore.push(() => setRules(admin, []));
  expect((await entered()).state).toBe('failed');
  expect(await hostNow()).toMatchObject({ state: 'active', maintenanceReason: null });
  expect(await entered()).toMatchObject({ state: 'succeeded', result: { left: 0 } });
  expect(await exit({ moveBack: true })).toMatchObject({ result: { succeeded: 2 } });
  for (const id of ids) expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId });
});

test('an exit that is cancelled when somebody has come back leaves the host in use', async () => {
  await onHost('one');
  await onHost('two');
  expect((await entered()).state).toBe('succeeded');
  const letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  restore.push(letGo);
  const exiting = await admin.call<OperationView>('POST', `/v1/hosts/${hostId}/actions/exitMaintenance`, {
    moveBack: true,
    maxParallel: 1,
  });
  const { steps } = await until(exiting.id, inStep('instance.migrate'));
  await until(String((steps.at(-1) as { operationId?: string }).operationId), inStep('hypervisor.leaveSource'));
  await admin.call('POST', `/v1/operations/${exiting.id}/actions/cancel`);
  await letGo();
  expect((await admin.settled(exiting.id)).state).toBe('cancelled');
  expect((await hostNow()).state).toBe('active');
});

test('who runs the infrastructure needs no rights on instances for it', async () => {
  const id = await onHost('unseen');
  const { newAccount, newRole, person } = peopleOf(admin);
  const { account } = await newAccount('racks');
  const { api } = await person('rack', account.id, await newRole(['host.*', 'operation.*']), ['platform', null]);
  expect(await refusal(api.call('GET', `/v1/instances/${id}`))).toBe('404 NOT_FOUND');
  const path = `/v1/hosts/${hostId}/actions`;
  expect((await api.done('POST', `${path}/enterMaintenance`, {})).result).toMatchObject({ left: 1 });
  expect((await api.done('POST', `${path}/exitMaintenance`, { moveBack: true })).result).toMatchObject({
    succeeded: 1,
  });
  expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId });
});

test('a host that dies while it is emptied is declared dead, and nobody waits for it', async () => {
  const spare = await newHost('host-198');
  const body = { ...instanceBody(cloud, 'doomed'), projectId: cloud.project.id, requestedHostId: spare };
  const { targetId } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  made.add(targetId);
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const path = `/v1/hosts/${spare}`;
  const entering = await admin.call<OperationView>('POST', `${path}/actions/enterMaintenance`, {});
  const { steps } = await until(entering.id, inStep('instance.migrate'));
  await until(String((steps.at(-1) as { operationId?: string }).operationId), inStep('hypervisor.migrate'));
  await fetch(`${address.simulatorUrl}/_sim/hosts/host-198/scrap`, { method: 'POST' });
  await untilSeen(
    () => admin.call('GET', path),
    ({ connection }) => connection === 'disconnected',
  );
  await restore.splice(0, 1)[0]?.();
  await admin.done('DELETE', `${path}?force=true&confirmDead=true`);
  expect((await admin.settled(entering.id)).state).toBe('failed');
  expect((await instanceNow(targetId)).state).toBe('stopped');
});

test('who is not an operator can neither bring a host there nor learn of it', async () => {
  for (const verb of ['enterMaintenance', 'exitMaintenance'])
    expect(await refusal(tenant.call('POST', `/v1/hosts/${hostId}/actions/${verb}`, {}))).toMatch(/^40[34] /);
});
