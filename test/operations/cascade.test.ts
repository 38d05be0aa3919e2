/** A delete with all that hangs on it: refused whole, undone whole until its point of no return, and nothing is left of it afterwards. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, refusal } from '../support/operations.ts';
import { peopleOf } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';
import { setRules } from '../support/rollback.ts';
import { destroyed, firstVpc, plant, removed, type Tree } from '../support/tree.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const until = follower(admin);
const { newAccount, person } = peopleOf(admin);
const zoneId = cloud.zone.id;

const path = ({ project }: Tree, query = '?cascade=true&expunge=true'): string => `/v1/projects/${project.id}${query}`;
const remove = (tree: Tree): Promise<OperationView> => admin.call('DELETE', path(tree));
const told = async (plural: string, id: string): Promise<Resource> => admin.call('GET', `/v1/${plural}/${id}`);

let letGo: () => Promise<void> = async () => {};
/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await deploy('first')).id);
  await firstVpc(cloud);
});
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});

/** What is undone is there for the next test, as it was. */
let standing: Tree | undefined;
/** The world before it was planted, and with it. */
let before: unknown;
let planted: unknown;
afterAll(async () => {
  if (standing) await admin.done('DELETE', path(standing));
});
async function theTree(): Promise<Tree> {
  if (standing) return standing;
  before = await picture();
  standing = await plant(admin, cloud);
  planted = await picture();
  return standing;
}
async function isAsPlanted(): Promise<void> {
  expect(changes(planted, await picture())).toEqual([]);
  expect(await wrong()).toEqual([]);
}
async function isGone(): Promise<void> {
  standing = undefined;
  expect(changes(before, await picture())).toEqual([]);
  expect(await wrong()).toEqual([]);
}

test('a project goes with everything in it, the leaves first, and nothing of it is left anywhere', async () => {
  const tree = await theTree();
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
    ['securityGroup.delete', 'addressGroup.delete'],
    ['network.delete', 'firewallPolicy.delete'],
    ['firewallPolicy.delete', 'addressGroup.delete'],
    ['listener.delete', 'loadBalancer.delete'],
    ['listener.delete', 'targetGroup.delete'],
    ['loadBalancer.delete', 'subnet.delete'],
    ['targetGroup.delete', 'vpc.delete'],
    ['network.delete', 'vpc.delete'],
  ] as const)
    expect([first, last(first) < order.indexOf(then)]).toEqual([first, true]);
  expect(await refusal(told('projects', tree.project.id))).toBe('404 NOT_FOUND');
  await isGone();
});

test('what is in the way, or may not be done, refuses the whole before anything is touched', async () => {
  const tree = await theTree();
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
  await isAsPlanted();
});

test.each(destroyed)('a %s that fails takes everything back that was done before it', async (type) => {
  const tree = await theTree();
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
  await isAsPlanted();
});

test.each(destroyed)('a %s that can not be begun takes everything back that was done before it', async (step) => {
  const tree = await theTree();
  await setRules(admin, [{ operationType: 'project.cascade', step, fault: 'failBefore' }]);
  const ended = await admin.settled((await remove(tree)).id);
  expect([ended.state, ended.error?.code, ended.error?.step]).toEqual(['failed', 'INTERNAL', step]);
  await setRules(admin, []);
  await isAsPlanted();
});

test('children that are begun twice, before and after the point of no return, are one each; those after it are begun again when that fails', async () => {
  const operationType = 'project.cascade';
  for (const rules of [
    [...destroyed, ...removed].map((step) => ({ operationType, step, fault: 'twice' as const })),
    removed.map((step) => ({ operationType, step, fault: 'failBefore' as const, times: 1 })),
  ]) {
    const tree = await theTree();
    await setRules(admin, rules);
    const ended = await admin.settled((await remove(tree)).id);
    expect([ended.state, ended.error]).toEqual(['succeeded', null]);
    await setRules(admin, []);
    const children = ended.steps.flatMap((step) => ('operationId' in step ? [String(step.operationId)] : []));
    expect(new Set(children).size).toBe(children.length);
    const { items } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${ended.id}"`)}&pageSize=500`,
    );
    expect(items.map(({ id, state }) => [id, state]).sort()).toEqual(children.map((id) => [id, 'succeeded']).sort());
    await isGone();
  }
});

test('while it runs nobody else changes what goes, or makes anything there', async () => {
  const tree = await theTree();
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
  await isGone();
});

