/** The hosts of a cluster are emptied, worked on and used again, some at a time, and what runs there runs on. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { closed } from '../support/closed.ts';
import { joinCloud } from '../support/cloud.ts';
import { detecting } from '../support/detection.ts';
import { hold } from '../support/hold.ts';
import { follower, refusal, untilSeen } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';

const address = inject('cloud');
const { admin, cloud, wrong, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const { cluster: newCluster, suffer, list } = detecting(admin, address.simulatorUrl);
const until = follower(admin);

interface Waiting extends OperationView {
  input: unknown;
  waitsFor: string | null;
}
interface Result {
  succeeded: number;
  left: string[];
  skipped: { hostName: string; reason: string }[];
}
interface Plan {
  warnings: string[];
  plan: { hosts: Resource[]; moves: { instanceId: string; toHostId: string | null; missing: string | null }[] };
}

let cluster: Resource;
let hosts: Resource[] = [];
let volumeTypeId = '';
const id = (index: number): string => String(hosts[index]?.id);
const hostNow = (index: number): Promise<Resource> => admin.call('GET', `/v1/hosts/${id(index)}`);
const instanceNow = (of: string): Promise<Resource> => admin.call('GET', `/v1/instances/${of}`);
const ask = (body: unknown = {}, query = ''): Promise<OperationView> =>
  admin.call('POST', `/v1/clusters/${cluster.id}/actions/rollingMaintenance${query}`, body);
const roll = async (body: unknown = {}): Promise<OperationView> => admin.settled((await ask(body)).id);
const plan = async (body: unknown = {}): Promise<Plan> => (await ask(body, '?dryRun=true')) as unknown as Plan;
const resultOf = ({ result }: OperationView): Result => result as Result;
const childrenOf = (of: { id: string }): Promise<Waiting[]> =>
  list<Waiting>('operations', `parentOperationId = "${of.id}"`).then((found) => found.reverse());
const goOn = (of: { id: string }): Promise<OperationView> =>
  admin.call('POST', `/v1/operations/${of.id}/actions/continue`);

const made = new Set<string>();
async function onHost(index: number, name: string): Promise<string> {
  const body = {
    ...instanceBody(cloud, name),
    projectId: cloud.project.id,
    requestedHostId: id(index),
    rootVolume: { volumeTypeId },
  };
  const { targetId } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  made.add(targetId);
  return targetId;
}

const restore: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  ({ cluster, hosts } = await newCluster('rolling', cloud.zone.id, ['host-200', 'host-201', 'host-202']));
  await admin.call('PATCH', `/v1/clusters/${cluster.id}`, {
    ha: { enabled: true, requireFence: true, suspectSeconds: 3600 },
  });
  await make(admin, 'storage-pools', {
    name: 'rolling',
    pool: 'rolling',
    storageClass: 'rolling',
    replicas: 1,
    failureDomain: 'osd',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cluster.id],
    overprovision: 100,
  });
  volumeTypeId = (
    await admin.call('POST', '/v1/volume-types', { name: 'rolling', storageClass: 'rolling', visibility: 'public' })
  ).id;
});
afterEach(async () => {
  for (const again of restore.splice(0).reverse()) await again();
  await setRules(admin, []);
  for (const index of hosts.keys()) {
    const host = await untilSeen(
      () => hostNow(index),
      ({ currentOperationId }) => !currentOperationId,
    );
    if (host.state === 'maintenance') await admin.done('POST', `/v1/hosts/${id(index)}/actions/exitMaintenance`, {});
  }
  await Promise.all([...made].map(removeInstance));
  made.clear();
  expect(await wrong()).toEqual([]);
});
afterAll(async () => {
  for (const index of hosts.keys()) await admin.done('DELETE', `/v1/hosts/${id(index)}`);
});

test('each host is emptied, started anew and used again in its order, and the instances run on', async () => {
  const ids = [await onHost(0, 'zero'), await onHost(1, 'one'), await onHost(2, 'two')];
  const order = [id(2), id(0), id(1)];
  const rolled = await roll({ order, hook: 'reboot', moveBack: true, reason: 'a new kernel' });
  expect(rolled).toMatchObject({ state: 'succeeded', result: { succeeded: 3, left: [], failed: [], skipped: [] } });
  const parts = await childrenOf(rolled);
  expect(parts.map(({ type, targetId }) => [type, targetId])).toEqual(order.map((one) => ['host.maintain', one]));
  for (const part of parts) {
    expect(part.steps.map(({ name }) => name)).toEqual([
      'hosts.readBoot',
      'host.enterMaintenance',
      'hosts.reboot',
      'host.exitMaintenance',
    ]);
  }
  // One at a time: the second began when the first had ended.
  expect(Date.parse(String(parts[1]?.startedAt))).toBeGreaterThanOrEqual(Date.parse(String(parts[0]?.endedAt)));
  for (const [index, one] of ids.entries())
    expect(await instanceNow(one)).toMatchObject({ state: 'running', hostId: id(index) });
  for (const index of hosts.keys()) expect(await hostNow(index)).toMatchObject({ state: 'active' });
});

test('it waits for a person where it is told to, says for what, and goes on when that is said to be done', async () => {
  const { id: rolling } = await ask({ order: [id(0), id(1)], hook: 'wait' });
  const waiting = (await until(rolling, (seen) => (seen as Waiting).waitsFor !== null)) as Waiting;
  const [first] = await childrenOf(waiting);
  expect(first?.waitsFor).toBe(
    `host ${id(0)} is empty: work on it, and say when that is done, by belay operations continue ${first?.id}`,
  );
  expect(waiting.waitsFor).toBe(`operation ${first?.id}: ${first?.waitsFor}`);
  expect(await hostNow(0)).toMatchObject({ state: 'maintenance', currentOperationId: null });
  // Whoever works on it may do so through the platform.
  expect((await admin.done('POST', `/v1/hosts/${id(0)}/actions/connect`, {})).state).toBe('succeeded');
  await expect(goOn({ id: rolling })).rejects.toMatchObject({
    problem: { status: 409, code: 'INVALID_STATE', resource: { kind: 'operation', id: first?.id } },
  });
  expect(await refusal(tenant.call('POST', `/v1/operations/${first?.id}/actions/continue`))).toMatch(/^40[34] /);
  const answers = await Promise.all([goOn(first ?? waiting), goOn(first ?? waiting)].map(refusal));
  expect(answers.filter((answer) => answer === 'accepted').length).toBeGreaterThan(0);
  expect(await admin.settled(String(first?.id))).toMatchObject({ state: 'succeeded', waitsFor: null });
  expect(await refusal(goOn(first ?? waiting))).toBe('409 INVALID_STATE');
  const [, second] = await untilSeen(
    () => childrenOf(waiting),
    ([, next]) => next?.waitsFor !== undefined && next.waitsFor !== null,
  );
  await goOn(second ?? waiting);
  expect(await admin.settled(rolling)).toMatchObject({ state: 'succeeded', waitsFor: null });
});

test('a person who takes the host back into use by hand is not asked to do it again', async () => {
  const { id: rolling } = await ask({ order: [id(0)], hook: 'wait' });
  await until(rolling, (seen) => (seen as Waiting).waitsFor !== null);
  const [part] = await childrenOf({ id: rolling });
  await admin.done('POST', `/v1/hosts/${id(0)}/actions/exitMaintenance`, {});
  await goOn(part ?? { id: rolling });
  expect((await admin.settled(rolling)).state).toBe('succeeded');
  expect(await hostNow(0)).toMatchObject({ state: 'active' });
});

test('a host that somebody else has put into maintenance meanwhile stays there', async () => {
  const { id: rolling } = await ask({ order: [id(0)], hook: 'wait' });
  await until(rolling, (seen) => (seen as Waiting).waitsFor !== null);
  const [part] = await childrenOf({ id: rolling });
  await admin.done('POST', `/v1/hosts/${id(0)}/actions/exitMaintenance`, {});
  await admin.done('POST', `/v1/hosts/${id(0)}/actions/enterMaintenance`, {});
  await goOn(part ?? { id: rolling });
  expect((await admin.settled(rolling)).state).toBe('succeeded');
  expect(await hostNow(0)).toMatchObject({ state: 'maintenance' });
});

test('a cancel in the middle leaves those that are done done, and brings the one under way back into use', async () => {
  const [, one] = [await onHost(0, 'zero'), await onHost(1, 'one')];
  const { id: rolling } = await ask({ order: [id(0), id(1), id(2)], hook: 'wait' });
  const [first] = await untilSeen(
    () => childrenOf({ id: rolling }),
    ([part]) => part?.waitsFor != null,
  );
  await goOn(first ?? { id: rolling });
  await untilSeen(
    () => childrenOf({ id: rolling }),
    ([, part]) => part?.waitsFor != null,
  );
  await admin.call('POST', `/v1/operations/${rolling}/actions/cancel`);
  expect(await admin.settled(rolling)).toMatchObject({ state: 'cancelled', waitsFor: null });
  expect((await childrenOf({ id: rolling })).map(({ state }) => state)).toEqual(['succeeded', 'cancelled']);
  for (const index of [0, 1, 2]) expect(await hostNow(index)).toMatchObject({ state: 'active' });
  expect((await instanceNow(one)).state).toBe('running');
  // It goes on with those that are left.
  expect((await plan({ goesOn: true })).plan.hosts.map((host) => host.id)).toEqual([id(1), id(2)]);
  const { id: next } = await ask({ goesOn: true, batchSize: 2 });
  expect(resultOf(await admin.settled(next))).toMatchObject({ succeeded: 2, left: [] });
  expect((await plan({ goesOn: true })).plan.hosts).toHaveLength(3);
});

test('a host that fails stops it, and is told with those that were not begun', async () => {
  await setRules(admin, [{ operationType: 'host.connect', targetId: id(0), step: 'hosts.probe', fault: 'failBefore' }]);
  const failed = await roll({ hook: 'connect' });
  expect(failed).toMatchObject({
    state: 'failed',
    error: {
      code: 'PARTLY_FAILED',
      succeeded: 0,
      notRun: 2,
      failed: [{ targetId: id(0) }],
      left: [id(0), id(1), id(2)],
    },
  });
  expect(await hostNow(0)).toMatchObject({ state: 'active' });
  await setRules(admin, [{ operationType: 'host.connect', targetId: id(0), step: 'hosts.probe', fault: 'failBefore' }]);
  const others = await roll({ hook: 'connect', stopOnFailure: false });
  expect(others).toMatchObject({ state: 'failed', error: { succeeded: 2, notRun: 0, left: [id(0)] } });
});

test('hosts that can not be emptied are left alone, and none at all is refused', async () => {
  await admin.done('POST', `/v1/hosts/${id(0)}/actions/enterMaintenance`, {});
  await suffer(hosts[1], 'partition');
  restore.push(async () => {
    await suffer(hosts[1], 'heal');
    await untilSeen(
      () => hostNow(1),
      ({ connection }) => connection === 'connected',
    );
  });
  await untilSeen(
    () => hostNow(1),
    ({ connection }) => connection === 'disconnected',
  );
  const { warnings, plan: planned } = await plan();
  expect(planned.hosts.map((host) => host.id)).toEqual([id(2)]);
  expect(warnings).toEqual([
    'host host-200 is left alone: it is maintenance',
    'host host-201 is left alone: it is disconnected',
  ]);
  expect(resultOf(await roll())).toMatchObject({
    succeeded: 1,
    skipped: [{ hostName: 'host-200' }, { hostName: 'host-201' }],
    left: [id(0), id(1)],
  });
  expect(await refusal(ask({ order: [id(0), id(1)] }))).toBe('412 PRECONDITION_FAILED');
});

test('a dry run says where each instance would go, and what is missing for those that could go nowhere', async () => {
  const ids = [await onHost(0, 'goes'), await onHost(0, 'goes too')];
  const { plan: planned, warnings } = await plan();
  expect(warnings).toEqual([]);
  // Those of the first move on when the turn of their new host comes.
  expect(
    planned.moves
      .slice(0, 2)
      .map(({ instanceId }) => instanceId)
      .sort(),
  ).toEqual([...ids].sort());
  for (const { toHostId } of planned.moves) expect([id(0), id(1), id(2)]).toContain(toHostId);
  await closed(admin, [id(1), id(2)], restore);
  const without = await plan({ order: [id(0)] });
  expect(without.plan.moves.map(({ toHostId, missing }) => [toHostId, missing])).toEqual([
    [null, expect.stringMatching(/^no host of the zone has room for/)],
    [null, expect.stringMatching(/are closed to placement/)],
  ]);
  expect(without.warnings).toEqual([
    expect.stringMatching(/^instance goes.* could not leave its host: no host of the zone has room/),
    expect.stringMatching(/could not leave its host/),
  ]);
  const single = (await admin.call('POST', `/v1/hosts/${id(0)}/actions/enterMaintenance?dryRun=true`, {})) as unknown;
  expect(single).toMatchObject({
    plan: { moves: [{ toHostId: null }, { toHostId: null }] },
    warnings: [{}, {}].map(() => expect.any(String)),
  });
  for (const one of ids) expect(await instanceNow(one)).toMatchObject({ state: 'running', hostId: id(0) });
});

test('the last host of a cluster is not emptied while something runs there', async () => {
  const one = await newCluster('alone', cloud.zone.id, ['host-203']);
  const [host] = one.hosts;
  const pool = await make(admin, 'storage-pools', {
    name: 'alone',
    type: 'sharedMount',
    storageClass: 'alone',
    source: { path: '/srv/alone' },
    clusterIds: [one.cluster.id],
  });
  const type = await admin.call('POST', '/v1/volume-types', {
    name: 'alone',
    storageClass: 'alone',
    visibility: 'public',
  });
  const path = `/v1/clusters/${one.cluster.id}/actions/rollingMaintenance`;
  const empty = (await admin.done('POST', path, {})) as OperationView;
  expect(empty.state).toBe('succeeded');
  const body = {
    ...instanceBody(cloud, 'alone'),
    projectId: cloud.project.id,
    requestedHostId: host?.id,
    rootVolume: { volumeTypeId: type.id },
  };
  const { targetId } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  expect(await refusal(admin.call('POST', path, {}))).toBe('412 PRECONDITION_FAILED');
  expect(await refusal(admin.call('POST', `/v1/hosts/${host?.id}/actions/enterMaintenance`, {}))).toBe(
    '412 PRECONDITION_FAILED',
  );
  expect(((await admin.done('POST', path, { instances: 'stop', moveBack: true })) as OperationView).state).toBe(
    'succeeded',
  );
  expect((await instanceNow(targetId)).state).toBe('running');
  await removeInstance(targetId);
  await admin.done('POST', `/v1/storage-pools/${pool.id}/actions/cleanCache`, {});
  await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
  await admin.done('DELETE', `/v1/hosts/${host?.id}`);
});

test('of two at the same moment one is refused, and wrong ones are, too', async () => {
  restore.push(await hold(address.simulatorUrl, 'host.inventory'));
  const answers = await Promise.all(
    [ask(), ask()].map((one) =>
      one.then(
        ({ id: of }) => of,
        (error: Error) => error.message,
      ),
    ),
  );
  const begun = answers.filter((answer) => /^[0-9a-f-]{36}$/.test(answer));
  expect(begun).toHaveLength(1);
  for (const again of restore.splice(0)) await again();
  expect((await admin.settled(String(begun[0]))).state).toBe('succeeded');
  for (const [body, code] of [
    [{ order: [] }, '422 INVALID_ARGUMENT'],
    [{ order: [crypto.randomUUID()] }, '422 INVALID_ARGUMENT'],
    [{ order: [id(0), id(0)] }, '422 INVALID_ARGUMENT'],
    [{ order: [cloud.hosts[0]?.id] }, '422 INVALID_ARGUMENT'],
    [{ batchSize: 0 }, '422 INVALID_ARGUMENT'],
    [{ hook: 'dance' }, '422 INVALID_ARGUMENT'],
    [{ notAfter: 'noon' }, '422 INVALID_ARGUMENT'],
  ] as const)
    expect([body, await refusal(ask(body))]).toEqual([body, code]);
  expect(await refusal(tenant.call('POST', `/v1/clusters/${cluster.id}/actions/rollingMaintenance`, {}))).toMatch(
    /^40[34] /,
  );
});

test('no host is begun that would not be done in time, and those are told', async () => {
  const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
  const late = await roll({ notAfter: inAnHour, secondsPerHost: 7_200 });
  expect(late).toMatchObject({ state: 'succeeded', result: { succeeded: 0, notRun: 3, left: [id(0), id(1), id(2)] } });
  expect(resultOf(await roll({ notAfter: inAnHour, secondsPerHost: 60, goesOn: true }))).toMatchObject({
    succeeded: 3,
    left: [],
  });
});

interface Rebalanced {
  spreadBeforePercent: number;
  spreadAfterPercent: number;
  moves: { instanceId: string; fromHostId: string; toHostId: string }[];
  why: string;
}
const rebalancing = (body: unknown = {}, query = ''): Promise<OperationView> =>
  admin.call('POST', `/v1/clusters/${cluster.id}/actions/rebalance${query}`, body);
const planOf = async (body: unknown = {}): Promise<Rebalanced> =>
  ((await rebalancing(body, '?dryRun=true')) as unknown as { plan: Rebalanced }).plan;

/** All hosts have room for much more than these take, so little is enough to be uneven. */
const evenly = { spreadPercent: 1, maxMoves: 10 };
/** So small that these instances weigh something. */
const weighty = (): Promise<unknown> => {
  restore.push(() =>
    admin.call('PATCH', `/v1/clusters/${cluster.id}`, { reservedHostCapacity: { vcpus: 0, memoryMib: 512 } }),
  );
  return admin.call('PATCH', `/v1/clusters/${cluster.id}`, {
    reservedHostCapacity: { vcpus: 0, memoryMib: 262_144 - 8 * memoryMib },
  });
};
const memoryMib = Number(cloud.instanceType.memoryMib);

