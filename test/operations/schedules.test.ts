/** Schedules: what Temporal is told of them, what a run does and with whose rights, and what is left of what they make. */
import { Connection, Client as TemporalClient } from '@temporalio/client';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { maintenanceId, maintenanceNames } from '../../model/platform/maintenance.ts';
import { ensureSchedule, reconcileMaintenance } from '../../temporal/schedules.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { triggered } from '../support/maintenance.ts';
import { follower, inStep, refusal, untilSeen } from '../support/operations.ts';
import { answer, peopleOf } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';
import { setRules } from '../support/rollback.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const { person } = peopleOf(admin);
const until = follower(admin);

let connection: Connection;
let temporal: TemporalClient;
let database: pg.Client;
let letGo: () => Promise<void> = async () => {};
beforeAll(async () => {
  connection = await Connection.connect({ address: address.temporalAddress });
  temporal = new TemporalClient({ connection, namespace: 'belay' });
  database = await openClient(address.databaseUrl);
});
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});
afterAll(async () => {
  await connection.close();
  await database.end();
});

const yearly = { cron: '0 0 1 1 *' };
const stop = { action: 'instance.stop', input: { mode: 'force' } };
const schedule = (body: Record<string, unknown>, api: Api = tenant): Promise<Resource> =>
  make(api, 'schedules', { name: 'plan', ...yearly, ...body });
const handle = ({ id }: { id: string }) => temporal.schedule.getHandle(`schedule-${id}`);
const inTemporal = async (of: { id: string }) => (await handle(of).describe()).spec;
const isGone = (of: { id: string }): Promise<boolean> =>
  handle(of)
    .describe()
    .then(
      () => false,
      (error: Error) => error.name === 'ScheduleNotFoundError',
    );
const look = (of: { id: string }): Promise<Resource> => admin.call('GET', `/v1/schedules/${of.id}`);
const patch = (of: { id: string }, body: unknown, api: Api = tenant): Promise<OperationView> =>
  api.done('PATCH', `/v1/schedules/${of.id}`, body);
const end = (of: { id: string }, api: Api = admin): Promise<OperationView> =>
  api.done('DELETE', `/v1/schedules/${of.id}`);
const runNow = async (of: { id: string }, api: Api = tenant): Promise<OperationView> =>
  admin.settled((await api.call('POST', `/v1/schedules/${of.id}/actions/runNow`, {})).id);
/** As an operator triggers it in Temporal's page; answers the run that came of it. */
async function trigger(of: { id: string }): Promise<OperationView | null> {
  const before = (await look(of)).lastOperationId;
  await triggered(temporal, `schedule-${of.id}`);
  const { lastOperationId } = await look(of);
  return lastOperationId && lastOperationId !== before ? admin.settled(String(lastOperationId)) : null;
}
const list = async (plural: string, filter: string, api: Api = admin): Promise<Resource[]> =>
  (await api.call<{ items: Resource[] }>('GET', `/v1/${plural}?pageSize=500&filter=${encodeURIComponent(filter)}`))
    .items;
const childrenOf = ({ id }: { id: string }): Promise<Resource[]> => list('operations', `parentOperationId = "${id}"`);
const stateOf = async (id: string): Promise<string> => (await admin.call('GET', `/v1/instances/${id}`)).state;
const volume = (name: string): Promise<Resource> =>
  make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 });

test('Temporal runs it when it says, and is told when it changes, pauses and ends', async () => {
  const plan = await schedule({
    ...stop,
    cron: '30 3 * * MON-FRI',
    timeZone: 'Europe/Berlin',
    targets: { filter: 'name = "nobody"' },
  });
  expect(plan).toMatchObject({ state: 'active', enabled: true, projectId: cloud.project.id, lastRun: null });
  const spec = await inTemporal(plan);
  expect(spec.timezone).toBe('Europe/Berlin');
  expect(spec.calendars).toMatchObject([
    {
      minute: [{ start: 30 }],
      hour: [{ start: 3 }],
      dayOfWeek: ['MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY'].map((start) => ({ start })),
    },
  ]);
  const [next] = (await handle(plan).describe()).info.nextActionTimes;
  expect(Date.parse(String(plan.nextRun))).toBe(next?.getTime());
  expect((await handle(plan).describe()).action.args).toEqual([{ scheduleId: plan.id }]);

  await patch(plan, { cron: null, at: '2100-01-01T12:00:00Z' });
  expect((await look(plan)).nextRun).toBe('2100-01-01T12:00:00.000000Z');
  await patch(plan, { enabled: false });
  expect((await handle(plan).describe()).state.paused).toBe(true);
  expect(await look(plan)).toMatchObject({ enabled: false, nextRun: null });
  await patch(plan, { enabled: true, description: 'again' });
  expect(await look(plan)).toMatchObject({
    enabled: true,
    description: 'again',
    nextRun: '2100-01-01T12:00:00.000000Z',
  });
  await end(plan, tenant);
  expect(await isGone(plan)).toBe(true);
  expect(await refusal(tenant.call('GET', `/v1/schedules/${plan.id}`))).toBe('404 NOT_FOUND');
});

