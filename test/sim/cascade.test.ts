/** A delete with all that hangs on it: refused whole, undone whole until its point of no return, and nothing is left of it afterwards. */
import { afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, refusal } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const until = follower(admin);
const zoneId = cloud.zone.id;
const volumeTypeId = cloud.volumeTypes[0]?.id;

/** A project of its own with one of everything in it. */
interface Tree {
  project: Resource;
  running: Resource;
  destroyed: Resource;
  volume: Resource;
  loose: Resource;
  network: Resource;
}

async function plant(): Promise<Tree> {
  const project = await admin.call('POST', '/v1/projects', { name: crypto.randomUUID(), accountId: cloud.account.id });
  const { id: projectId } = project;
  const network = await make(admin, 'networks', { name: 'n', zoneId, projectId });
  const subnet = await make(admin, 'subnets', { name: 's', networkId: network.id, cidr: '10.9.0.0/24' });
  const group = await make(admin, 'security-groups', { name: 'g', zoneId, projectId, rules: [] });
  const inIt = (name: string): Promise<Resource> =>
    make(
      admin,
      'instances',
      instanceBody(cloud, name, {
        projectId,
        networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [group.id] }],
      }),
    );
  const [running, destroyed] = await Promise.all([inIt('running'), inIt('destroyed')]);
  await admin.done('DELETE', `/v1/instances/${destroyed.id}`);
  const volumeOf = (name: string): Promise<Resource> =>
    make(admin, 'volumes', { name, zoneId, volumeTypeId, sizeGib: 1, projectId });
  const [volume, loose] = await Promise.all([volumeOf('attached'), volumeOf('loose')]);
  await admin.done('POST', `/v1/volumes/${volume.id}/actions/attach`, { instanceId: running.id });
  await make(admin, 'snapshots', { name: 'of the disk', volumeId: volume.id });
  await admin.call('POST', '/v1/key-pairs', {
    name: 'k',
    projectId,
    publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key',
  });
  return { project, running, destroyed, volume, loose, network };
}

const path = ({ project }: Tree, query = '?cascade=true&expunge=true'): string => `/v1/projects/${project.id}${query}`;
const remove = (tree: Tree): Promise<OperationView> => admin.call('DELETE', path(tree));
const told = async (plural: string, id: string): Promise<Resource> => admin.call('GET', `/v1/${plural}/${id}`);

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => removeInstance((await deploy('first')).id));

let before: unknown;
let letGo: () => Promise<void> = async () => {};
beforeEach(async () => {
  before = await picture();
});
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});

test('a project goes with everything in it, the leaves first, and nothing of it is left anywhere', async () => {
  const tree = await plant();
  const ended = await admin.settled((await remove(tree)).id);
  expect([ended.type, ended.state, ended.error]).toEqual(['project.cascade', 'succeeded', null]);
  const order = ended.steps.map(({ name }) => name);
  const last = (name: string): number => order.lastIndexOf(name);
  expect(order[0]).toBe('cascades.plan');
  expect(order.slice(1, 5)).toEqual(['instance.stop', 'volume.detach', 'instance.delete', 'volume.delete']);
  expect(order.at(-1)).toBe('project.delete');
  for (const [first, then] of [
    ['snapshot.delete', 'volume.expunge'],
    ['instance.expunge', 'subnet.delete'],
    ['instance.expunge', 'securityGroup.delete'],
    ['subnet.delete', 'network.delete'],
  ] as const)
    expect([first, last(first) < order.indexOf(then)]).toEqual([first, true]);
  expect(await refusal(told('projects', tree.project.id))).toBe('404 NOT_FOUND');
  expect(await picture()).toEqual(before);
  expect(await wrong()).toEqual([]);
});

test('what is in the way, or may not be done, refuses the whole before anything is touched', async () => {
  const tree = await plant();
  const planted = await picture();
  const refused = (query?: string): Promise<string> => refusal(admin.call('DELETE', path(tree, query)));
  expect(await refused('')).toBe('409 HAS_DEPENDENTS');
  expect(await refused('?expunge=true')).toBe('409 HAS_DEPENDENTS');
  expect(await refused('?cascade=true')).toBe('422 INVALID_ARGUMENT');
  await admin.call('PATCH', `/v1/volumes/${tree.loose.id}`, { deleteProtection: true });
  expect(await refused()).toBe('409 PROTECTED');
  await admin.call('PATCH', `/v1/volumes/${tree.loose.id}`, { deleteProtection: false });
  // A tenant of the project may delete what is in it, but not the project.
  expect(await refusal(cloud.tenant.call('DELETE', path(tree)))).toMatch(/^40[34] /);
  expect(await refusal(admin.call('DELETE', `/v1/volumes/${tree.volume.id}?cascade=true&expunge=true`))).toBe(
    '409 ALREADY_ATTACHED',
  );
  const plan = await admin.call<{ locks: unknown[] }>('DELETE', path(tree, '?cascade=true&expunge=true&dryRun=true'));
  expect(plan.locks.length).toBeGreaterThan(10);
  // Hosts do not go along with what they stand in.
  const zone = await refusal(admin.call('DELETE', `/v1/zones/${zoneId}?cascade=true`));
  expect(zone).toBe('409 HAS_DEPENDENTS');
  expect(await picture()).toEqual(planted);
  await admin.done('DELETE', path(tree));
  expect(await picture()).toEqual(before);
});

