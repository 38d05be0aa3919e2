/** A host that fails is shut out before anything of its is started elsewhere, and each of its instances runs once, or not at all, whatever happens meanwhile. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { closed } from '../support/closed.ts';
import { joinCloud } from '../support/cloud.ts';
import { type FailingHost, failing, removeAll } from '../support/failing.ts';
import { hold } from '../support/hold.ts';
import { maintainUntil, whilePaused } from '../support/maintenance.ts';
import { follower, inStep, refusal, untilSeen } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';
import { sharedFiles } from '../support/sharedFiles.ts';
import { befall, simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const joined = joinCloud(address);
const { admin, cloud, wrong, deploy, removeInstance } = joined;
const { tenant } = cloud;
const until = follower(admin);
const newHost = failing(address, joined);
const others = cloud.hosts.map(({ id }) => id);

let next = 170;
const made: FailingHost[] = [];
const instances = new Set<string>();
async function host(): Promise<FailingHost> {
  const one = await newHost(next++);
  made.push(one);
  return one;
}
async function on(one: FailingHost, name: string, more: Record<string, unknown> = {}): Promise<string> {
  const id = await one.deploy(name, more);
  instances.add(id);
  return id;
}
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.call('POST', `/v1/instances/${id}/actions/${verb}`, body);
const fenced = async (): Promise<string[]> => (await simulatorInventory(address.simulatorUrl)).ceph.fenced;
/** On which simulated hosts a guest of it is, and in which state. */
async function placesOf(id: string): Promise<[string, string][]> {
  const { hosts } = await simulatorInventory(address.simulatorUrl);
  return Object.entries(hosts).flatMap(([name, { domains }]): [string, string][] => {
    const domain = domains[id];
    return domain ? [[name, domain.state]] : [];
  });
}
const runsAlone = async (id: string): Promise<void> => {
  const { state, hostId } = await instanceNow(id);
  const { name } = await admin.call('GET', `/v1/hosts/${String(hostId)}`);
  expect([state, (await placesOf(id)).filter(([, at]) => at === 'running')]).toEqual(['running', [[name, 'running']]]);
};

const readdress = ({ name }: FailingHost, ip: string): Promise<unknown> =>
  befall(address.simulatorUrl, name, 'readdress', { ip });

const restore: (() => Promise<unknown>)[] = [];
/** Closes all others, until it is let go or the test has ended. */
const nowhereElse = (): Promise<() => Promise<unknown>> => closed(admin, others, restore);

let filesTypeId = '';
/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await deploy('first')).id);
  filesTypeId = await sharedFiles(joined, 'failover');
});
afterEach(async () => {
  for (const again of restore.splice(0).reverse()) await again();
  const back = made.splice(0);
  for (const one of back) {
    await untilSeen(one.now, ({ currentOperationId }) => !currentOperationId);
    if ((await one.now()).state !== 'fenced') continue;
    await one.suffer('heal');
    expect((await one.done('reinstate')).state).toBe('succeeded');
  }
  const ids = [...instances];
  instances.clear();
  await removeAll(address, joined, ids, back);
  expect(await wrong()).toEqual([]);
  expect(await fenced()).toEqual([]);
});
afterAll(async () => {
  await setRules(admin, []);
});

test('instances of a host that lost its power run elsewhere, those without HA are stopped, and the host comes back', async () => {
  const one = await host();
  const ids = [await on(one, 'first'), await on(one, 'second')];
  const plain = await on(one, 'without', { ha: { enabled: false, priority: 50 } });
  await one.fail();
  const ended = await one.done('failover', { reason: 'the rack is dark' });
  expect(ended).toMatchObject({ state: 'succeeded', result: { restarted: 2, stopped: 1, failed: [] } });
  expect(await one.now()).toMatchObject({ state: 'fenced', stateReason: 'the rack is dark', deadAt: null });
  expect(await fenced()).toHaveLength(1);
  for (const id of ids) {
    await runsAlone(id);
    expect(await instanceNow(id)).toMatchObject({ lastHostId: one.id, stateReason: null, lostReason: null });
  }
  expect(await instanceNow(plain)).toMatchObject({ state: 'stopped', stateReason: 'hostFailed', hostId: null });
  await one.suffer('heal');
  expect(await one.done('reinstate')).toMatchObject({ state: 'succeeded' });
  expect(await one.now()).toMatchObject({ state: 'active', fencedAt: null, stateReason: null });
  expect(await fenced()).toEqual([]);
  for (const id of ids) await runsAlone(id);
  await one.connected();
  await on(one, 'again');
});