test('a plan that is made, changed or ended in vain leaves Temporal as it was', async () => {
  const targets = { filter: 'name = "nobody"' };
  const requestedId = crypto.randomUUID();
  await setRules(admin, [{ targetId: requestedId, step: 'schedules.publish', fault: 'failAfter', times: 1 }]);
  const made = await tenant.call<OperationView>('POST', '/v1/schedules', {
    name: 'plan',
    ...yearly,
    ...stop,
    targets,
    requestedId,
  });
  expect((await admin.settled(made.id)).state).toBe('failed');
  expect(await isGone({ id: requestedId })).toBe(true);

  const plan = await schedule({ ...stop, targets });
  const before = await inTemporal(plan);
  await setRules(admin, [
    { targetId: plan.id, step: 'schedules.publish', fault: 'failAfter', times: 1 },
    { targetId: plan.id, step: 'schedules.withdraw', fault: 'failAfter', times: 1 },
  ]);
  const changed = await tenant.call<OperationView>('PATCH', `/v1/schedules/${plan.id}`, {
    cron: '1 1 1 1 *',
    name: 'other',
  });
  expect((await admin.settled(changed.id)).state).toBe('failed');
  expect(await inTemporal(plan)).toEqual(before);
  expect(await look(plan)).toMatchObject({ name: 'plan', cron: yearly.cron });
  const ended = await tenant.call<OperationView>('DELETE', `/v1/schedules/${plan.id}`);
  expect((await admin.settled(ended.id)).state).toBe('failed');
  expect(await inTemporal(plan)).toEqual(before);
  await end(plan);
});

test('machines go off and on at their times: triggered in Temporal, on what the filter finds then', async () => {
  const tier = crypto.randomUUID().slice(0, 8);
  const machines = await Promise.all(['one', 'two'].map((name) => deploy(name, { labels: { tier } })));
  const targets = { filter: `labels.tier = "${tier}"` };
  const off = await schedule({ name: 'off', ...stop, cron: '0 20 * * *', targets });
  const on = await schedule({ name: 'on', action: 'instance.start', cron: '0 7 * * *', targets });
  const later = await deploy('three', { labels: { tier } });
  const ids = [...machines, later].map(({ id }) => id);

  const run = await trigger(off);
  expect(run).toMatchObject({ type: 'schedule.runNow', state: 'succeeded', result: { succeeded: 3, removed: 0 } });
  expect(await Promise.all(ids.map(stateOf))).toEqual(['stopped', 'stopped', 'stopped']);
  expect((await childrenOf({ id: run?.id ?? '' })).map(({ type, targetId }) => [type, targetId]).sort()).toEqual(
    ids.map((id) => ['instance.stop', id]).sort(),
  );
  const { lastRun, nextRun, runAsUserId } = await look(off);
  expect(Date.parse(String(lastRun))).toBeLessThanOrEqual(Date.now());
  expect(Date.parse(String(nextRun))).toBeGreaterThan(Date.now());
  expect((run as unknown as Resource).actorUserId).toBe(runAsUserId);
  // The run in Temporal leads to the operation, and that to its children.
  const { raw } = await temporal.workflow.getHandle(run?.id ?? '').describe();
  expect(raw.workflowExecutionInfo?.parentExecution?.workflowId).toMatch(new RegExp(`^schedule-${off.id}`));

  expect((await trigger(on))?.state).toBe('succeeded');
  expect(await Promise.all(ids.map(stateOf))).toEqual(['running', 'running', 'running']);
  await Promise.all([end(off), end(on)]);
  await Promise.all(ids.map(removeInstance));
  expect(await wrong()).toEqual([]);
});