test.each([
  ['before', 'domain.ensureAbsent', 'instance.stop', 'failed'],
  ['after', 'rbd.ensureSnapshotAbsent', 'snapshot.delete', 'succeeded'],
])(
  'whoever loses all rights %s the point of no return begins nothing more; what has begun is undone, or finished',
  async (_, call, step, state) => {
    // An account of its own, as it is locked.
    const { account } = await newAccount('leaver');
    const { key, user, api } = await person('leaver', account.id, 'accountOwner', ['account', account.id]);
    const empty = await picture();
    const tree = await plant(admin, cloud, account.id);
    const planted = await picture();
    letGo = await hold(address.simulatorUrl, call);
    const { id } = await api.call<OperationView>('DELETE', path(tree));
    await until(id, ({ steps }) => steps.some(({ name }) => name === step));
    await admin.call('PATCH', `/v1/api-keys/${key.id}`, { enabled: false });
    await admin.call('POST', `/v1/accounts/${account.id}/actions/lock`);
    await letGo();
    const ended = await admin.settled(id);
    await admin.call('POST', `/v1/accounts/${account.id}/actions/unlock`);
    expect([ended.state, ended.error?.code ?? null]).toEqual([state, state === 'failed' ? 'FORBIDDEN' : null]);
    const { items } = await admin.call<{ items: { actorUserId: string }[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${id}"`)}&pageSize=500`,
    );
    expect(new Set(items.map(({ actorUserId }) => actorUserId))).toEqual(new Set([user.id]));
    if (state === 'failed') {
      expect(ended.error?.step).not.toBe('instance.stop');
      expect(changes(planted, await picture())).toEqual([]);
      await admin.done('DELETE', path(tree));
    }
    expect(changes(empty, await picture())).toEqual([]);
    expect(await wrong()).toEqual([]);
  },
);

test('a cancel before the point of no return takes everything back', async () => {
  const tree = await theTree();
  letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  const { id } = await remove(tree);
  await until(id, ({ steps }) => steps.some(({ name }) => name === 'instance.stop'));
  const cancelling = admin.call('POST', `/v1/operations/${id}/actions/cancel`);
  await letGo();
  await cancelling;
  expect((await admin.settled(id)).state).toBe('cancelled');
  await isAsPlanted();
});

test.each(['cascades.plan', 'instance.stop', 'volume.detach', 'instance.delete', 'volume.delete'])(
  'a cancel that comes while %s ends takes everything back, or comes too late',
  async (name) => {
    const tree = await theTree();
    const { id } = await remove(tree);
    await until(id, ({ steps }) => steps.some((step) => step.name === name));
    const answer = await refusal(admin.call('POST', `/v1/operations/${id}/actions/cancel`));
    expect(['accepted', '409 CANCEL_TOO_LATE']).toContain(answer);
    const { state } = await admin.settled(id);
    expect(state).toBe(answer === 'accepted' ? 'cancelled' : 'succeeded');
    await (state === 'cancelled' ? isAsPlanted() : isGone());
  },
);

test('what has a recovery window is freed at once when only that is asked, and what it keeps by itself goes along', async () => {
  const empty = await picture();
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
  expect(changes(empty, await picture())).toEqual([]);
});

test('who comes later to what a child uses beside what goes waits behind the whole, and a stop by force does not make it fail', async () => {
  const empty = await picture();
  const { id } = await deploy('in line', { dataVolumes: [{ sizeGib: 1 }] });
  const { items } = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/volumes?filter=${encodeURIComponent(`instanceId = "${id}" AND role = "data"`)}`,
  );
  letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  const { tenant } = cloud;
  const whole = await tenant.call<OperationView>('DELETE', `/v1/instances/${id}?expunge=true`);
  await until(whole.id, ({ steps }) => steps.some(({ name }) => name === 'instance.stop'));
  const later = await Promise.all([
    tenant.call<OperationView>('POST', `/v1/volumes/${items[0]?.id}/actions/detach`),
    tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' }),
    tenant.call<OperationView>('POST', `/v1/volumes/${items[0]?.id}/actions/resize`, { sizeGib: 2 }),
  ]);
  await letGo();
  expect(await admin.settled(whole.id)).toMatchObject({ state: 'succeeded', error: null });
  for (const one of later) expect((await admin.settled(one.id)).state).toBe('failed');
  for (const volume of items) await tenant.done('DELETE', `/v1/volumes/${volume.id}?expunge=true`);
  expect(changes(empty, await picture())).toEqual([]);
});

test('what may never go refuses the whole, and not when all else is gone', async () => {
  const { account, project } = await newAccount('default');
  const volume = await make(admin, 'volumes', {
    name: 'stays',
    zoneId,
    volumeTypeId: cloud.volumeTypes[0]?.id,
    sizeGib: 1,
    projectId: project.id,
  });
  const whole = '?cascade=true&expunge=true';
  expect(await refusal(admin.call('DELETE', `/v1/projects/${project.id}${whole}`))).toBe('409 INVALID_STATE');
  expect((await told('volumes', volume.id)).state).toBe('ready');
  const role = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/roles?pageSize=1&filter=${encodeURIComponent('builtIn = true')}`,
  );
  expect(await refusal(admin.call('DELETE', `/v1/roles/${role.items[0]?.id}?cascade=true`))).toMatch(
    /^409 (PROTECTED|HAS_DEPENDENTS)$/,
  );
  await admin.done('DELETE', `/v1/accounts/${account.id}${whole}`);
});