test.each(['instance.stop', 'volume.detach', 'instance.delete', 'volume.delete'])(
  'a %s that fails takes everything back that was done before it',
  async (type) => {
    const tree = await plant();
    const planted = await picture();
    const steps: Record<string, string> = {
      'instance.stop': 'hypervisor.shutDown',
      'volume.detach': 'volumeRecords.freeSlot',
      'instance.delete': 'networkInterfaces.unplug',
      'volume.delete': 'volumes.trash',
    };
    await setRules(admin, [{ operationType: type, step: steps[type] ?? '', fault: 'failAfter' }]);
    const ended = await admin.settled((await remove(tree)).id);
    expect([ended.state, ended.error?.code, ended.error?.step]).toEqual(['failed', 'INTERNAL', type]);
    await setRules(admin, []);
    expect(await picture()).toEqual(planted);
    expect(await wrong()).toEqual([]);
    await admin.done('DELETE', path(tree));
    expect(await picture()).toEqual(before);
  },
);

test('while it runs nobody else changes what goes, or makes anything there', async () => {
  const tree = await plant();
  letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  const { id } = await remove(tree);
  const parent = await until(id, ({ steps }) => steps.some(({ name }) => name === 'instance.stop'));
  expect(parent.state).toBe('running');
  const projectId = tree.project.id;
  expect(await refusal(admin.call('POST', '/v1/networks', { name: 'late', zoneId, projectId }))).toBe(
    '409 RESOURCE_BUSY',
  );
  expect(await refusal(admin.call('PATCH', `/v1/projects/${projectId}`, { description: 'late' }))).toBe(
    '409 RESOURCE_BUSY',
  );
  const waiting = await admin.call<OperationView>('POST', `/v1/volumes/${tree.loose.id}/actions/resize`, {
    sizeGib: 2,
  });
  expect(waiting.state).toBe('queued');
  await letGo();
  expect((await admin.settled(id)).state).toBe('succeeded');
  expect((await admin.settled(waiting.id)).error?.code).toBe('NOT_FOUND');
  expect(await picture()).toEqual(before);
});

test('a cancel before the point of no return takes everything back', async () => {
  const tree = await plant();
  const planted = await picture();
  letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  const { id } = await remove(tree);
  await until(id, ({ steps }) => steps.some(({ name }) => name === 'instance.stop'));
  const cancelling = admin.call('POST', `/v1/operations/${id}/actions/cancel`);
  await letGo();
  await cancelling;
  expect((await admin.settled(id)).state).toBe('cancelled');
  expect(await picture()).toEqual(planted);
  await admin.done('DELETE', path(tree));
  expect(await picture()).toEqual(before);
});

test.each(['cascades.plan', 'instance.stop', 'volume.detach', 'instance.delete', 'volume.delete'])(
  'a cancel that comes while %s ends takes everything back, or comes too late',
  async (name) => {
    const tree = await plant();
    const planted = await picture();
    const { id } = await remove(tree);
    await until(id, ({ steps }) => steps.some((step) => step.name === name));
    const answer = await refusal(admin.call('POST', `/v1/operations/${id}/actions/cancel`));
    expect(['accepted', '409 CANCEL_TOO_LATE']).toContain(answer);
    const { state } = await admin.settled(id);
    expect(state).toBe(answer === 'accepted' ? 'cancelled' : 'succeeded');
    expect(await picture()).toEqual(state === 'cancelled' ? planted : before);
    if (state === 'cancelled') await admin.done('DELETE', path(tree));
    expect(await picture()).toEqual(before);
  },
);

test('what has a recovery window is freed at once when only that is asked, and what it keeps by itself goes along', async () => {
  const { id } = await deploy('at once', { dataVolumes: [{ sizeGib: 1 }] });
  const { items } = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/volumes?filter=${encodeURIComponent(`instanceId = "${id}" AND role = "data"`)}`,
  );
  const ended = await cloud.tenant.done('DELETE', `/v1/instances/${id}?expunge=true`);
  expect(ended.steps.map(({ name }) => name)).toEqual([
    'cascades.plan',
    'instance.stop',
    'instance.delete',
    'instance.expunge',
  ]);
  for (const volume of items) await cloud.tenant.done('DELETE', `/v1/volumes/${volume.id}?expunge=true`);
  expect(items).toHaveLength(1);
  expect(await picture()).toEqual(before);
});