test('a cluster is evened out by few moves, which a dry run tells, and one that fails is passed over', async () => {
  await weighty();
  const ids: string[] = [];
  for (let n = 0; n < 4; n++) ids.push(await onHost(0, `crowd-${n}`));
  const planned = await planOf(evenly);
  expect(planned.spreadBeforePercent).toBe(50);
  expect(planned.spreadAfterPercent).toBeLessThan(planned.spreadBeforePercent);
  for (const { instanceId, fromHostId, toHostId } of planned.moves) {
    expect(ids).toContain(instanceId);
    expect([fromHostId, [id(1), id(2)].includes(toHostId)]).toEqual([id(0), true]);
  }
  expect(planned.moves.length).toBe(2);
  for (const one of ids) expect(await instanceNow(one)).toMatchObject({ hostId: id(0) });
  expect((await planOf({ ...evenly, maxMoves: 1 })).why).toBe('no more than 1 moves are made at a time');
  expect((await planOf({ spreadPercent: 60 })).moves).toEqual([]);

  const [unlucky] = planned.moves;
  await setRules(admin, [
    {
      operationType: 'instance.migrate',
      targetId: unlucky?.instanceId ?? '',
      step: 'hypervisor.migrate',
      fault: 'failBefore',
    },
  ]);
  const first = await admin.settled((await rebalancing(evenly)).id);
  expect(first).toMatchObject({
    state: 'succeeded',
    result: { succeeded: 1, failed: [{ targetId: unlucky?.instanceId }], spreadBeforePercent: 50 },
  });
  expect((await instanceNow(String(unlucky?.instanceId))).hostId).toBe(id(0));
  await setRules(admin, []);
  const second = await admin.settled((await rebalancing(evenly)).id);
  expect(second).toMatchObject({ state: 'succeeded', result: { failed: [] } });
  const places = await Promise.all(ids.map(async (one) => (await instanceNow(one)).hostId));
  for (const host of hosts) expect(places.filter((at) => at === host.id).length).toBeGreaterThan(0);
  for (const one of ids) expect((await instanceNow(one)).state).toBe('running');
});