test('while an account goes nothing is made in it, and who asked for it follows it', async () => {
  const { account } = await newAccount('going');
  const { api } = await person('going', account.id, 'accountOwner', ['account', account.id]);
  const other = await newAccount('other');
  const tree = await plant(admin, cloud, other.account.id);
  const project = await api.call('POST', '/v1/projects', { name: 'p', accountId: account.id });
  letGo = await hold(address.simulatorUrl, 'domain.ensureAbsent');
  const whole = await admin.call<OperationView>('DELETE', `/v1/accounts/${other.account.id}?cascade=true&expunge=true`);
  await until(whole.id, ({ steps }) => steps.some(({ name }) => name === 'instance.stop'));
  const late = { name: 'late', accountId: other.account.id };
  expect(await refusal(admin.call('POST', '/v1/projects', late))).toBe('409 RESOURCE_BUSY');
  await letGo();
  expect((await admin.settled(whole.id)).error).toBe(null);
  expect(await refusal(admin.call('GET', `/v1/projects/${tree.project.id}`))).toBe('404 NOT_FOUND');
  const own = await api.call<OperationView>('DELETE', `/v1/projects/${project.id}?cascade=true`);
  expect((await api.settled(own.id)).state).toBe('succeeded');
});

test('a project that can not go any further is stuck, and goes on when it is asked to', async () => {
  const { account } = await newAccount('stuck');
  const project = await admin.call('POST', '/v1/projects', { name: 'p', accountId: account.id });
  await setRules(admin, [{ operationType: 'project.cascade', step: 'project.delete', fault: 'failBefore' }]);
  const { id } = await admin.call<OperationView>('DELETE', `/v1/projects/${project.id}?cascade=true`);
  await until(id, ({ state }) => state === 'stuck');
  await setRules(admin, []);
  await admin.call('POST', `/v1/operations/${id}/actions/retry`, {});
  expect((await admin.settled(id)).state).toBe('succeeded');
  await admin.call('DELETE', `/v1/accounts/${account.id}`);
});

test('a root volume that its instance would leave behind goes with the project', async () => {
  const tree = await theTree();
  const subnets = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/subnets?filter=${encodeURIComponent(`networkId = "${tree.network.id}"`)}`,
  );
  await make(
    admin,
    'instances',
    instanceBody(cloud, 'keeps its root', {
      projectId: tree.project.id,
      networkInterfaces: [{ subnetId: subnets.items[0]?.id }],
      rootVolume: { keepOnDelete: true },
    }),
  );
  const ended = await admin.settled((await remove(tree)).id);
  expect([ended.state, ended.error]).toEqual(['succeeded', null]);
  standing = undefined;
  expect(await refusal(told('projects', tree.project.id))).toBe('404 NOT_FOUND');
  expect(await wrong()).toEqual([]);
});

test('hundreds of one sort go along', async () => {
  const project = await admin.call('POST', '/v1/projects', { name: crypto.randomUUID(), accountId: cloud.account.id });
  const client = await openClient(address.databaseUrl);
  const add = (count: number): Promise<unknown> =>
    client.query(
      `INSERT INTO "keyPair" (id, "projectId", name, "publicKey", fingerprint)
       SELECT id, $1, id, 'ssh-ed25519 x', id FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $2)) new`,
      [project.id, count],
    );
  const plan = (): Promise<{ locks: unknown[] }> =>
    admin.call('DELETE', `/v1/projects/${project.id}?cascade=true&expunge=true&dryRun=true`);
  await add(900);
  expect((await plan()).locks).toHaveLength(901);
  await add(100);
  expect(await refusal(plan())).toBe('409 NOT_SUPPORTED');
  await client.query('DELETE FROM "keyPair" WHERE "projectId" = $1', [project.id]);
  // What is destroyed first and freed then is more work.
  const volumeTypeId = cloud.volumeTypes[0]?.id;
  const one = await make(cloud.tenant, 'volumes', { name: 'one', zoneId: cloud.zone.id, volumeTypeId, sizeGib: 1 });
  const volumes = (count: number): Promise<unknown> =>
    client.query(
      `INSERT INTO "volume" SELECT (jsonb_populate_record(v, jsonb_build_object('id', gen_random_uuid(), 'name', n::text, 'projectId', $1::uuid))).*
       FROM "volume" v, generate_series(1, $2) n WHERE v.id = $3`,
      [project.id, count, one.id],
    );
  await volumes(750);
  expect((await plan()).locks).toHaveLength(751);
  await volumes(50);
  expect(await refusal(plan())).toBe('409 NOT_SUPPORTED');
  await client.query('DELETE FROM "volume" WHERE "projectId" = $1', [project.id]);
  await client.end();
  await cloud.tenant.done('DELETE', `/v1/volumes/${one.id}?expunge=true`);
  await admin.call('DELETE', `/v1/projects/${project.id}`);
});