test('a host that serves is not shut out, on nobody’s word', async () => {
  const one = await host();
  const id = await on(one, 'runs');
  expect(await refusal(one.ask('failover'))).toBe('412 PRECONDITION_FAILED');
  expect(await refusal(one.ask('failover', { confirmDead: true }))).toBe('412 PRECONDITION_FAILED');
  expect((await admin.settled((await act(id, 'restartElsewhere')).id)).error?.code).toBe('PRECONDITION_FAILED');
  expect(await refusal(tenant.call('POST', `/v1/instances/${id}/actions/restartElsewhere`, {}))).toMatch(/^40[34] /);
  await runsAlone(id);
});

test('instances of a host that starts anew before anybody has shut it out run again, and those without HA are stopped', async () => {
  const one = await host();
  const id = await on(one, 'runs again');
  const plain = await on(one, 'without', { ha: { enabled: false, priority: 50 } });
  const comesTo = (instanceId: string, wanted: string): Promise<unknown> =>
    untilSeen(
      () => instanceNow(instanceId),
      ({ state, currentOperationId }) => state === wanted && !currentOperationId,
    );
  await whilePaused(address.temporalAddress, 'restartLost', async () => {
    await one.suffer('crash');
    await one.suffer('heal');
    await comesTo(id, 'lost');
    expect(await instanceNow(id)).toMatchObject({ hostId: one.id, stateReason: 'hostFailed' });
    await comesTo(plain, 'stopped');
  });
  expect(await instanceNow(plain)).toMatchObject({ stateReason: 'hostFailed', hostId: null });
  await comesTo(id, 'running');
  await runsAlone(id);
  expect(await instanceNow(id)).toMatchObject({ stateReason: null, lostReason: null });
  expect(await one.now()).toMatchObject({ state: 'active', fencedAt: null });
});

test('a host that only the control plane misses is shut out on the word of a person alone', async () => {
  const one = await host();
  const id = await on(one, 'is seen');
  await one.fail('partition');
  expect(await one.now()).toMatchObject({ health: 'well', connection: 'disconnected' });
  const refused = await one.done('failover');
  expect([refused.state, refused.error?.code, refused.error?.step]).toEqual([
    'failed',
    'PRECONDITION_FAILED',
    'hosts.proveDown',
  ]);
  expect(refused.error?.message).toMatch(/has not failed: other hosts of its cluster reach it/);
  expect(await one.now()).toMatchObject({ state: 'active', fencedAt: null });
  await one.suffer('heal');
  await one.connected();
  await runsAlone(id);
});

test('a host that is cut off, and lives, can write nothing more, and comes back without what runs elsewhere', async () => {
  const one = await host();
  const id = await on(one, 'cut off');
  await one.fail('cutOff');
  expect(await placesOf(id)).toEqual([[one.name, 'running']]);
  const letGo = await hold(address.simulatorUrl, 'domain.ensureRunning');
  restore.push(letGo);
  const failover = await one.ask('failover');
  const { steps } = await until(failover.id, inStep('instance.restartElsewhere'));
  await until(String((steps.at(-1) as { operationId?: string }).operationId), inStep('hypervisor.boot'));
  // It is back in the middle of its own failover.
  await one.suffer('heal');
  await letGo();
  expect((await admin.settled(failover.id)).state).toBe('succeeded');
  await runsAlone(id);
  expect(await placesOf(id)).toContainEqual([one.name, 'paused']);
  expect(await one.now()).toMatchObject({ state: 'fenced' });
  expect((await one.done('reinstate')).state).toBe('succeeded');
  expect((await placesOf(id)).map(([, state]) => state)).toEqual(['running']);
  await runsAlone(id);
});