test.each([
  ['at its time it runs by itself, once', false],
  ['one whose time comes before all that makes it is done runs all the same, once', true],
])('%s', async (_, isHeldUp) => {
  const { id } = await deploy('once');
  const requestedId = crypto.randomUUID();
  const at = new Date(Date.now() + 3_000);
  const body = { ...stop, name: 'plan', cron: null, at: at.toISOString(), targets: { ids: [id] }, requestedId };
  const making = await tenant.call<OperationView>('POST', '/v1/schedules', body);
  if (isHeldUp) {
    // Its record takes no other state until then.
    await database.query('BEGIN');
    await database.query('SELECT 1 FROM "schedule" WHERE id = $1 FOR UPDATE', [requestedId]);
    await untilSeen(
      async () => Date.now(),
      (now) => now > at.getTime() + 1_000,
    );
    await database.query('COMMIT');
  }
  const { state, targetId } = await admin.settled(making.id);
  expect([state, targetId]).toEqual(['succeeded', requestedId]);
  const plan = { id: requestedId };
  await untilSeen(
    () => stateOf(id),
    (now) => now === 'stopped',
  );
  const { lastOperationId } = await look(plan);
  expect((await admin.settled(String(lastOperationId))).state).toBe('succeeded');
  expect((await look(plan)).nextRun).toBeNull();
  expect(await list('operations', `targetId = "${requestedId}" AND type = "schedule.runNow"`)).toHaveLength(1);
  await end(plan);
  await removeInstance(id);
});

test('what Temporal is told of when its only moment has just been runs at once; when that is long ago, never', async () => {
  const taken = async (secondsAgo: number): Promise<number> => {
    const scheduleId = `late-${crypto.randomUUID()}`;
    const at = new Date(Date.now() - secondsAgo * 1_000);
    await ensureSchedule(temporal, {
      id: scheduleId,
      workflow: 'forgetOldAnswers',
      args: [],
      title: 'late',
      projectId: null,
      calendars: [{ second: [0], minute: [0], hour: [0], dayOfMonth: [1], month: [1], year: [2020] }],
      at: at.toISOString(),
      overlap: 'skip',
      catchupSeconds: 3_600,
      paused: false,
    });
    const of = temporal.schedule.getHandle(scheduleId);
    const { numActionsTaken } = await untilSeen(
      async () => (await of.describe()).info,
      (info) => info.numActionsTaken > 0 || secondsAgo > 3_600,
    );
    await of.delete();
    return numActionsTaken;
  };
  expect([await taken(5), await taken(4_000)]).toEqual([1, 0]);
});

test('a paused one, and one that is gone, does nothing, even when Temporal runs it', async () => {
  const { id } = await deploy('paused');
  const plan = await schedule({ ...stop, targets: { ids: [id] }, enabled: false });
  expect(await trigger(plan)).toBeNull();
  expect(await stateOf(id)).toBe('running');
  // By hand it runs all the same.
  expect((await runNow(plan)).state).toBe('succeeded');
  expect(await stateOf(id)).toBe('stopped');
  await end(plan);
  await tenant.done('POST', `/v1/instances/${id}/actions/start`);
  await temporal.schedule.create({
    scheduleId: `schedule-${plan.id}`,
    spec: {},
    action: {
      type: 'startWorkflow',
      workflowType: 'runSchedule',
      args: [{ scheduleId: plan.id }],
      taskQueue: 'control',
    },
  });
  await triggered(temporal, `schedule-${plan.id}`);
  // What Temporal should not have any more goes.
  expect(await isGone(plan)).toBe(true);
  expect(await list('operations', `targetId = "${id}" AND type = "instance.stop"`)).toHaveLength(1);
  await removeInstance(id);
});

