/** Operations that begin operations: what a parent promises of its children, and what they may do that others may not. */
import { Connection, Client as TemporalClient } from '@temporalio/client';
import { afterEach, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, refusal } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy: instance, removeInstance: remove } = joinCloud(address);
const { tenant } = cloud;
const until = follower(admin);

const look = (id: string): Promise<OperationView> => admin.call('GET', `/v1/operations/${id}`);
const runMany = (body: unknown, api = tenant): Promise<OperationView> =>
  api.call('POST', '/v1/operations/actions/runMany', body);
const childrenOf = async ({ id }: { id: string }): Promise<OperationView[]> =>
  (
    await tenant.call<{ items: OperationView[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${id}"`)}&orderBy=createdAt`,
    )
  ).items;
const stateOf = async (id: string): Promise<string> => (await admin.call('GET', `/v1/instances/${id}`)).state;
const three = (): Promise<{ id: string }[]> => Promise.all(['one', 'two', 'three'].map((name) => instance(name)));
const stop = { action: 'instance.stop', input: { mode: 'force' } };

let letGo: () => Promise<void> = async () => {};
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});

test('an action on many is one operation with a child for each, which lead to each other in the API and in Temporal', async () => {
  const instances = await three();
  const ids = instances.map(({ id }) => id);
  const accepted = await runMany({ ...stop, targets: { ids } });
  const parent = await admin.settled(accepted.id);
  expect(parent).toMatchObject({ state: 'succeeded', result: { succeeded: 3 }, projectId: cloud.project.id });
  expect(await Promise.all(ids.map(stateOf))).toEqual(['stopped', 'stopped', 'stopped']);
  const children = await childrenOf(parent);
  expect(children.map(({ type, state, targetId }) => [type, state, targetId]).sort()).toEqual(
    ids.map((id) => ['instance.stop', 'succeeded', id]).sort(),
  );
  expect(parent.steps.map(({ name, state }) => [name, state])).toEqual(ids.map(() => ['instance.stop', 'done']));
  expect(parent.steps.map((step) => (step as { operationId?: string }).operationId).sort()).toEqual(
    children.map(({ id }) => id).sort(),
  );
  // In the name of who asked for the parent.
  expect(new Set(children.map((child) => (child as { actorUserId?: string }).actorUserId))).toEqual(
    new Set([(parent as { actorUserId?: string }).actorUserId]),
  );
  const connection = await Connection.connect({ address: address.temporalAddress });
  const temporal = new TemporalClient({ connection, namespace: 'belay' });
  for (const { id } of children) {
    const { raw } = await temporal.workflow.getHandle(id).describe();
    expect(raw.workflowExecutionInfo?.parentExecution?.workflowId).toBe(parent.id);
  }
  await connection.close();
  await Promise.all(ids.map(remove));
  expect(await wrong()).toEqual([]);
});

test('a filter stands for what it finds when it is asked', async () => {
  const instances = await three();
  const filter = 'name = "two" OR name = "three"';
  const parent = await admin.settled((await runMany({ ...stop, targets: { filter } })).id);
  expect(parent.state).toBe('succeeded');
  expect(await Promise.all(instances.map(({ id }) => stateOf(id)))).toEqual(['running', 'stopped', 'stopped']);
  const updated = await admin.settled(
    (await runMany({ action: 'instance.update', input: { labels: { tier: 'web' } }, targets: { filter } })).id,
  );
  expect(updated.state).toBe('succeeded');
  expect(await childrenOf(updated)).toEqual([]);
  const labels = await Promise.all(
    instances.map(async ({ id }) => (await admin.call('GET', `/v1/instances/${id}`)).labels),
  );
  expect(labels).toEqual([{}, { tier: 'web' }, { tier: 'web' }]);
  await Promise.all(instances.map(({ id }) => remove(id)));
});