test('for whom there is no room is lost, and is started as soon as there is, those of a higher priority first', async () => {
  const one = await host();
  const [low, high] = [
    await on(one, 'low', { ha: { enabled: true, priority: 10 } }),
    await on(one, 'high', { ha: { enabled: true, priority: 90 } }),
  ];
  const open = await nowhereElse();
  await one.fail();
  const ended = await one.done('failover');
  expect(ended).toMatchObject({ state: 'succeeded', result: { restarted: 0 } });
  expect((ended.result as { failed: { code: string }[] }).failed.map(({ code }) => code)).toEqual([
    'NO_CAPACITY',
    'NO_CAPACITY',
  ]);
  for (const id of [low, high])
    expect(await instanceNow(id)).toMatchObject({
      state: 'lost',
      hostId: null,
      stateReason: 'hostFailed',
      lostReason: expect.stringContaining('as soon as there is room'),
    });
  const { items } = await tenant.call<{ items: Resource[] }>(
    'GET',
    `/v1/events?filter=${encodeURIComponent(`type = "instance.lost" AND resourceId = "${low}"`)}`,
  );
  expect(items).toHaveLength(1);
  expect(await refusal(tenant.call('POST', `/v1/instances/${low}/actions/start?dryRun=true`, {}))).toBe('accepted');
  const states = async (): Promise<boolean> =>
    (await Promise.all([low, high].map(instanceNow))).every(({ state }) => state === 'running');
  await whilePaused(address.temporalAddress, 'restartLost', async () => {
    await open();
    await maintainUntil(address.temporalAddress, 'restartLost', states);
  });
  const started = async (id: string): Promise<string> =>
    String(
      (
        await admin.call<{ items: OperationView[] }>(
          'GET',
          `/v1/operations?filter=${encodeURIComponent(`targetId = "${id}" AND type = "instance.restartElsewhere" AND state = "succeeded"`)}`,
        )
      ).items[0]?.createdAt,
    );
  expect((await started(high)) < (await started(low))).toBe(true);
  for (const id of [low, high]) await runsAlone(id);
});

test('what lies where nobody can be shut out stays down until an operator has confirmed that the host is off', async () => {
  const one = await host();
  const id = await on(one, 'in files', { rootVolume: { volumeTypeId: filesTypeId } });
  await one.fail();
  expect(await one.done('failover')).toMatchObject({ state: 'succeeded', result: { restarted: 0 } });
  expect(await instanceNow(id)).toMatchObject({
    state: 'lost',
    hostId: one.id,
    lostReason: expect.stringContaining('could still write'),
  });
  expect(await refusal(tenant.call('POST', `/v1/instances/${id}/actions/start`, {}))).toBe('412 PRECONDITION_FAILED');
  expect((await admin.settled((await tenant.call('DELETE', `/v1/instances/${id}`)).id)).error?.code).toBe(
    'HOST_FENCED',
  );
  expect(await refusal(admin.call('DELETE', `/v1/hosts/${one.id}?force=true`))).toBe('409 HAS_DEPENDENTS');
  // It may run before this failover looks: from the word on that the host is off, whoever looks after lost instances starts it, too.
  expect(await one.done('failover', { confirmDead: true })).toMatchObject({ state: 'succeeded' });
  await untilSeen(
    () => instanceNow(id),
    ({ state }) => state === 'running',
  );
  await runsAlone(id);
});

test('what an operator does not confirm waits for the return of its host', async () => {
  const one = await host();
  const id = await on(one, 'waits', { rootVolume: { volumeTypeId: filesTypeId } });
  await one.fail();
  await one.done('failover');
  expect((await instanceNow(id)).state).toBe('lost');
});

test('a host that is shut out and answers is not dead, whoever says so', async () => {
  const one = await host();
  const id = await on(one, 'still writes', { rootVolume: { volumeTypeId: filesTypeId } });
  await one.fail('cutOff');
  await one.done('failover');
  expect((await instanceNow(id)).state).toBe('lost');
  await one.suffer('heal');
  const refused = { state: 'failed', error: { code: 'PRECONDITION_FAILED' } };
  expect(await one.done('failover', { confirmDead: true })).toMatchObject(refused);
  const removal = await admin.call<OperationView>('DELETE', `/v1/hosts/${one.id}?force=true&confirmDead=true`);
  expect(await admin.settled(removal.id)).toMatchObject(refused);
  expect(await one.now()).toMatchObject({ state: 'fenced', deadAt: null });
  expect(await placesOf(id)).toEqual([[one.name, 'running']]);
});

test('a host is shut out under the address that it has now', async () => {
  const one = await host();
  const id = await on(one, 'readdressed');
  const addresses = async (): Promise<string[]> =>
    Object.values((await one.now()).storageClients as Record<string, string[]>).flat();
  const before = await addresses();
  await readdress(one, '10.99.0.7');
  await untilSeen(addresses, (now) => now.includes('10.99.0.7'));
  await one.fail('cutOff');
  expect(await one.done('failover')).toMatchObject({ state: 'succeeded', result: { restarted: 1, failed: [] } });
  expect(await fenced()).toEqual([...before, '10.99.0.7'].sort());
  await runsAlone(id);
});

