/** What operations promise beside success: their order, their cancelling, and a person's help when they are stuck. */
import { Connection, Client as TemporalClient } from '@temporalio/client';
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import { askOperation } from '../../api/operations.ts';
import { openDatabase } from '../../database/database.ts';
import { readyOnes } from '../../database/queue.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import type { OperationView } from '../../lab/api.ts';
import { inBatches, instanceBody } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, refusal } from '../support/operations.ts';
import { describe as inWords } from '../support/persistent.ts';
import { setRules } from '../support/rollback.ts';
import { realityOf, simulatorInventory } from '../support/simulated.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy: instance, removeInstance: remove } = joinCloud(address);
const { tenant } = cloud;

const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.call('POST', `/v1/instances/${id}/actions/${verb}`, body);
const stop = (id: string): Promise<OperationView> => act(id, 'stop', { mode: 'force' });
const look = (id: string): Promise<OperationView> => admin.call('GET', `/v1/operations/${id}`);
const cancel = (id: string): Promise<OperationView> => tenant.call('POST', `/v1/operations/${id}/actions/cancel`);

const until = follower(admin);

/** The host on which the guest really runs. */
const placeOf = async (id: string): Promise<string | undefined> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).running.get(id)?.[0];
/** The host on which it is in the records. */
const homeOf = async (id: string): Promise<string | undefined> => {
  const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
  return cloud.hosts.find((host) => host.id === hostId)?.name;
};

let letGo: () => Promise<void> = async () => {};
const held = async (call: string, when?: 'before' | 'after'): Promise<void> => {
  letGo = await hold(address.simulatorUrl, call, when);
};
afterEach(async () => {
  await letGo();
  await setRules(admin, []);
});

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => remove((await instance('first')).id));

const at = (time: string | null): number => new Date(time ?? Number.NaN).getTime();

test('two actions on one instance run one after the other, on two instances at once', async () => {
  const [one, other] = await Promise.all([instance('one'), instance('other')]);
  await held('domain.ensureAbsent');
  const first = await stop(one.id);
  const second = await act(one.id, 'start');
  const beside = await stop(other.id);
  // Both stops are held in the same step at the same time; the start waits for its turn.
  await Promise.all([first, beside].map(({ id }) => until(id, inStep('hypervisor.turnOff'))));
  expect((await look(second.id)).state).toBe('queued');
  await letGo();
  const [stopped, started, stoppedToo] = await Promise.all([first, second, beside].map(({ id }) => admin.settled(id)));
  if (!stopped || !started || !stoppedToo) throw new Error('three operations end');
  expect([stopped.state, started.state, stoppedToo.state]).toEqual(['succeeded', 'succeeded', 'succeeded']);
  expect(at(started.startedAt)).toBeGreaterThanOrEqual(at(stopped.endedAt));
  expect(at(stoppedToo.startedAt)).toBeLessThan(at(stopped.endedAt));
  expect(at(stopped.startedAt)).toBeLessThan(at(stoppedToo.endedAt));
  expect(await wrong()).toEqual([]);
  await Promise.all([remove(one.id), remove(other.id)]);
});

test('a queued operation that is cancelled never acts', async () => {
  const { id } = await instance('waiting');
  await held('domain.ensureAbsent');
  const running = await stop(id);
  await until(running.id, inStep('hypervisor.turnOff'));
  const queued = await act(id, 'start');
  await cancel(queued.id);
  await letGo();
  expect((await admin.settled(running.id)).state).toBe('succeeded');
  const ended = await admin.settled(queued.id);
  expect([ended.state, ended.error?.code, ended.steps]).toEqual(['cancelled', 'CANCELLED', []]);
  expect((await tenant.call('GET', `/v1/instances/${id}`)).state).toBe('stopped');
  expect(await wrong()).toEqual([]);
  await remove(id);
});