test('snapshots are made of each volume, and those that the retention does not keep go: only its own, and of each volume its own', async () => {
  const tier = crypto.randomUUID().slice(0, 8);
  const volumes = await Promise.all(['a', 'b'].map((name) => volume(name)));
  for (const { id } of volumes) await tenant.call('PATCH', `/v1/volumes/${id}`, { labels: { tier } });
  const byHand = await make(tenant, 'snapshots', { name: 'by hand', volumeId: volumes[0]?.id });
  const plan = await schedule({
    name: 'nightly',
    action: 'snapshot.create',
    input: { labels: { by: 'plan' } },
    targets: { filter: `labels.tier = "${tier}"` },
    retention: { keepLast: 2 },
  });
  const other = await schedule({ name: 'other', action: 'snapshot.create', targets: { ids: [volumes[0]?.id] } });
  expect((await runNow(other)).state).toBe('succeeded');
  const made = (): Promise<Resource[]> => list('snapshots', `scheduleId = "${plan.id}"`);
  const first = await runNow(plan);
  expect(first).toMatchObject({ state: 'succeeded', result: { succeeded: 2, removed: 0 } });
  const oldest = await made();
  expect(oldest.map(({ name, labels, volumeId }) => [String(name).slice(0, 8), labels, volumeId]).sort()).toEqual(
    volumes.map(({ id }) => ['nightly ', { by: 'plan' }, id]).sort(),
  );
  expect((await runNow(plan)).result).toEqual({ succeeded: 2, removed: 0, notRun: 0 });
  expect((await runNow(plan)).result).toEqual({ succeeded: 2, removed: 2, notRun: 0 });
  const left = await made();
  expect(left).toHaveLength(4);
  expect(left.map(({ id }) => id)).not.toContain(oldest[0]?.id);
  expect(left.map(({ id }) => id)).not.toContain(oldest[1]?.id);
  expect(volumes.map(({ id }) => left.filter(({ volumeId }) => volumeId === id).length)).toEqual([2, 2]);
  expect((await admin.call('GET', `/v1/snapshots/${byHand.id}`)).state).toBe('ready');
  expect(await list('snapshots', `scheduleId = "${other.id}"`)).toHaveLength(1);

  // Of a volume that no snapshot could be made of, none goes.
  await patch(plan, { retention: { keepLast: 1 } });
  await setRules(admin, [{ operationType: 'snapshot.create', step: 'snapshots.take', fault: 'failBefore', times: 1 }]);
  const partly = await runNow(plan);
  await setRules(admin, []);
  expect(partly).toMatchObject({ state: 'failed', error: { code: 'PARTLY_FAILED', succeeded: 1, removed: 2 } });
  expect((await made()).map(({ volumeId }) => volumeId).length).toBe(3);
  // What it has made stays when it goes.
  await end(plan);
  await end(other);
  expect(await made()).toHaveLength(3);
  for (const { id } of volumes) await tenant.done('DELETE', `/v1/volumes/${id}?cascade=true&expunge=true`);
  expect(await wrong()).toEqual([]);
});

test('nobody but the schedule that makes a thing may say so', async () => {
  const { id } = await volume('mine');
  expect(
    await refusal(tenant.call('POST', '/v1/snapshots', { name: 's', volumeId: id, scheduleId: crypto.randomUUID() })),
  ).toBe('422 INVALID_ARGUMENT');
  await tenant.done('DELETE', `/v1/volumes/${id}?cascade=true&expunge=true`);
});

test('a target that is gone fails by itself; the others are done', async () => {
  const [gone, there] = await Promise.all([deploy('gone'), deploy('there')]);
  const plan = await schedule({ ...stop, targets: { ids: [gone.id, there.id] } });
  await removeInstance(gone.id);
  const run = await trigger(plan);
  expect(run).toMatchObject({
    state: 'failed',
    error: { code: 'PARTLY_FAILED', succeeded: 1, failed: [{ targetId: gone.id, code: 'NOT_FOUND' }] },
  });
  expect(await stateOf(there.id)).toBe('stopped');
  await end(plan);
  await removeInstance(there.id);
});