test('what is open at an address that nobody knows is started elsewhere once that is gone', async () => {
  const one = await host();
  const id = await on(one, 'open elsewhere');
  await one.fail('cutOff');
  await readdress(one, '10.99.0.8');
  expect(await one.done('failover')).toMatchObject({ state: 'succeeded', result: { restarted: 0 } });
  expect(await placesOf(id)).toEqual([[one.name, 'running']]);
  expect((await instanceNow(id)).state).toBe('lost');
  await one.suffer('crash');
  await maintainUntil(address.temporalAddress, 'restartLost', async () => (await instanceNow(id)).state === 'running');
  await runsAlone(id);
});

test('what a host that has failed may write to again is started by nobody', async () => {
  const one = await host();
  const id = await on(one, 'is let in');
  const open = await nowhereElse();
  await one.fail();
  expect(await one.done('failover')).toMatchObject({ state: 'succeeded', result: { restarted: 0 } });
  await befall(address.simulatorUrl, one.name, 'letIn', {});
  await whilePaused(address.temporalAddress, 'restartLost', async () => {
    await open();
    const start = await tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/start`, {});
    expect(await admin.settled(start.id)).toMatchObject({ state: 'failed', error: { code: 'PRECONDITION_FAILED' } });
  });
  expect((await instanceNow(id)).state).toBe('lost');
  expect(await one.done('failover')).toMatchObject({ state: 'succeeded' });
  await maintainUntil(address.temporalAddress, 'restartLost', async () => (await instanceNow(id)).state === 'running');
  await runsAlone(id);
});

test('operations that are under way on the host end, and what they have done is undone; what waits behind them goes on', async () => {
  const one = await host();
  const [busy, mover] = [await on(one, 'busy'), await on(one, 'mover')];
  const volume = await make(tenant, 'volumes', {
    name: 'attached',
    zoneId: cloud.zone.id,
    volumeTypeId: cloud.volumeTypes[0]?.id,
    sizeGib: 1,
  });
  restore.push(await hold(address.simulatorUrl, 'domain.ensureDisk', 'after'));
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const attach = await tenant.call<OperationView>('POST', `/v1/volumes/${volume.id}/actions/attach`, {
    instanceId: busy,
  });
  await until(attach.id, inStep('volumes.plug'));
  const move = await act(mover, 'migrate');
  await until(move.id, inStep('hypervisor.migrate'));
  const waiting = await act(busy, 'reboot', { mode: 'force' });
  await one.fail();
  for (const again of restore.splice(0)) await again();
  const failover = await one.done('failover');
  expect(failover.state).toBe('succeeded');
  const ends = await Promise.all([attach, move].map(({ id }) => admin.settled(id)));
  for (const { state, error } of ends) {
    expect(state).toBe('failed');
    expect(['HOST_FENCED', 'HOST_UNREACHABLE']).toContain(error?.code);
  }
  expect((await admin.settled(waiting.id)).endedAt).toBeTruthy();
  for (const id of [busy, mover]) await runsAlone(id);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/attach`, { instanceId: busy });
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/detach`, {});
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

test('an instance whose host fails while it is asked about is started elsewhere, and not taken for one that has stopped', async () => {
  const one = await host();
  const id = await on(one, 'was asked about');
  restore.push(await hold(address.simulatorUrl, 'domain.status'));
  const asked = (await admin.call('POST', `/v1/instances/${id}/actions/settle`, {})) as OperationView;
  await until(asked.id, inStep('hypervisor.observe'));
  await one.fail();
  const failover = await one.ask('failover');
  await restore.pop()?.();
  expect(await admin.settled(failover.id)).toMatchObject({ state: 'succeeded', result: { restarted: 1, failed: [] } });
  expect((await admin.settled(asked.id)).state).toBe('failed');
  await runsAlone(id);
});

test('one without HA that was asked about when its host failed is stopped, and the failover does not call that a failure', async () => {
  const one = await host();
  const id = await on(one, 'was asked about', { ha: { enabled: false, priority: 50 } });
  restore.push(await hold(address.simulatorUrl, 'domain.status'));
  const asked = (await admin.call('POST', `/v1/instances/${id}/actions/settle`, {})) as OperationView;
  await until(asked.id, inStep('hypervisor.observe'));
  await one.fail();
  // Others are not looked for first: that takes as long as the question to the host is repeated.
  const failover = await one.ask('failover', { confirmDead: true });
  await until(failover.id, inStep('instance.settle'));
  await restore.pop()?.();
  expect(await admin.settled(failover.id)).toMatchObject({
    state: 'succeeded',
    result: { restarted: 0, stopped: 1, failed: [] },
  });
  // Asked again before the host was shut out, the question has no answer; after that it has.
  const { state, result, error } = await admin.settled(asked.id);
  expect(error ? error.code : { state, result }).toBeOneOf([
    'HOST_UNREACHABLE',
    { state: 'succeeded', result: { running: false } },
  ]);
  expect(await instanceNow(id)).toMatchObject({ state: 'stopped', stateReason: 'hostFailed', hostId: null });
});

test('a host that dies while it is emptied is failed over once an operator has said that it is off', async () => {
  const one = await host();
  const id = await on(one, 'was leaving');
  restore.push(await hold(address.simulatorUrl, 'domain.migrate'));
  const entering = await one.ask('enterMaintenance');
  const { steps } = await until(entering.id, inStep('instance.migrate'));
  await until(String((steps.at(-1) as { operationId?: string }).operationId), inStep('hypervisor.migrate'));
  await one.fail();
  await restore.pop()?.();
  expect(await one.done('failover', { confirmDead: true })).toMatchObject({ state: 'succeeded' });
  expect((await admin.settled(entering.id)).state).toBe('failed');
  await maintainUntil(
    address.temporalAddress,
    'restartLost',
    async () => (await instanceNow(id)).state === 'running' && !(await instanceNow(id)).currentOperationId,
  );
  await runsAlone(id);
});

test('two failovers of one host at the same moment start each instance once', async () => {
  const one = await host();
  const id = await on(one, 'once');
  await one.fail();
  const both = await Promise.all([one.ask('failover'), one.ask('failover')]);
  const ended = await Promise.all(both.map((each) => admin.settled(each.id)));
  expect(ended.map(({ state }) => state)).toEqual(['succeeded', 'succeeded']);
  expect(ended.map(({ result }) => (result as { restarted: number }).restarted).sort()).toEqual([0, 1]);
  await runsAlone(id);
});

test('five hosts that fail at once are five failovers, none of which waits for another', async () => {
  const five = await Promise.all([1, 2, 3, 4, 5].map(() => host()));
  const ids = await Promise.all(five.map((one, index) => on(one, `of five ${index}`)));
  await Promise.all(five.map((one) => one.fail()));
  const ended = await Promise.all(five.map((one) => one.done('failover')));
  for (const { state, result } of ended)
    expect({ state, result }).toMatchObject({ state: 'succeeded', result: { restarted: 1, failed: [] } });
  for (const id of ids) await runsAlone(id);
});

test('a host that never comes back is deleted by force, and stays shut out; at its address another is added', async () => {
  const one = await host();
  const id = await on(one, 'moves on');
  await one.fail();
  await one.done('failover');
  expect((await admin.settled((await admin.call('DELETE', `/v1/hosts/${one.id}`)).id)).error?.code).toBe(
    'HOST_UNREACHABLE',
  );
  await admin.done('DELETE', `/v1/hosts/${one.id}?force=true`);
  made.splice(made.indexOf(one), 1);
  expect(await fenced()).toHaveLength(1);
  await runsAlone(id);
  await one.suffer('heal');
  const another = await newHost(Number(one.name.replace(/\D+/, '')));
  made.push(another);
  expect(await fenced()).toEqual([]);
  await on(another, 'on the new one');
});

test('room that is kept for hosts that fail is given to nobody else', async () => {
  const [one, other] = [await host(), await host()];
  const id = await on(one, 'has it');
  const open = await nowhereElse();
  const keep = (percent: number): Promise<unknown> =>
    admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, { failoverReservePercent: percent });
  restore.push(() => keep(0));
  await keep(90);
  const { vcpus } = await other.now();
  // As large as what is left beside the reserve, and more.
  const type = await admin.call('POST', '/v1/instance-types', {
    name: 'large',
    vcpus: Math.ceil(Number(vcpus) * 0.2),
    memoryMib: 128,
    rootVolumeTypeId: cloud.volumeTypes[0]?.id,
    visibility: 'public',
  });
  expect(await refusal(other.deploy('too large', { instanceTypeId: type.id }))).toBe('409 NO_CAPACITY');
  await one.fail();
  expect(await one.done('failover')).toMatchObject({ result: { restarted: 1 } });
  expect((await instanceNow(id)).hostId).toBe(other.id);
  await open();
});

test('a reinstatement that fails leaves the host shut out', async () => {
  const one = await host();
  await one.fail();
  await one.done('failover');
  await one.suffer('heal');
  await setRules(admin, [{ targetId: one.id, step: 'hosts.proveWritable', fault: 'failBefore' }]);
  restore.push(() => setRules(admin, []));
  expect((await one.done('reinstate')).state).toBe('failed');
  expect(await one.now()).toMatchObject({ state: 'fenced' });
  expect(await fenced()).toHaveLength(1);
});