test('a deploy that is cancelled while disks and ports are made leaves nothing', async () => {
  const before = await picture();
  await held('rbd.ensureClone');
  const accepted = await tenant.call<OperationView>('POST', '/v1/instances', instanceBody(cloud, 'cancelled'));
  await until(accepted.id, inStep('volumes.make'));
  await cancel(accepted.id);
  await letGo();
  const ended = await admin.settled(accepted.id);
  expect(inWords(ended)).toContain(' cancelled (CANCELLED');
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
});

test('a migration that is cancelled before its switch-over leaves the world as it was', async () => {
  const { id } = await instance('stays');
  const before = await picture();
  await held('domain.migrate');
  const moving = await act(id, 'migrate');
  await until(moving.id, inStep('hypervisor.migrate'));
  await cancel(moving.id);
  const ended = await admin.settled(moving.id);
  expect(inWords(ended)).toContain(' cancelled (CANCELLED');
  await letGo();
  expect(changes(before, await picture())).toEqual([]);
  await remove(id);
});

test('a cancel that does not reach its workflow is handed on by the dispatcher', async () => {
  const { id } = await instance('unheard');
  await held('domain.migrate');
  const moving = await act(id, 'migrate');
  await until(moving.id, inStep('hypervisor.migrate'));
  const database = openDatabase(address.databaseUrl, 1);
  const nowhere = new TemporalClient({ connection: Connection.lazy({ address: '127.0.0.1:1' }) });
  const asked = {
    userId: wellKnown.admin,
    apiKeyId: wellKnown.admin,
    requestId: 'unheard',
    sourceAddress: '127.0.0.1',
  };
  const answer = askOperation(database, nowhere, moving.id, 'cancel', asked, {});
  await expect(answer).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  await database.close();
  expect(inWords(await admin.settled(moving.id))).toContain(' cancelled (CANCELLED');
  await letGo();
  await remove(id);
});

test('a cancel that is taken just after the switch-over brings the guest back', async () => {
  const { id } = await instance('returns');
  const before = await picture();
  await held('domain.migrate', 'after');
  const moving = await act(id, 'migrate');
  await until(moving.id, inStep('hypervisor.migrate'));
  const source = await homeOf(id);
  while ((await placeOf(id)) === source);
  await cancel(moving.id);
  await letGo();
  const ended = await admin.settled(moving.id);
  expect(inWords(ended)).toContain(' cancelled (CANCELLED');
  expect(await placeOf(id)).toBe(source);
  expect(changes(before, await picture())).toEqual([]);
  await remove(id);
});

test('around the switch-over, the answer to a cancel is what comes to pass', async () => {
  const answers = await inBatches([...Array(24).keys()], 6, async (moment) => {
    const { id } = await instance(`around-${moment}`);
    const source = await homeOf(id);
    const moving = await act(id, 'migrate');
    await until(moving.id, ({ steps }) => steps.some(({ name }) => name === 'hypervisor.migrate'));
    // Half of them in the course of the copy, half behind its end; so much later each that together they cover it.
    if (moment % 2 === 1) while ((await placeOf(id)) === source);
    await new Promise((resolve) => setTimeout(resolve, Math.floor(moment / 2) * 20));
    const answer = await refusal(cancel(moving.id));
    const ended = await admin.settled(moving.id);
    const place = await placeOf(id);
    expect([ended.state, place === source, place === (await homeOf(id))]).toEqual(
      answer === 'accepted' ? ['cancelled', true, true] : ['succeeded', false, true],
    );
    // What was refused is not written down as asked for.
    expect(ended.cancelRequestedAt === null).toBe(answer !== 'accepted');
    await remove(id);
    return answer;
  });
  // One that had ended altogether by then is refused as such.
  expect(new Set(answers.filter((answer) => answer !== '409 INVALID_STATE'))).toEqual(
    new Set(['accepted', '409 CANCEL_TOO_LATE']),
  );
  expect(await wrong()).toEqual([]);
}, 300_000);