test('rights are asked for at each run: of who lost them nothing is done, and the run says so', async () => {
  const { id } = await deploy('guarded');
  const target: [string, string] = ['project', cloud.project.id];
  const member = await person('planner', cloud.account.id, 'projectMember', target);
  const plan = await schedule({ ...stop, targets: { ids: [id] } }, member.api);
  expect(plan).toMatchObject({ runAsUserId: member.user.id, runAsApiKeyId: member.key.id });
  const [binding] = await list('role-bindings', `subjectId = "${member.user.id}"`);
  await admin.call('DELETE', `/v1/role-bindings/${binding?.id}`);
  const refused = await trigger(plan);
  expect(refused).toMatchObject({ type: 'schedule.runNow', state: 'failed' });
  expect(refused?.error?.code).toBe('FORBIDDEN');
  expect(await stateOf(id)).toBe('running');

  // May read and begin it, but not what it does.
  const { person: _, newRole, bind } = peopleOf(admin);
  const role = await newRole(['schedule.*', 'instance.get', 'instance.list']);
  const given = await bind(admin, role, ['user', member.user.id], ['project', cloud.project.id]);
  expect((await trigger(plan))?.error).toMatchObject({
    code: 'FORBIDDEN',
    message: expect.stringContaining('instance.stop'),
  });
  expect(await stateOf(id)).toBe('running');
  await admin.call('DELETE', `/v1/role-bindings/${given.id}`);

  // Who says anew what is run, runs it; who only renames it does not.
  const heir = await person('heir', cloud.account.id, 'projectMember', target);
  await patch(plan, { description: 'mine now' }, heir.api);
  expect((await look(plan)).runAsUserId).toBe(member.user.id);
  await patch(plan, { maxParallel: 2 }, heir.api);
  expect((await look(plan)).runAsUserId).toBe(heir.user.id);
  await admin.call('DELETE', `/v1/users/${heir.user.id}`);
  expect(await trigger(plan)).toMatchObject({ state: 'failed', error: { code: 'FORBIDDEN' } });
  expect(await stateOf(id)).toBe('running');
  await patch(plan, { maxParallel: 3 });
  expect((await trigger(plan))?.state).toBe('succeeded');
  await end(plan);
  await removeInstance(id);
});

test('a run that is due while another still runs is left out, or waits', async () => {
  const { id } = await deploy('busy');
  const slow = await make(admin, 'schedules', {
    name: 'slow',
    ...yearly,
    action: 'instance.migrate',
    targets: { ids: [id] },
    projectId: cloud.project.id,
  });
  letGo = await hold(address.simulatorUrl, 'domain.migrate');
  const asked = await admin.call<OperationView>('POST', `/v1/schedules/${slow.id}/actions/runNow`, {});
  const [child] = await untilSeen(
    () => childrenOf(asked),
    (found) => found.length === 1,
  );
  await until(String(child?.id), inStep('hypervisor.migrate'));
  expect(await refusal(admin.call('POST', `/v1/schedules/${slow.id}/actions/runNow`, {}))).toBe('409 RESOURCE_BUSY');
  // Temporal's own run ends at once, and no second operation is there.
  await triggered(temporal, `schedule-${slow.id}`);
  const runs = (): Promise<Resource[]> => list('operations', `targetId = "${slow.id}" AND type = "schedule.runNow"`);
  expect(await runs()).toHaveLength(1);
  // A change does not wait for the run.
  await patch(slow, { overlap: 'queue' }, admin);
  const { info } = await handle(slow).describe();
  await handle(slow).trigger();
  const actions = await untilSeen(
    async () => (await handle(slow).describe()).info.recentActions,
    (found) => found.length > info.recentActions.length,
  );
  const waiting = temporal.workflow.getHandle(actions.at(-1)?.action.workflow.workflowId ?? '');
  // It has asked, and looks again later.
  await untilSeen(
    async () => (await waiting.fetchHistory()).events ?? [],
    (events) => events.some(({ timerStartedEventAttributes }) => timerStartedEventAttributes),
  );
  expect(await runs()).toHaveLength(1);
  await admin.call('POST', `/v1/operations/${asked.id}/actions/cancel`);
  expect((await admin.settled(asked.id)).state).toBe('cancelled');
  await letGo();
  const states = await untilSeen(
    async () => (await runs()).map(({ state }) => state).sort(),
    (found) => found.length === 2 && !found.includes('running') && !found.includes('queued'),
  );
  expect(states).toEqual(['cancelled', 'succeeded']);
  await end(slow);
  await removeInstance(id);
});

