/** The power of hosts, by BMCs that speak Redfish: who may switch it and when, what is seen of it, and that a failover cuts it. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { detecting, isFenced } from '../support/detection.ts';
import { type FailingHost, failingHost, removeAll } from '../support/failing.ts';
import { hold } from '../support/hold.ts';
import { maintainUntil } from '../support/maintenance.ts';
import { refusal, untilSeen } from '../support/operations.ts';
import { bmcOf, setBmc, setPower } from '../support/power.ts';
import { setSetting } from '../support/settings.ts';
import { sharedFiles } from '../support/sharedFiles.ts';

const address = inject('cloud');
const joined = joinCloud(address);
const { admin, cloud, wrong, deploy, removeInstance } = joined;
const { simulatorUrl } = address;
const { now, failovers } = detecting(admin, simulatorUrl);

let next = 228;
const made: FailingHost[] = [];
const instances = new Set<string>();
const sim = (name: string): string => `sim://${new URL(simulatorUrl).host}/${name}`;

async function bodyOf(name: string, more: Record<string, unknown> = {}) {
  return { name, clusterId: cloud.cluster.id, address: sim(name), ...(await bmcOf(simulatorUrl, name)), ...more };
}
async function powered(more: Record<string, unknown> = {}): Promise<FailingHost> {
  const name = `host-${next++}`;
  const { id } = await make(admin, 'hosts', await bodyOf(name, more));
  const one = failingHost(address, joined, { id, name });
  made.push(one);
  return one;
}
async function on(one: FailingHost, name: string, more: Record<string, unknown> = {}): Promise<string> {
  const id = await one.deploy(name, more);
  instances.add(id);
  return id;
}
const power = (one: FailingHost, command: string, more: Record<string, unknown> = {}): Promise<OperationView> =>
  one.done('power', { command, ...more });
/** The error of an operation as its code and step. */
const failed = ({ state, error }: OperationView): unknown[] => [state, error?.code, error?.step];
const update = (one: FailingHost, body: Record<string, unknown>): Promise<Resource> =>
  admin.call('PATCH', `/v1/hosts/${one.id}`, body);