test('after the point of no return a cancel is refused', async () => {
  const { id } = await instance('gone-over');
  await held('domain.ensureAbsent');
  const moving = await act(id, 'migrate');
  await until(moving.id, ({ pointOfNoReturnPassed }) => pointOfNoReturnPassed);
  expect(await refusal(cancel(moving.id))).toBe('409 CANCEL_TOO_LATE');
  await letGo();
  expect((await admin.settled(moving.id)).state).toBe('succeeded');
  expect(await wrong()).toEqual([]);
  await remove(id);
});

test('a stuck operation holds its resource until an operator lets it try again', async () => {
  const before = await picture();
  const targetId = crypto.randomUUID();
  await setRules(admin, [{ targetId, step: 'hypervisor.boot', fault: 'undoFails', times: 4 }]);
  const accepted = await tenant.call<OperationView>(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'stuck', { requestedId: targetId }),
  );
  const stuck = await admin.settled(accepted.id);
  expect(inWords(stuck)).toContain(' stuck (INTERNAL');
  expect(stuck.error?.step).toBe('hypervisor.boot');
  const held = await tenant.call<{ id: string; fault: { operationId: string } | null }>(
    'GET',
    `/v1/instances/${targetId}`,
  );
  expect(held.fault?.operationId).toBe(accepted.id);
  expect(await refusal(stop(targetId))).toBe('409 RESOURCE_FAULTED');
  await admin.call('POST', `/v1/operations/${accepted.id}/actions/retry`);
  const ended = await until(accepted.id, ({ endedAt }) => endedAt !== null);
  expect(ended.state).toBe('failed');
  expect(ended.error?.step).toBe('hypervisor.boot');
  expect(ended.steps.map(({ state }) => state)).toEqual(ended.steps.map(() => 'undone'));
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
});

test('an operator, and nobody else, may skip what can not be undone', async () => {
  const before = await picture();
  const targetId = crypto.randomUUID();
  await setRules(admin, [{ targetId, step: 'networkInterfaces.awaitUp', fault: 'undoFails' }]);
  const accepted = await tenant.call<OperationView>(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'skipped', { requestedId: targetId }),
  );
  expect((await admin.settled(accepted.id)).state).toBe('stuck');
  const skip = { reason: 'there is nothing to undo in waiting' };
  expect(await refusal(tenant.call('POST', `/v1/operations/${accepted.id}/actions/skipStep`, skip))).toBe(
    '403 FORBIDDEN',
  );
  await admin.call('POST', `/v1/operations/${accepted.id}/actions/skipStep`, skip);
  const ended = await until(accepted.id, ({ endedAt }) => endedAt !== null);
  expect(ended.state).toBe('failed');
  expect(ended.steps.find(({ name }) => name === 'networkInterfaces.awaitUp')?.state).toBe('skipped');
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
});

test('whose turn it is, is looked up by index, even as planned while nobody waits', async () => {
  const database = openDatabase(address.databaseUrl, 1, { byIndex: true });
  try {
    const { connections } = database;
    for (const table of ['operation', 'operationLock']) {
      // Hides the real one from this connection.
      await connections.query(`CREATE TEMPORARY TABLE "${table}" (LIKE public."${table}" INCLUDING INDEXES)`);
      await connections.query(`VACUUM ANALYZE "${table}"`);
    }
    const { rows } = await connections.query<{ 'QUERY PLAN': string }>(`EXPLAIN (GENERIC_PLAN) ${readyOnes.text}`);
    const plan = rows.map((row) => row['QUERY PLAN']);
    const locks = plan.flatMap((line, at) => (/ on "operationLock"/.test(line) ? [`${line}${plan[at + 1]}`] : []));
    expect(locks).toHaveLength(3);
    for (const lock of locks) expect(lock).toMatch(/Index Scan .* Index Cond: \(+"(operationId|resourceId)" = /);
  } finally {
    await database.close();
  }
});