test('what has a volume on the disks of its host alone, and what somebody is at work on, is not moved', async () => {
  await weighty();
  const pool = await make(admin, 'storage-pools', {
    name: 'own disks',
    type: 'local',
    storageClass: 'own-disks',
    hostId: id(0),
    source: { path: '/srv/own-disks' },
    clusterIds: [cluster.id],
  });
  const type = await admin.call('POST', '/v1/volume-types', {
    name: 'own disks',
    storageClass: 'own-disks',
    visibility: 'public',
  });
  const body = {
    ...instanceBody(cloud, 'bound'),
    projectId: cloud.project.id,
    requestedHostId: id(0),
    rootVolume: { volumeTypeId: type.id },
  };
  const { targetId: bound } = (await admin.done('POST', '/v1/instances', body)) as OperationView;
  const busy = await onHost(0, 'busy');
  const letGo = await hold(address.simulatorUrl, 'domain.reset');
  restore.push(letGo);
  const reboot = await admin.call<OperationView>('POST', `/v1/instances/${busy}/actions/reboot`, { mode: 'force' });
  const planned = await planOf(evenly);
  expect(planned).toMatchObject({
    moves: [],
    why: 'no instance that could move to one of the emptiest hosts would make it better',
  });
  await letGo();
  await admin.settled(reboot.id);
  expect((await planOf(evenly)).moves.map(({ instanceId }) => instanceId)).toEqual([busy]);
  const drain = (await admin.call(
    'POST',
    `/v1/hosts/${id(0)}/actions/enterMaintenance?dryRun=true`,
    {},
  )) as unknown as Plan;
  expect(drain.plan.moves.find(({ instanceId }) => instanceId === bound)).toMatchObject({
    toHostId: null,
    missing: 'it has a volume in storage that is not there for a running guest on another host',
  });
  await removeInstance(bound);
  await admin.done('POST', `/v1/storage-pools/${pool.id}/actions/cleanCache`, { unusedForSeconds: 0 });
  await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
});