test('two who ask at once begin one run', async () => {
  const { id } = await deploy('two');
  const plan = await schedule({ ...stop, targets: { ids: [id] } });
  letGo = await hold(address.simulatorUrl, 'domain.stop');
  const asked = await Promise.all(
    [1, 2, 3].map(() => answer(tenant, 'POST', `/v1/schedules/${plan.id}/actions/runNow`, {})),
  );
  expect(asked.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
  await letGo();
  letGo = async () => {};
  const accepted = asked.find(({ status }) => status === 202);
  await admin.settled(String(accepted?.id));
  await end(plan);
  await removeInstance(id);
});

test('a run can be cancelled: what runs is undone, what waits is not begun', async () => {
  const machines = await Promise.all(['one', 'two'].map((name) => deploy(name)));
  const ids = machines.map(({ id }) => id);
  const plan = await make(admin, 'schedules', {
    name: 'moves',
    ...yearly,
    action: 'instance.migrate',
    targets: { ids },
    maxParallel: 1,
    projectId: cloud.project.id,
  });
  const before = await picture();
  letGo = await hold(address.simulatorUrl, 'domain.migrate');
  const { id } = await admin.call<OperationView>('POST', `/v1/schedules/${plan.id}/actions/runNow`, {});
  const [child] = await untilSeen(
    () => childrenOf({ id }),
    (found) => found.length === 1,
  );
  await until(String(child?.id), inStep('hypervisor.migrate'));
  await admin.call('POST', `/v1/operations/${id}/actions/cancel`);
  expect((await admin.settled(id)).state).toBe('cancelled');
  expect((await childrenOf({ id })).map(({ state }) => state)).toEqual(['cancelled']);
  expect(changes(before, await picture())).toEqual([]);
  await end(plan);
  await Promise.all(ids.map(removeInstance));
});

test('what can not be is refused, and says why', async () => {
  const { id } = await deploy('refused');
  const targets = { ids: [id] };
  const told = async (body: Record<string, unknown>, api: Api = tenant): Promise<string> => {
    const { status, code, detail, violations } = await answer(api, 'POST', '/v1/schedules', {
      name: 'plan',
      ...yearly,
      ...stop,
      targets,
      ...body,
    });
    return `${status} ${code} ${violations?.[0]?.field ?? ''}: ${detail}`;
  };
  expect(await told({ cron: '61 * * * *' })).toMatch(/^422 INVALID_ARGUMENT cron: cron has 61 as minute/);
  expect(await told({ cron: 'every day at noon' })).toMatch(/422 INVALID_ARGUMENT cron: .*five fields/);
  expect(await told({ timeZone: 'Europe/Atlantis' })).toMatch(/422 INVALID_ARGUMENT timeZone: .*no time zone/);
  expect(await told({ at: '2100-01-01T00:00:00Z' })).toMatch(/422 INVALID_ARGUMENT at: /);
  expect(await told({ cron: null })).toMatch(/422 INVALID_ARGUMENT cron: /);
  expect(await told({ cron: null, at: '2020-01-01T00:00:00Z' })).toMatch(/422 INVALID_ARGUMENT at: .*over already/);
  expect(await told({ action: 'instance.fly' })).toMatch(/422 INVALID_ARGUMENT action: /);
  expect(await told({ action: 'instance.create' })).toMatch(/422 INVALID_ARGUMENT action: /);
  expect(await told({ action: 'operation.cancel' })).toMatch(/422 INVALID_ARGUMENT action: /);
  expect(await told({ action: 'schedule.delete' })).toMatch(/422 INVALID_ARGUMENT action: /);
  expect(await told({ input: { mode: 'gently' } })).toMatch(/422 INVALID_ARGUMENT input.mode: /);
  expect(await told({ targets: {} })).toMatch(/422 INVALID_ARGUMENT targets: /);
  expect(await told({ targets: { ids: [id], filter: 'name = "x"' } })).toMatch(/422 INVALID_ARGUMENT targets: /);
  expect(await told({ targets: { ids: [crypto.randomUUID()] } })).toMatch(/^404 NOT_FOUND targets.ids.0: /);
  expect(await told({ targets: { filter: 'colour = "red"' } })).toMatch(/^400 MALFORMED_REQUEST targets.filter: /);
  expect(await told({ retention: { keepLast: 3 } })).toMatch(/422 INVALID_ARGUMENT retention: /);
  expect(await told({ action: 'host.connect', input: {}, targets: { filter: 'name = "x"' } })).toMatch(
    /422 INVALID_ARGUMENT action: .*hosts, which lie in no project/,
  );
  expect(await told({ action: 'snapshot.create', input: { volumeId: id }, targets: { filter: 'name = "x"' } })).toMatch(
    /422 INVALID_ARGUMENT input.volumeId: /,
  );
  expect(await told({ projectId: null })).toMatch(/^403 FORBIDDEN/);
  expect(
    await told(
      {
        action: 'storageCluster.update',
        input: { adminKey: 'hidden' },
        targets: { ids: [cloud.storageCluster.id] },
        projectId: null,
      },
      admin,
    ),
  ).toMatch(/422 INVALID_ARGUMENT input.adminKey: .*secret/);
  const settings = await list('settings', 'settingArea = "platform"');
  const setting = (name: string): string => `/v1/settings/${settings.find((one) => one.name === name)?.id}`;
  await admin.call('PATCH', setting('schedule.leastIntervalSeconds'), { value: 3600 });
  await admin.call('PATCH', setting('schedule.targetsPerRun'), { value: 1 });
  try {
    expect(await told({ cron: '*/30 * * * *' })).toMatch(
      /422 INVALID_ARGUMENT cron: .*1800 s after each other; 3600 s/,
    );
    expect(await told({ targets: { ids: [id, crypto.randomUUID()] } })).toMatch(
      /422 INVALID_ARGUMENT targets.ids: .*are 2; 1/,
    );
    const plan = await schedule({ action: 'instance.update', targets: { filter: 'name = "*"' } });
    const other = await deploy('other');
    expect((await runNow(plan)).error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    await end(plan);
    await removeInstance(other.id);
  } finally {
    await admin.call('POST', `${setting('schedule.leastIntervalSeconds')}/actions/reset`, {});
    await admin.call('POST', `${setting('schedule.targetsPerRun')}/actions/reset`, {});
  }
  await removeInstance(id);
});

test("a project's schedule finds nothing beyond its project, whoever it runs as", async () => {
  const project = await admin.call('POST', '/v1/projects', { name: crypto.randomUUID(), accountId: cloud.account.id });
  const inOther = await make(admin, 'volumes', {
    name: 'elsewhere',
    zoneId: cloud.zone.id,
    volumeTypeId: cloud.volumeTypes[0]?.id,
    sizeGib: 1,
    projectId: project.id,
  });
  const body = { name: 'all', ...yearly, action: 'volume.update', input: { labels: { seen: 'yes' } } };
  const targets = { filter: 'name = "elsewhere"' };
  const inside = await make(admin, 'schedules', { ...body, targets, projectId: cloud.project.id });
  expect((await runNow(inside, admin)).result).toEqual({ succeeded: 0, removed: 0, notRun: 0 });
  expect(
    await refusal(
      admin.call('POST', '/v1/schedules', { ...body, targets: { ids: [inOther.id] }, projectId: cloud.project.id }),
    ),
  ).toBe('422 INVALID_ARGUMENT');
  // The platform's own finds it.
  const wide = await make(admin, 'schedules', { ...body, targets, projectId: null });
  expect(wide.projectId).toBeNull();
  expect((await runNow(wide, admin)).result).toEqual({ succeeded: 1, removed: 0, notRun: 0 });
  expect((await admin.call('GET', `/v1/volumes/${inOther.id}`)).labels).toEqual({ seen: 'yes' });
  expect((await list('schedules', 'name = "all"', tenant)).map(({ id }) => id)).toEqual([inside.id]);
  await Promise.all([end(inside), end(wide)]);
  await admin.done('DELETE', `/v1/volumes/${inOther.id}?expunge=true`);
  await admin.call('DELETE', `/v1/projects/${project.id}`);
});

test('a project goes with its schedules, when it is asked for so', async () => {
  const { api, project } = await (async () => {
    const account = await peopleOf(admin).newAccount('planned');
    const owner = await person('owner', account.account.id, 'accountOwner', ['account', account.account.id]);
    return { api: owner.api, project: account.project };
  })();
  const extra = await api.call('POST', '/v1/projects', { name: 'extra', accountId: String(project.accountId) });
  const plan = await make(api, 'schedules', {
    name: 'plan',
    ...yearly,
    ...stop,
    targets: { filter: 'name = "x"' },
    projectId: extra.id,
  });
  const seen = await api.call<{ takes: { kind: string; id: string }[] }>(
    'GET',
    `/v1/projects/${extra.id}/views/deletePlan`,
  );
  expect(seen.takes).toContainEqual(expect.objectContaining({ kind: 'schedule', id: plan.id, by: 'cascade' }));
  expect(await refusal(api.call('DELETE', `/v1/projects/${extra.id}`))).toBe('409 HAS_DEPENDENTS');
  const accepted = await api.call<OperationView>('DELETE', `/v1/projects/${extra.id}?cascade=true`);
  expect((await admin.settled(accepted.id)).state).toBe('succeeded');
  expect(await isGone(plan)).toBe(true);
});

test("the platform's own stand among the schedules, for operators: they see them and pause them, and do no more", async () => {
  const own = await list('schedules', 'everySeconds > 0');
  expect(own.map(({ name }) => name).sort()).toEqual([...maintenanceNames].sort());
  expect(await list('schedules', 'everySeconds > 0', tenant)).toEqual([]);
  await triggered(temporal, maintenanceId('releaseForgotten'));
  const find = async (): Promise<Resource> => (await list('schedules', 'name = "releaseForgotten"'))[0] as Resource;
  const found = await find();
  expect(Date.parse(String(found.lastRun))).toBeLessThanOrEqual(Date.now());
  expect(Date.parse(String(found.nextRun))).toBeGreaterThan(Date.parse(String(found.lastRun)));
  for (const [method, path, body] of [
    ['PATCH', '', { maxParallel: 3 }],
    ['DELETE', '', undefined],
    ['POST', '/actions/runNow', {}],
  ] as const)
    expect(await refusal(admin.call(method, `/v1/schedules/${found.id}${path}`, body))).toBe('409 MANAGED');
  await patch(found, { enabled: false }, admin);
  const ofTemporal = temporal.schedule.getHandle(maintenanceId('releaseForgotten'));
  expect((await ofTemporal.describe()).state.paused).toBe(true);
  await patch(found, { enabled: true }, admin);
  expect((await ofTemporal.describe()).state.paused).toBe(false);
  // Paused in Temporal's page, it stays so when the dispatcher starts, and is seen here.
  await ofTemporal.pause('for a while');
  await reconcileMaintenance(temporal);
  expect((await ofTemporal.describe()).state.paused).toBe(true);
  await triggered(temporal, maintenanceId('alignSchedules'));
  expect(await find()).toMatchObject({ enabled: false, nextRun: null });
  await ofTemporal.unpause();
  await triggered(temporal, maintenanceId('alignSchedules'));
  expect((await find()).enabled).toBe(true);
});

test('what the table of maintenance says is what Temporal has: changed ones are brought in line, unknown ones go', async () => {
  const drifted = temporal.schedule.getHandle(maintenanceId('forgetTombstones'));
  const before = (await drifted.describe()).spec;
  await drifted.update((present) => ({ ...present, spec: { intervals: [{ every: '1 day' }] } }));
  await ensureSchedule(temporal, {
    id: maintenanceId('ofAnOlderVersion'),
    workflow: 'ofAnOlderVersion',
    args: [],
    title: 'of an older version',
    projectId: null,
    everySeconds: 86_400,
    overlap: 'skip',
    catchupSeconds: 60,
    paused: true,
  });
  await temporal.schedule.getHandle(maintenanceId('forgetOldAnswers')).delete();
  const known = async (): Promise<string[]> => {
    const ids: string[] = [];
    for await (const { scheduleId } of temporal.schedule.list())
      if (scheduleId.startsWith('maintenance-')) ids.push(scheduleId);
    return ids.sort();
  };
  await untilSeen(known, (ids) => ids.includes(maintenanceId('ofAnOlderVersion')));
  await reconcileMaintenance(temporal);
  expect((await drifted.describe()).spec).toEqual(before);
  await untilSeen(known, (ids) => ids.join() === maintenanceNames.map(maintenanceId).sort().join());
});

test('a schedule that Temporal has lost is there again', async () => {
  const plan = await schedule({ ...stop, targets: { filter: 'name = "nobody"' } });
  const before = await inTemporal(plan);
  await handle(plan).delete();
  await triggered(temporal, maintenanceId('alignSchedules'));
  expect(await inTemporal(plan)).toEqual(before);
  await end(plan);
});