const findingsOf = async (one: FailingHost, what = 'bmcUnreachable'): Promise<Resource[]> =>
  (
    await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/findings?filter=${encodeURIComponent(`resourceId = "${one.id}" AND what = "${what}" AND state = "open"`)}`,
    )
  ).items;
const watchUntil = (isSo: () => Promise<boolean>): Promise<void> =>
  maintainUntil(address.temporalAddress, 'watchPower', isSo);
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);

async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  const client = new pg.Client({ connectionString: address.databaseUrl });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}
const secretsOf = async ({ id }: { id: string }): Promise<string[]> =>
  (await query<{ field: string }>(`SELECT field FROM "secret" WHERE "ownerId" = $1 AND field LIKE 'bmc%'`, [id])).map(
    ({ field }) => field,
  );

let filesTypeId = '';
/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await deploy('first')).id);
  filesTypeId = await sharedFiles(joined, 'power');
});
afterEach(async () => {
  const back = made.splice(0);
  for (const one of back) {
    await setBmc(simulatorUrl, one.name, null);
    await untilSeen(one.now, ({ currentOperationId }) => !currentOperationId);
    await one.suffer('heal');
    if ((await one.now()).state === 'fenced') expect((await one.done('reinstate')).state).toBe('succeeded');
  }
  const ids = [...instances];
  instances.clear();
  await removeAll(address, joined, ids, back);
  expect(await wrong()).toEqual([]);
});
afterAll(async () => {
  await admin.call('DELETE', `/v1/volume-types/${filesTypeId}`);
});

test('a host is added with its BMC, whose certificate is pinned and whose password is told to nobody', async () => {
  const name = `host-${next}`;
  const { bmc, bmcPassword } = await bmcOf(simulatorUrl, name);
  expect(
    await refusal(admin.call('POST', '/v1/hosts', { name, clusterId: cloud.cluster.id, address: sim(name), bmc })),
  ).toBe('422 INVALID_ARGUMENT');
  const one = await powered();
  const found = await one.now();
  expect(found).toMatchObject({
    powerState: 'on',
    bmc: { ...bmc, certificate: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  expect(found.powerObservedAt).not.toBeNull();
  expect(await secretsOf(one)).toEqual(['bmcPassword']);
  await update(one, { bmcPassword });
  const about = encodeURIComponent(`resourceId = "${one.id}"`);
  const all = await Promise.all([
    one.now(),
    admin.call('GET', `/v1/operations?filter=${encodeURIComponent(`targetId = "${one.id}"`)}`),
    admin.call('GET', `/v1/audit-entries?filter=${about}`),
    admin.call('GET', `/v1/events?filter=${about}`),
  ]);
  expect(JSON.stringify(all)).toContain('"bmcPassword":"***"');
  expect(JSON.stringify(all)).not.toContain(bmcPassword);
});

test('a host whose BMC does not let us in is not added, and nothing is left of it', async () => {
  const name = `host-${next++}`;
  const asked = await admin.call<OperationView>('POST', '/v1/hosts', await bodyOf(name, { bmcPassword: 'wrong' }));
  const ended = await admin.settled(asked.id);
  expect(failed(ended)).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.reachBmc']);
  expect(ended.error?.message).toMatch(/refuses user host-\d+: its name, its password or its rights are wrong$/);
  expect(await secretsOf({ id: ended.targetId })).toEqual([]);
});

test('what is in use is switched off on the word of a person only, and what is empty when it is in maintenance', async () => {
  const one = await powered();
  const id = await on(one, 'there');
  const refused = await power(one, 'off');
  expect(failed(refused)).toEqual(['failed', 'HAS_DEPENDENTS', 'hosts.checkPower']);
  expect(refused.error?.blockers).toEqual([{ kind: 'instance', id, name: 'there' }]);
  await removeInstance(id);
  instances.delete(id);
  for (const command of ['off', 'cycle', 'reset', 'softOff'])
    expect(failed(await power(one, command))).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.checkPower']);
  expect((await power(one, 'on')).state).toBe('succeeded');

  await one.done('enterMaintenance');
  const off = await power(one, 'softOff');
  expect([off.state, off.result]).toEqual(['succeeded', { powerState: 'off' }]);
  await untilSeen(one.now, ({ connection, powerState }) => connection === 'disconnected' && powerState === 'off');
  expect((await power(one, 'off')).state).toBe('succeeded');
  for (const command of ['cycle', 'reset'])
    expect(failed(await power(one, command))).toEqual(['failed', 'INVALID_STATE', 'hosts.checkPower']);
  expect((await power(one, 'on')).state).toBe('succeeded');
  await one.connected();
  expect((await power(one, 'cycle')).state).toBe('succeeded');
  expect(await one.now()).toMatchObject({ powerState: 'on', state: 'maintenance' });
  await one.connected();
  expect((await one.done('exitMaintenance')).state).toBe('succeeded');
});

test('a dry run tells the steps and where there is no way back; without a BMC, or without the right, nothing is switched', async () => {
  const one = await powered();
  const plan = await admin.call<{ steps: { name: string }[]; pointOfNoReturn: string }>(
    'POST',
    `/v1/hosts/${one.id}/actions/power?dryRun=true`,
    { command: 'off' },
  );
  expect([plan.steps.map(({ name }) => name), plan.pointOfNoReturn]).toEqual([
    ['hosts.checkPower', 'hosts.switchPower', 'hosts.awaitPower'],
    'hosts.switchPower',
  ]);
  expect(await refusal(cloud.tenant.call('POST', `/v1/hosts/${one.id}/actions/power`, { command: 'off' }))).toMatch(
    /^40[34] /,
  );
  expect(await refusal(one.ask('power', { command: 'explode' }))).toBe('422 INVALID_ARGUMENT');
  await update(one, { bmc: null });
  expect(await refusal(one.ask('power', { command: 'on' }))).toBe('412 PRECONDITION_FAILED');
  expect(await refusal(one.ask('rotateCredentials', { credentials: ['bmcPassword'] }))).toBe('412 PRECONDITION_FAILED');
  expect([await secretsOf(one), (await one.now()).powerState]).toEqual([[], 'unknown']);
});

test('nothing of a BMC changes without its password, and another one is met anew', async () => {
  const one = await powered();
  const { bmc, bmcPassword } = await bmcOf(simulatorUrl, one.name);
  for (const change of [
    { address: '127.0.0.2' },
    { port: 1 },
    { user: 'eve' },
    { certificate: null },
    { protocol: 'ipmi' },
  ])
    expect(await refusal(update(one, { bmc: change }))).toBe('422 INVALID_ARGUMENT');
  expect(await refusal(update(one, { bmcPassword: null }))).toBe('422 INVALID_ARGUMENT');
  expect(await refusal(update(one, { bmc: { address: '-H evil' }, bmcPassword }))).toBe('422 INVALID_ARGUMENT');
  const { certificate } = (await one.now()).bmc as { certificate: string };
  expect(await update(one, { bmc: { ...bmc, certificate } })).toMatchObject({ bmc: { certificate } });
  const moved = await update(one, { bmc: { address: 'localhost' }, bmcPassword });
  expect(moved).toMatchObject({ powerState: 'unknown', powerObservedAt: null });
  expect(moved.bmc as object).not.toHaveProperty('certificate');
  await watchUntil(async () => (await one.now()).powerState === 'on');
  expect((await one.now()).bmc).toMatchObject({ address: 'localhost', certificate });
  const other = await update(one, { bmc: { protocol: 'ipmi', user: 'admin', system: null }, bmcPassword });
  expect(other.bmc).not.toHaveProperty('certificate');
  expect(await refusal(update(one, { bmcPassword: 'more than IPMI keeps of one' }))).toBe('422 INVALID_ARGUMENT');
});

test('a BMC that is silent, or that is another, becomes a finding, and none once it answers', async () => {
  const one = await powered();
  const { bmcPassword } = await bmcOf(simulatorUrl, one.name);
  await setBmc(simulatorUrl, one.name, 'broken');
  await watchUntil(async () => (await findingsOf(one)).length > 0);
  expect((await findingsOf(one))[0]?.actual).toMatch(/gave a wrong answer: HTTP 503/);
  expect((await one.now()).powerState).toBe('unknown');
  await setBmc(simulatorUrl, one.name, null);
  await watchUntil(async () => (await findingsOf(one)).length === 0);
  expect((await one.now()).powerState).toBe('on');

  await update(one, { bmc: { certificate: `${'AB:'.repeat(31)}AB` }, bmcPassword });
  await watchUntil(async () => (await findingsOf(one)).length > 0);
  expect((await findingsOf(one))[0]?.actual).toMatch(/shows another certificate than the one that is pinned/);
  expect(failed(await power(one, 'on'))).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.checkPower']);
  await update(one, { bmc: null });
  expect(await findingsOf(one)).toEqual([]);
});

test('credentials are changed one for the other, told to nobody, and the ones before let nobody in', async () => {
  const one = await powered();
  const { bmcPassword } = await bmcOf(simulatorUrl, one.name);
  const secrets = async (): Promise<string[]> =>
    (
      await query<{ field: string }>(`SELECT field FROM "secret" WHERE "ownerId" = $1 ORDER BY field`, [one.id])
    ).flatMap(({ field }) => (/^migration/.test(field) ? [] : [field]));
  for (const round of [1, 2]) {
    const ended = await one.done('rotateCredentials');
    expect([round, ended.state, JSON.stringify(ended).includes(bmcPassword)]).toEqual([round, 'succeeded', false]);
    expect(await secrets()).toEqual(['bmcPassword', 'hostSshPrivateKey', 'hostSshPublicKey']);
  }
  expect((await one.now()).credentialsRotatedAt).not.toBeNull();
  expect((await power(one, 'on')).state).toBe('succeeded');
  await update(one, { bmcPassword });
  expect(failed(await power(one, 'on'))).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.checkPower']);
});

test('a host whose BMC takes no other password keeps the one that it has', async () => {
  const one = await powered();
  await setBmc(simulatorUrl, one.name, 'stubborn');
  const ended = await one.done('rotateCredentials', { credentials: ['bmcPassword'] });
  expect(failed(ended)).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.addCredentials']);
  await setBmc(simulatorUrl, one.name, null);
  expect([await secretsOf(one), (await power(one, 'on')).state]).toEqual([['bmcPassword'], 'succeeded']);
});

test('credentials that are as old as the setting says are changed by themselves', async () => {
  const one = await powered();
  const days = (value: number): Promise<unknown> => setSetting(admin, 'host.rotateCredentialsDays', value);
  await query(`UPDATE "host" SET "createdAt" = now() - interval '31 days' WHERE id = $1`, [one.id]);
  await days(30);
  try {
    await maintainUntil(
      address.temporalAddress,
      'rotateCredentials',
      async () => (await one.now()).credentialsRotatedAt !== null,
    );
  } finally {
    await days(0);
  }
});

test('what a host says of itself is the result of an operation, also while others hold it', async () => {
  const one = await powered();
  const ended = await one.done('collectDiagnostics');
  const { parts } = ended.result as { parts: Record<string, string> };
  expect(ended.state).toBe('succeeded');
  expect(JSON.parse(parts.inventory ?? '')).toMatchObject({ domains: [] });
});

test('a host that is cut off is switched off by its failover, so that also what can not be shut out runs elsewhere', async () => {
  const one = await powered();
  const id = await on(one, 'files', { rootVolume: { volumeTypeId: filesTypeId } });
  await one.fail('cutOff');
  const ended = await one.done('failover');
  expect([ended.state, ended.result]).toEqual(['succeeded', expect.objectContaining({ restarted: 1 })]);
  expect(await one.now()).toMatchObject({ state: 'fenced', powerState: 'off', deadAt: expect.any(String) });
  const moved = await instanceNow(id);
  expect(moved).toMatchObject({ state: 'running' });
  expect(moved.hostId).not.toBe(one.id);

  // It is off: nobody has to switch it on by hand.
  const back = await one.done('reinstate');
  expect([back.state, back.steps.map(({ name }) => name).slice(0, 3)]).toEqual([
    'succeeded',
    ['hosts.lookAtPower', 'hosts.wake', 'hosts.reach'],
  ]);
  // As it is now, and not as its BMC was asked last.
  expect(await one.now()).toMatchObject({ state: 'active', deadAt: null, powerState: 'on' });
});

test('a host that its BMC has switched off waits for no storage, which is asked on until it has answered', async () => {
  const one = await powered();
  const id = await on(one, 'off');
  await one.fail('cutOff');
  const answers = await hold(simulatorUrl, 'ceph.ensureFenced');
  try {
    const { id: operationId } = await one.ask('failover');
    await untilSeen(
      () => instanceNow(id),
      ({ state, hostId }) => state === 'running' && hostId !== one.id,
    );
    expect(await admin.call('GET', `/v1/operations/${operationId}`)).toMatchObject({ state: 'running' });
    await answers();
    expect(await admin.settled(operationId)).toMatchObject({ state: 'succeeded', result: { restarted: 1 } });
    expect(await one.now()).toMatchObject({ state: 'fenced', deadAt: expect.any(String) });
  } finally {
    await answers();
  }
});

test('a BMC that does not answer, or does not obey, keeps no failover from fencing; and nothing is taken for off', async () => {
  for (const mishap of ['silent', 'deaf'] as const) {
    const one = await powered();
    const shared = await on(one, `shared-${mishap}`);
    const files = await on(one, `files-${mishap}`, { rootVolume: { volumeTypeId: filesTypeId } });
    await setBmc(simulatorUrl, one.name, mishap);
    await one.fail('cutOff');
    expect((await one.done('failover')).state).toBe('succeeded');
    expect(await one.now()).toMatchObject({ state: 'fenced', deadAt: null });
    expect((await instanceNow(shared)).state).toBe('running');
    expect((await instanceNow(files)).state).toBe('lost');
  }
});

test('a BMC that says off decides nothing alone, and with another who misses the host it is down', async () => {
  const pod = await admin.call('POST', '/v1/pods', { name: 'alone', zoneId: cloud.zone.id });
  const { id: clusterId } = await admin.call('POST', '/v1/clusters', { name: 'alone', podId: pod.id });
  const hung = await powered({ clusterId });
  await hung.suffer('crash');
  await setPower(simulatorUrl, hung.name, false);
  const unsure = await untilSeen(
    () => now(hung as never),
    ({ health, healthReason }) => health === 'unreachable' && /BMC says that it is off/.test(String(healthReason)),
  );
  expect(unsure.healthReason).toMatch(/not enough to take it for dead/);
  await powered({ clusterId });
  const fenced = await untilSeen(() => now(hung as never), isFenced);
  expect(fenced.stateReason).toMatch(/its BMC says that it is off/);
  expect(await failovers(hung as never)).toHaveLength(1);
});

/** It is down, as if all had missed it; and by now others see it. */
async function failSeen(one: FailingHost): Promise<void> {
  await one.fail('partition');
  await query(`UPDATE "host" SET health = 'down' WHERE id = $1`, [one.id]);
}

/** A host whose BMC in the records is that of another machine, which is in no cloud. */
async function withForeignBmc(): Promise<{ one: FailingHost; foreign: string }> {
  const one = await powered();
  const foreign = `host-${next++}`;
  await update(one, await bmcOf(simulatorUrl, foreign));
  return { one, foreign };
}
const isDisproved = async (one: FailingHost): Promise<boolean> =>
  (await findingsOf(one, 'bmcOfAnotherMachine')).length === 1 && (await one.now()).bmcDisprovedAt !== null;

test('a BMC that says off of a host that answers is that of another machine, and believed by nobody until the host has its own', async () => {
  const { one, foreign } = await withForeignBmc();
  await setPower(simulatorUrl, foreign, false);
  await watchUntil(() => isDisproved(one));
  expect((await one.now()).powerState).toBe('unknown');
  expect(failed(await power(one, 'on'))).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.checkPower']);
  await update(one, await bmcOf(simulatorUrl, one.name));
  expect(await findingsOf(one, 'bmcOfAnotherMachine')).toEqual([]);
  expect((await power(one, 'on')).state).toBe('succeeded');
});

test('a failover that has switched off another machine takes no host for dead that others see', async () => {
  const { one } = await withForeignBmc();
  const files = await on(one, 'files-there', { rootVolume: { volumeTypeId: filesTypeId } });
  await failSeen(one);
  expect((await one.done('failover')).state).toBe('succeeded');
  expect(await one.now()).toMatchObject({ state: 'fenced', deadAt: null, powerState: 'unknown' });
  expect(await isDisproved(one)).toBe(true);
  expect((await instanceNow(files)).state).toBe('lost');
});

test('where nobody can look for a host, that its BMC has switched something off takes it for dead nowhere', async () => {
  const { one, foreign } = await withForeignBmc();
  const files = await on(one, 'files-unseen', { rootVolume: { volumeTypeId: filesTypeId } });
  await failSeen(one);
  const rules = `${simulatorUrl}/_sim/rules`;
  for (const call of ['peer.probe', 'heartbeat.watch'])
    await fetch(rules, { method: 'POST', body: JSON.stringify({ call, when: 'before', action: 'fail' }) });
  try {
    expect((await one.done('failover')).state).toBe('succeeded');
    expect(await one.now()).toMatchObject({ state: 'fenced', deadAt: null });
    expect(await isDisproved(one)).toBe(false);
    expect((await instanceNow(files)).state).toBe('lost');
  } finally {
    await fetch(rules, { method: 'DELETE' });
  }
  await setPower(simulatorUrl, foreign, true);
});

test('where others see a host, that its BMC says off helps no failover; only the word of a person does', async () => {
  const { one, foreign } = await withForeignBmc();
  await one.fail('partition');
  await setPower(simulatorUrl, foreign, false);
  // Clusters of the tests miss nobody by themselves; this one does for once.
  const missAfter = (suspectSeconds: number): Promise<unknown> =>
    admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
      ha: { enabled: true, requireFence: true, suspectSeconds },
    });
  await missAfter(4);
  try {
    await untilSeen(one.now, ({ health }) => health === 'unreachable');
  } finally {
    await missAfter(3_600);
  }
  const refused = await one.done('failover');
  expect(failed(refused)).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.proveDown']);
  expect(refused.error?.message).toMatch(/has not failed: other hosts of its cluster reach it/);
});

test('two hosts have not the same BMC, and none gets another while an operation is at work on its host', async () => {
  const one = await powered();
  const other = await powered();
  const own = await bmcOf(simulatorUrl, one.name);
  expect(await refusal(update(other, own))).toBe('409 ADDRESS_IN_USE');
  await one.done('enterMaintenance');
  await setBmc(simulatorUrl, one.name, 'deaf');
  const { id } = await one.ask('power', { command: 'softOff' });
  await untilSeen(one.now, ({ currentOperationId }) => currentOperationId === id);
  expect(await refusal(update(one, own))).toBe('409 RESOURCE_BUSY');
  await setPower(simulatorUrl, one.name, false);
  expect((await admin.settled(id)).state).toBe('succeeded');
});

test('a maintenance starts a host anew by its BMC where its agent does not obey, or where it is told to', async () => {
  const one = await powered();
  const id = await on(one, 'moves');
  const stepsOf = ({ steps }: OperationView): string[] => steps.map(({ name }) => name);
  const letGo = await hold(simulatorUrl, 'host.reboot');
  try {
    const deaf = await one.done('maintain', { hook: 'reboot' });
    expect([deaf.state, stepsOf(deaf).slice(2)]).toEqual([
      'succeeded',
      ['hosts.reboot', 'host.power', 'hosts.reboot', 'host.exitMaintenance'],
    ]);
  } finally {
    await letGo();
  }
  const told = await one.done('maintain', { hook: 'reboot', byBmc: true });
  expect([told.state, stepsOf(told).slice(2)]).toEqual([
    'succeeded',
    ['host.power', 'hosts.reboot', 'host.exitMaintenance'],
  ]);
  expect(await one.now()).toMatchObject({ state: 'active', powerState: 'on' });
  expect((await instanceNow(id)).state).toBe('running');
  expect(await refusal(one.ask('maintain', { hook: 'none', byBmc: true }))).toBe('422 INVALID_ARGUMENT');
});

test('a BMC that has cycled another machine in a maintenance is believed by nobody from then on', async () => {
  const { one } = await withForeignBmc();
  const { id } = await one.ask('maintain', { hook: 'reboot', byBmc: true });
  const stuck = await untilSeen(
    () => admin.call<OperationView>('GET', `/v1/operations/${id}`),
    ({ state }) => state === 'stuck',
  );
  expect(failed(stuck)).toEqual(['stuck', 'PRECONDITION_FAILED', 'hosts.reboot']);
  expect(await isDisproved(one)).toBe(true);
  await update(one, await bmcOf(simulatorUrl, one.name));
  expect((await power(one, 'cycle')).state).toBe('succeeded');
  await admin.call('POST', `/v1/operations/${id}/actions/retry`);
  expect((await admin.settled(id)).state).toBe('succeeded');
});

test('a host without a BMC is not told to start anew by it', async () => {
  const one = await powered({ bmc: null, bmcPassword: null });
  expect(await refusal(one.ask('maintain', { hook: 'reboot', byBmc: true }))).toBe('412 PRECONDITION_FAILED');
});