test('a cluster with less than two open hosts, or wrong words, are refused', async () => {
  await closed(admin, [id(1), id(2)], restore);
  expect(await refusal(rebalancing())).toBe('412 PRECONDITION_FAILED');
  for (const body of [{ metric: 'weight' }, { maxMoves: 0 }, { spreadPercent: 101 }])
    expect([body, await refusal(rebalancing(body))]).toEqual([body, '422 INVALID_ARGUMENT']);
  expect(await refusal(tenant.call('POST', `/v1/clusters/${cluster.id}/actions/rebalance`, {}))).toMatch(/^40[34] /);
});

const schedule = (body: Record<string, unknown>): Promise<Resource> =>
  make(admin, 'schedules', {
    name: 'window',
    projectId: null,
    cron: '0 0 1 1 *',
    action: 'cluster.rollingMaintenance',
    targets: { ids: [cluster.id] },
    endsWithWindow: true,
    ...body,
  });

test('a run in a window of maintenance is told its end, and the next goes on with those that are left', async () => {
  const made = await schedule({ windowSeconds: 3_600, input: { secondsPerHost: 3_000, hook: 'wait' } });
  const run = (): Promise<OperationView> => admin.call('POST', `/v1/schedules/${made.id}/actions/runNow`, {});
  const { id: first } = await run();
  const rolling = async (of: string): Promise<Waiting> =>
    (
      await untilSeen(
        () => childrenOf({ id: of }),
        ([one]) => one?.waitsFor != null,
      )
    )[0] as Waiting;
  const one = await rolling(first);
  expect(one.type).toBe('cluster.rollingMaintenance');
  // It is told when its window ends, by the moment at which the run was due.
  const { notAfter, goesOn } = one.input as { notAfter: string; goesOn: boolean };
  expect([goesOn, Date.parse(notAfter) - Date.parse(String(one.createdAt)) <= 3_600_000]).toEqual([true, true]);
  const [host] = await childrenOf(one);
  await admin.call('POST', `/v1/operations/${host?.id}/actions/continue`);
  const [, next] = await untilSeen(
    () => childrenOf(one),
    ([, other]) => other?.waitsFor != null,
  );
  await admin.call('POST', `/v1/operations/${one.id}/actions/cancel`);
  expect((await admin.settled(one.id)).state).toBe('cancelled');
  expect((await admin.settled(String(next?.id))).state).toBe('cancelled');
  await admin.settled(first);
  const { id: second } = await run();
  const other = await rolling(second);
  const [left] = await childrenOf(other);
  expect(left?.targetId).toBe(id(1));
  await admin.call('POST', `/v1/operations/${other.id}/actions/cancel`);
  await admin.settled(second);
  // A window in which no host would ever begin.
  expect(await refusal(admin.call('PATCH', `/v1/schedules/${made.id}`, { windowSeconds: 60 }))).toBe(
    '422 INVALID_ARGUMENT',
  );
  await admin.done('PATCH', `/v1/schedules/${made.id}`, { input: { secondsPerHost: 60, hook: 'none' } });
  const last = await admin.settled((await run()).id);
  const [rolled] = await childrenOf(last);
  expect(resultOf(rolled as Waiting)).toMatchObject({ succeeded: 2, left: [] });
  await admin.done('DELETE', `/v1/schedules/${made.id}`);
}, 300_000);