test('what fails is told one by one, and what succeeded stays; after the first nothing more is begun if so asked', async () => {
  const instances = await three();
  const ids = instances.map(({ id }) => id);
  await tenant.done('POST', `/v1/instances/${ids[0]}/actions/stop`, { mode: 'force' });
  const parent = await admin.settled((await runMany({ ...stop, targets: { ids } })).id);
  expect(parent).toMatchObject({
    state: 'failed',
    error: { code: 'PARTLY_FAILED', succeeded: 2, notRun: 0, failed: [{ targetId: ids[0], code: 'INVALID_STATE' }] },
  });
  expect(await Promise.all(ids.map(stateOf))).toEqual(['stopped', 'stopped', 'stopped']);
  const { items: refusals } = await admin.call<{ items: unknown[] }>(
    'GET',
    `/v1/audit-entries?filter=${encodeURIComponent(`operationId = "${parent.id}" AND outcome = "denied"`)}`,
  );
  expect(refusals).toMatchObject([{ permission: 'instance.stop', resourceId: ids[0], code: 'INVALID_STATE' }]);
  await tenant.done('POST', `/v1/instances/${ids[1]}/actions/start`);
  const stopped = await admin.settled(
    (await runMany({ ...stop, targets: { ids }, maxParallel: 1, stopOnFailure: true })).id,
  );
  expect(stopped.error).toMatchObject({ code: 'PARTLY_FAILED', succeeded: 0, notRun: 2 });
  expect(await stateOf(String(ids[1]))).toBe('running');
  await Promise.all(ids.map(remove));
});

test('a cancel reaches the children that run, and those that wait in line at once', async () => {
  const [running, waiting] = await Promise.all([instance('running'), instance('waiting')]);
  const before = await picture();
  letGo = await hold(address.simulatorUrl, 'domain.migrate');
  // Another's migration holds one of them; the child waits behind it.
  const other = await admin.call<OperationView>('POST', `/v1/instances/${waiting.id}/actions/migrate`);
  await until(other.id, inStep('hypervisor.migrate'));
  const { id } = await runMany({ action: 'instance.migrate', targets: { ids: [running.id, waiting.id] } }, admin);
  const parent = await until(id, ({ steps }) => steps.filter((step) => 'operationId' in step).length === 2);
  const children = new Map((await adminChildren(parent.id)).map((child) => [child.targetId, child.id]));
  await until(String(children.get(running.id)), inStep('hypervisor.migrate'));
  expect((await look(String(children.get(waiting.id)))).state).toBe('queued');
  await admin.call('POST', `/v1/operations/${id}/actions/cancel`);
  const ended = await admin.settled(id);
  expect(ended.state).toBe('cancelled');
  for (const child of children.values()) expect((await look(child)).state).toBe('cancelled');
  await admin.call('POST', `/v1/operations/${other.id}/actions/cancel`);
  await admin.settled(other.id);
  expect(changes(before, await picture())).toEqual([]);
  expect(await wrong()).toEqual([]);
  await Promise.all([remove(running.id), remove(waiting.id)]);
});

