/** A host that enters maintenance is empty, whatever happens on it meanwhile, and stays so until it leaves it. */
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, refusal, untilSeen } from '../support/operations.ts';

const address = inject('cloud');
const { admin, cloud, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const until = follower(admin);
const hostId = String(cloud.hosts[0]?.id);
const others = cloud.hosts.slice(1).map(({ id }) => id);

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
async function onlyThisHost(): Promise<() => Promise<unknown>> {
  const enable = (enabled: boolean): Promise<unknown> =>
    Promise.all(others.map((id) => admin.call('PATCH', `/v1/hosts/${id}`, { enabled })));
  const open = (): Promise<unknown> => enable(true);
  restore.push(open);
  await enable(false);
  return open;
}

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => removeInstance((await deploy('first')).id));

test('instances leave it without stopping, nothing goes there meanwhile, and they come back when asked to', async () => {
  const ids = [await onHost('one'), await onHost('two')];
  const letGo = await hold(address.simulatorUrl, 'domain.migrate');
  restore.push(letGo);
  const { id } = await enter({ reason: 'a fan is loud' });
  await until(id, (operation) => operation.steps.filter(({ name }) => name === 'instance.migrate').length === 2);
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
  await until(entering.id, inStep('hosts.findLeaving'));
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
  await until(entering.id, inStep('hosts.findLeaving'));
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

test('who is not an operator can neither bring a host there nor learn of it', async () => {
  for (const verb of ['enterMaintenance', 'exitMaintenance'])
    expect(await refusal(tenant.call('POST', `/v1/hosts/${hostId}/actions/${verb}`, {}))).toMatch(/^40[34] /);
});