test('a schedule that would never run, or would run in no window, is refused', async () => {
  const create = (body: Record<string, unknown>): Promise<string> => refusal(schedule(body));
  expect(await create({ cron: '0 0 31 2 *' })).toBe('422 INVALID_ARGUMENT');
  expect(await create({ cron: null, at: '2020-01-01T00:00:00Z' })).toBe('422 INVALID_ARGUMENT');
  expect(await create({ windowSeconds: 300 })).toBe('422 INVALID_ARGUMENT');
  expect(await create({ input: { notAfter: '2100-01-01T00:00:00Z' } })).toBe('422 INVALID_ARGUMENT');
  expect(await create({ input: { goesOn: true } })).toBe('422 INVALID_ARGUMENT');
});

test('a zone tells what it has, what of that is promised, and what it would lose with its fullest host', async () => {
  const ids = [await onHost(0, 'one'), await onHost(0, 'two')];
  const path = `/v1/zones/${cloud.zone.id}/actions/reportCapacity`;
  const { result } = (await admin.done('POST', path, {})) as OperationView;
  const report = result as {
    clusters: { clusterId: string; hosts: number; memoryMib: Record<string, number>; largestLoss: unknown }[];
    memoryMib: Record<string, number | null>;
    addresses: { used: number; subnets: number };
    pools: { poolName: string; promisedGib: number }[];
  };
  const own = report.clusters.find(({ clusterId }) => clusterId === cluster.id);
  expect(own).toMatchObject({
    hosts: 3,
    memoryMib: { used: 2 * memoryMib },
    largestLoss: { hostId: id(0), instances: ids.length, memoryMib: 2 * memoryMib, fitsElsewhere: true },
  });
  expect(Number(report.memoryMib.used) + Number(report.memoryMib.free)).toBeCloseTo(Number(report.memoryMib.total), 0);
  // There is no history of a day yet, so nothing is said of how long it lasts.
  expect(report.memoryMib.daysUntilFull).toBeNull();
  expect(report.addresses.used).toBeGreaterThanOrEqual(2);
  expect(report.pools.find(({ poolName }) => poolName === 'rolling')?.promisedGib).toBeGreaterThanOrEqual(2);
  const reports = await list<OperationView>(
    'operations',
    `targetId = "${cloud.zone.id}" AND type = "zone.reportCapacity"`,
  );
  expect(reports.length).toBeGreaterThan(0);
  expect(await refusal(tenant.call('POST', path, {}))).toMatch(/^40[34] /);
});