const adminChildren = async (id: string): Promise<OperationView[]> =>
  (
    await admin.call<{ items: OperationView[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${id}"`)}`,
    )
  ).items;

test('a child that is begun twice is one child', async () => {
  const { id } = await instance('once');
  await setRules(admin, [{ operationType: 'operation.runMany', step: stop.action, fault: 'twice' }]);
  const parent = await admin.settled((await runMany({ ...stop, targets: { ids: [id] } })).id);
  expect(parent.state).toBe('succeeded');
  expect(await childrenOf(parent)).toHaveLength(1);
  await remove(id);
});

test('a child that fails is undone by itself, and its parent tells of it', async () => {
  const { id } = await instance('failing');
  const before = await picture();
  await setRules(admin, [{ operationType: 'instance.migrate', step: 'hypervisor.migrate', fault: 'failAfter' }]);
  const { id: parentId } = await runMany({ action: 'instance.migrate', targets: { ids: [id] } }, admin);
  const parent = await admin.settled(parentId);
  expect(parent.error).toMatchObject({ code: 'PARTLY_FAILED', failed: [{ targetId: id, code: 'INTERNAL' }] });
  expect(parent.steps).toMatchObject([{ name: 'instance.migrate', state: 'failed' }]);
  await setRules(admin, []);
  expect(changes(before, await picture())).toEqual([]);
  await remove(id);
});

test('a child that is stuck shows at its step of the parent, until it goes on', async () => {
  const { id } = await instance('stuck');
  const before = await picture();
  await setRules(admin, [
    { operationType: 'instance.migrate', step: 'networkInterfaces.bindToBoth', fault: 'undoFails' },
  ]);
  const { id: parentId } = await runMany({ action: 'instance.migrate', targets: { ids: [id] } }, admin);
  const waiting = await until(parentId, ({ steps }) => steps.some(({ error }) => error !== null));
  const [child] = await adminChildren(parentId);
  expect([waiting.state, child?.state]).toEqual(['running', 'stuck']);
  expect(waiting.steps[0]?.error?.message).toContain(`operation ${child?.id} is stuck: `);
  await setRules(admin, []);
  await admin.call('POST', `/v1/operations/${child?.id}/actions/retry`, {});
  const parent = await admin.settled(parentId);
  expect([parent.state, parent.error?.code]).toEqual(['failed', 'PARTLY_FAILED']);
  expect(parent.steps[0]?.error?.message).not.toContain('is stuck');
  expect(changes(before, await picture())).toEqual([]);
  await remove(id);
});

test('what can not be done of many is refused before anything begins', async () => {
  const { id } = await instance('refused');
  const targets = { ids: [id] };
  const refused = (body: unknown, api = tenant): Promise<string> => refusal(runMany(body, api));
  expect(await refused({ action: 'instance.create', targets })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ action: 'instance.fly', targets })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ action: 'operation.cancel', targets })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ action: 'instance.stop', input: { mode: 'gently' }, targets })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ ...stop, targets: {} })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ ...stop, targets: { filter: 'name = "nobody"' } })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ ...stop, targets: { ...targets, filter: 'name = "refused"' } })).toBe('422 INVALID_ARGUMENT');
  expect(await refused({ ...stop, targets: { ids: [crypto.randomUUID()] } })).toBe('404 NOT_FOUND');
  expect(
    await refused(
      { action: 'storageCluster.update', input: { adminKey: 'k' }, targets: { ids: [cloud.storageCluster.id] } },
      admin,
    ),
  ).toBe('422 INVALID_ARGUMENT');
  // Infrastructure, of which a tenant knows nothing.
  expect(await refused({ action: 'host.connect', targets: { ids: [cloud.hosts[0]?.id] } })).toBe('404 NOT_FOUND');
  await remove(id);
});

test('targets of several projects are for operators', async () => {
  const project = await admin.call('POST', '/v1/projects', { name: crypto.randomUUID(), accountId: cloud.account.id });
  const volumeTypeId = cloud.volumeTypes[0]?.id;
  const volume = (projectId: string): Promise<Resource> =>
    make(admin, 'volumes', { name: 'v', zoneId: cloud.zone.id, volumeTypeId, sizeGib: 1, projectId });
  const volumes = await Promise.all([volume(project.id), volume(cloud.project.id)]);
  const ids = volumes.map(({ id }) => id);
  const remove = { action: 'volume.delete', targets: { ids } };
  expect(await refusal(runMany(remove))).toMatch(/422 INVALID_ARGUMENT|404 NOT_FOUND/);
  const parent = await admin.settled((await runMany(remove, admin)).id);
  expect([parent.state, (parent as { projectId?: unknown }).projectId]).toEqual(['succeeded', null]);
  const expunged = await admin.settled((await runMany({ ...remove, action: 'volume.expunge' }, admin)).id);
  expect(expunged.state).toBe('succeeded');
  await admin.call('DELETE', `/v1/projects/${project.id}`);
});

test('an Idempotency-Key is of the filter, and not of what that finds', async () => {
  const name = crypto.randomUUID();
  await make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 });
  const ask = async (action: string): Promise<[number, OperationView]> => {
    const body = { action, targets: { filter: `name = "${name}" AND state = "ready"` } };
    const response = await tenant.raw('POST', '/v1/operations/actions/runMany', JSON.stringify(body), {
      'content-type': 'application/json',
      'idempotency-key': name,
    });
    return [response.status, (await response.json()) as OperationView];
  };
  const [, first] = await ask('volume.delete');
  await admin.settled(first.id);
  expect(await ask('volume.delete')).toMatchObject([202, { id: first.id }]);
  expect(await ask('volume.expunge')).toMatchObject([422, { code: 'IDEMPOTENCY_MISMATCH' }]);
});

test('what only an upload may begin is not begun for many', async () => {
  const image = await tenant.call('POST', '/v1/images', {
    name: 'many',
    zoneId: cloud.zone.id,
    architecture: 'x86_64',
  });
  expect(await refusal(runMany({ action: 'image.import', targets: { ids: [image.id] } }))).toBe('422 INVALID_ARGUMENT');
  await tenant.done('DELETE', `/v1/images/${image.id}`);
});
