/** What is computed about a resource: what its delete would mean, and what it uses. */
import { expect, inject, test } from 'vitest';
import type { DeletePlan } from '../../acceptance/deletePlan.ts';
import type { ApiProblem, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { admin, cloud, removeInstance } = joinCloud(address);
const { tenant } = cloud;

const plan = (plural: string, id: string, api = tenant): Promise<DeletePlan> =>
  api.call('GET', `/v1/${plural}/${id}/views/deletePlan`);
const kindsOf = (items: { kind: string }[]): string[] => items.map(({ kind }) => kind);
async function refusal(method: string, path: string, api = tenant): Promise<string> {
  const { status, code } = (await (await api.raw(method, path, null)).json()) as ApiProblem;
  return `${status} ${code}`;
}
const instance = async (more: Record<string, unknown> = {}): Promise<Resource> => {
  const { id } = await make(tenant, 'instances', instanceBody(cloud, 'viewed', more));
  return tenant.call('GET', `/v1/instances/${id}`);
};

test('an instance takes its interfaces and its root volume along, and lets go of its data', async () => {
  const { id, name, rootVolumeId } = await instance({ dataVolumes: [{ name: 'data', sizeGib: 1 }] });
  const { takes, ...rest } = await plan('instances', id);
  expect(rest).toEqual({ deletable: true, refusal: null, blockers: [], complete: true });
  expect(takes[0]).toMatchObject({ kind: 'volume', name: 'data', by: 'detach' });
  expect(
    takes
      .slice(1, -1)
      .map(({ kind, by }) => `${kind} ${by}`)
      .sort(),
  ).toEqual(['networkInterface own', 'volume own']);
  expect(takes.find(({ kind, by }) => kind === 'volume' && by === 'own')?.id).toBe(rootVolumeId);
  expect(takes.at(-1)).toEqual({ kind: 'instance', id, name, by: 'target' });

  // What hangs on a volume that goes along is in the way of the instance too, as is a protection.
  const snapshot = await make(tenant, 'snapshots', { name: 'kept', volumeId: String(rootVolumeId) });
  await tenant.call('PATCH', `/v1/instances/${id}`, { deleteProtection: true });
  const blocked = await plan('instances', id);
  expect(blocked.deletable).toBe(false);
  expect(blocked.blockers).toEqual([{ kind: 'instance', id, name, reason: 'deleteProtection' }]);
  expect(blocked.takes).toContainEqual({ kind: 'snapshot', id: snapshot.id, name: 'kept', by: 'cascade' });
  expect(await refusal('DELETE', `/v1/instances/${id}`)).toBe('409 PROTECTED');
  await tenant.call('PATCH', `/v1/instances/${id}`, { deleteProtection: false });
  await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
  const data = takes[0]?.id ?? '';
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${data}`);
  await tenant.done('POST', `/v1/volumes/${data}/actions/expunge`, {});
});

test('a root volume that is kept is only let go of', async () => {
  const { id, rootVolumeId } = await instance({ rootVolume: { keepOnDelete: true } });
  const { takes } = await plan('instances', id);
  expect(takes.find(({ kind }) => kind === 'volume')).toMatchObject({ id: rootVolumeId, by: 'detach' });
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${rootVolumeId}`);
  await tenant.done('POST', `/v1/volumes/${rootVolumeId}/actions/expunge`, {});
});

test('what blocks is what the delete is refused for', async () => {
  const { deletable, blockers, takes } = await plan('networks', cloud.network.id);
  expect([deletable, [...new Set(kindsOf(takes))].sort()]).toEqual([false, ['network', 'subnet']]);
  const problem = (await (
    await tenant.raw('DELETE', `/v1/networks/${cloud.network.id}`, null)
  ).json()) as ApiProblem & { blockers: { id: string }[] };
  expect(problem.code).toBe('HAS_DEPENDENTS');
  expect(problem.blockers.length).toBeGreaterThan(0);
  // What a cascade would take is in the way of a plain delete.
  const inTheWay = [...blockers, ...takes.filter(({ by }) => by === 'cascade')];
  expect(inTheWay.map(({ id }) => id)).toEqual(expect.arrayContaining(problem.blockers.map(({ id }) => id)));
  expect(kindsOf((await plan('projects', cloud.project.id, admin)).takes)).toContain('network');
});