interface Node extends Resource {
  role: string;
  version: string;
  lastHeartbeatAt: string;
  load: number;
}
const nodes = (): Promise<Node[]> => list<Node>('control-nodes', 'state != "lost"');
const nodeOf = async (role: string): Promise<Node> => {
  const found = (await nodes()).find((node) => node.role === role);
  if (!found) throw new Error(`no process of role ${role} is registered`);
  return found;
};
const onNode = (node: Node, verb: string, body: unknown = {}): Promise<Node> =>
  admin.call('POST', `/v1/control-nodes/${node.id}/actions/${verb}`, body);
const stateIs = (node: Node, state: string): Promise<Node> =>
  untilSeen(
    () => admin.call<Node>('GET', `/v1/control-nodes/${node.id}`),
    (now) => now.state === state,
  );

test('each process of the control plane is registered, and says again and again that it lives', async () => {
  const all = await untilSeen(nodes, (seen) => seen.length === 4);
  expect(all.map(({ role, state }) => `${role} ${state}`).sort()).toEqual([
    'api up',
    'control up',
    'dispatcher up',
    'host up',
  ]);
  const [node] = all;
  expect(node?.version).toMatch(/^\d+\.\d+\.\d+$/);
  await untilSeen(nodes, (now) =>
    now.every((one) => one.lastHeartbeatAt > String(all.find(({ id: of }) => of === one.id)?.lastHeartbeatAt)),
  );
  for (const verb of ['drain', 'resume'])
    expect(await refusal(tenant.call('POST', `/v1/control-nodes/${node?.id}/actions/${verb}`, {}))).toMatch(/^40[34] /);
  // It removes itself when it ends; only what is lost is forgotten.
  expect(await refusal(admin.call('DELETE', `/v1/control-nodes/${node?.id}`))).toBe('409 INVALID_STATE');
  expect(await refusal(onNode(node as Node, 'resume'))).toBe('409 INVALID_STATE');
});

test('the last of a role is drained only by force; then its work waits, and goes on when it may take work again', async () => {
  const control = await nodeOf('control');
  expect(await refusal(onNode(control, 'drain'))).toBe('412 PRECONDITION_FAILED');
  await onNode(control, 'drain', { force: true });
  restore.push(async () => {
    const { state } = await admin.call<Node>('GET', `/v1/control-nodes/${control.id}`);
    if (state !== 'up') await onNode(control, 'resume');
  });
  await stateIs(control, 'drained');
  const { id: waits } = await admin.call<OperationView>(
    'POST',
    `/v1/zones/${cloud.zone.id}/actions/reportCapacity`,
    {},
  );
  expect((await admin.call<OperationView>('GET', `/v1/operations/${waits}`)).endedAt).toBeNull();
  await onNode(control, 'resume');
  expect((await admin.settled(waits)).state).toBe('succeeded');
});

test('a host worker that drains gives its hosts away, and carries them again afterwards', async () => {
  const worker = await nodeOf('host');
  await onNode(worker, 'drain', { force: true });
  restore.push(async () => {
    const { state } = await admin.call<Node>('GET', `/v1/control-nodes/${worker.id}`);
    if (state !== 'up') await onNode(worker, 'resume');
  });
  await stateIs(worker, 'drained');
  const { id: waits } = await admin.call<OperationView>('POST', `/v1/hosts/${id(0)}/actions/connect`, {});
  await onNode(worker, 'resume');
  expect((await admin.settled(waits)).state).toBe('succeeded');
  await untilSeen(
    () => hostNow(0),
    ({ connection }) => connection === 'connected',
  );
});

test('an API server that drains says that it is not ready, ends its event streams, and answers all the same', async () => {
  const api = await nodeOf('api');
  const following = await fetch(`${address.apiUrl}/v1/events?follow=true`, {
    headers: { authorization: `Bearer ${admin.token}` },
  });
  expect(following.status).toBe(200);
  expect((await fetch(`${address.apiUrl}/readyz`)).status).toBe(200);
  await onNode(api, 'drain', { force: true });
  restore.push(async () => {
    if ((await admin.call<Node>('GET', `/v1/control-nodes/${api.id}`)).state !== 'up') await onNode(api, 'resume');
  });
  await untilSeen(
    async () => (await fetch(`${address.apiUrl}/readyz`)).status,
    (status) => status === 503,
  );
  // All of it: it has ended.
  expect(await following.text()).toMatch(/^: following\n/);
  expect((await fetch(`${address.apiUrl}/healthz`)).status).toBe(200);
  await onNode(api, 'resume');
  await untilSeen(
    async () => (await fetch(`${address.apiUrl}/readyz`)).status,
    (status) => status === 200,
  );
});