test('a cascade goes from the leaves up', async () => {
  const account = await admin.call('POST', '/v1/accounts', {
    name: `planned-${crypto.randomUUID()}`,
    domainId: String((await admin.call('GET', `/v1/accounts/${cloud.account.id}`)).domainId),
  });
  const user = await admin.call('POST', '/v1/users', { name: 'u', userName: 'u', accountId: account.id });
  await admin.call('POST', '/v1/api-keys', { name: 'k', userId: user.id });
  await admin.call('POST', '/v1/projects', { name: 'further', accountId: account.id });
  const { deletable, takes, blockers } = await plan('accounts', account.id, admin);
  expect([deletable, blockers]).toEqual([false, []]);
  const order = takes.map(({ kind, by }) => `${kind} ${by}`);
  expect([...order].sort()).toEqual([
    'account target',
    'apiKey own',
    'project cascade',
    // The default one.
    'project own',
    'user cascade',
  ]);
  expect(order.indexOf('apiKey own')).toBeLessThan(order.indexOf('user cascade'));
  expect(order.at(-1)).toBe('account target');
});

test('a cascade that is neither asked for nor not is refused, and deletes nothing', async () => {
  const { id } = await make(tenant, 'networks', { name: 'stays', zoneId: cloud.zone.id });
  for (const parameter of ['cascade', 'expunge'])
    expect(await refusal('DELETE', `/v1/networks/${id}?${parameter}=maybe`)).toBe('422 INVALID_ARGUMENT');
  expect(await tenant.call('GET', `/v1/networks/${id}`)).toMatchObject({ state: 'ready' });
  await tenant.done('DELETE', `/v1/networks/${id}?cascade=false`);
});

test('host and instance tell what they use', async () => {
  const { id } = await instance();
  const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
  const used = await tenant.call('GET', `/v1/instances/${id}/views/metrics`);
  expect(used).toEqual({
    measuredAt: expect.any(String),
    cpuSeconds: expect.any(Number),
    memoryBytes: Number(cloud.instanceType.memoryMib) * 2 ** 20,
    diskReadBytes: expect.any(Number),
    diskWrittenBytes: expect.any(Number),
    diskReadOperations: expect.any(Number),
    diskWriteOperations: expect.any(Number),
    networkReceivedBytes: expect.any(Number),
    networkSentBytes: expect.any(Number),
  });
  const host = await admin.call('GET', `/v1/hosts/${hostId}/views/metrics`);
  expect(host).toMatchObject({ cpuCount: expect.any(Number), memoryTotalBytes: expect.any(Number) });
  expect(Object.keys(host)).not.toContain('domains');
  expect(await refusal('GET', `/v1/hosts/${hostId}/views/metrics`)).toBe('404 NOT_FOUND');
  expect(await refusal('GET', `/v1/instances/${id}/views/metrics?colour=red`)).toBe('422 INVALID_ARGUMENT');
  expect(await refusal('GET', `/v1/instances/${id}/views/colours`)).toBe('404 NOT_FOUND');
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  expect(await refusal('GET', `/v1/instances/${id}/views/metrics`)).toBe('409 INVALID_STATE');
  await removeInstance(id);
});

test('a view needs its permission', async () => {
  const { id } = cloud.instanceType;
  // Seen by everybody, deleted by operators only.
  expect(await refusal('GET', `/v1/instance-types/${id}/views/deletePlan`)).toBe('403 FORBIDDEN');
  expect((await plan('instance-types', id, admin)).takes.at(-1)).toMatchObject({ id, by: 'target' });
});
