import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { ask, cloud, getTask, idOf, image, ovsdbClient, putTask, runDomain, runTask, tags } from './cloud.ts';

const a = idOf('a');

let simulator: Simulator;
beforeEach(async () => {
  simulator = await cloud({ hosts: 2 });
});
afterEach(() => simulator.stop());

const make = (host = 'host-0') =>
  ask(simulator, host, 'rbd.ensureImage', { ...image('v'), sizeGib: 1, tags: tags('v') });
const exists = () => simulator.inventory().ceph.pools.fast?.images.v !== undefined;

test('a fault before the call leaves nothing done, one after it leaves it done; both end with the problem', async () => {
  const problem = { code: 'TIMEOUT' as const, message: 'too slow', retryable: true };
  simulator.rules.add({ call: 'rbd.ensureImage', when: 'before', action: 'fail', problem, times: 1 });
  await expect(make()).rejects.toMatchObject({ code: 'TIMEOUT' });
  expect(exists()).toBe(false);
  simulator.rules.add({ call: 'rbd.*', when: 'after', action: 'fail', times: 1 });
  await expect(make()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  expect(exists()).toBe(true);
  await make();
});

test('a dropped call cuts the connection, before or after the work', async () => {
  simulator.rules.add({ call: 'rbd.ensureImage', when: 'before', action: 'drop', times: 1 });
  await expect(make()).rejects.toThrow('fetch failed');
  expect(exists()).toBe(false);
  simulator.rules.add({ call: 'rbd.ensureImage', when: 'after', action: 'drop', times: 1 });
  await expect(make()).rejects.toThrow('fetch failed');
  expect(exists()).toBe(true);
});

test('a rule for one host leaves the others alone', async () => {
  simulator.rules.add({ host: 'host-1', when: 'before', action: 'fail' });
  await make('host-0');
  await expect(make('host-1')).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
});

test('a hanging call goes on when its rule is taken away over the admin path', async () => {
  const body = JSON.stringify({ call: 'rbd.ensureImage', when: 'before', action: 'hang' });
  const { id } = (await (await fetch(`${simulator.url}/_sim/rules`, { method: 'POST', body })).json()) as {
    id: string;
  };
  const made = make();
  await expect.poll(() => simulator.rules.list()).toMatchObject([{ id, used: 1 }]);
  expect(exists()).toBe(false);
  await fetch(`${simulator.url}/_sim/rules`, { method: 'DELETE' });
  await made;
  expect(exists()).toBe(true);
});

test('a task that fails after its work has done it, and is tried again under its id', async () => {
  await runDomain(simulator, 'host-0', a);
  simulator.rules.add({ call: 'domain.shutDown', when: 'after', action: 'fail', times: 1 });
  const task = await runTask(simulator, 'host-0', 'domain.shutDown', { id: a, timeoutSeconds: 5 });
  expect(task).toMatchObject({ state: 'failed', problem: { code: 'BACKEND_UNAVAILABLE' } });
  expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'off' });
  await putTask(simulator, 'host-0', 'domain.shutDown', { id: a, timeoutSeconds: 5 }, task.id);
  expect(await getTask(simulator, 'host-0', task.id, 5)).toMatchObject({ state: 'succeeded' });
});

test('a task that fails before its work does not exist', async () => {
  await runDomain(simulator, 'host-0', a);
  simulator.rules.add({ call: 'domain.shutDown', when: 'before', action: 'fail', times: 1 });
  const input = { id: a, timeoutSeconds: 5 };
  await expect(putTask(simulator, 'host-0', 'domain.shutDown', input, 'task-1')).rejects.toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
  });
  expect(await getTask(simulator, 'host-0', 'task-1')).toMatchObject({ code: 'NOT_FOUND' });
  expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'running' });
});

test('the OVN database fails, hangs and cuts like a host', async () => {
  const client = ovsdbClient(simulator.ovn.nbRemote);
  const insert = { op: 'insert', table: 'Logical_Switch', row: { name: 'n' } };
  simulator.rules.add({ host: 'ovn', call: 'ovn.transact', when: 'before', action: 'fail', times: 1 });
  expect(await client.transact(insert)).toMatchObject([{ error: 'I/O error' }]);
  expect(simulator.inventory().ovn.OVN_Northbound?.Logical_Switch).toBeUndefined();
  simulator.rules.add({ call: 'ovn.transact bind*', when: 'after', action: 'drop', times: 1 });
  await client.transact(insert);
  await expect(client.transact(insert, { op: 'comment', comment: 'bind port' })).rejects.toThrow('connection cut');
  expect(simulator.inventory().ovn.OVN_Northbound?.Logical_Switch).toHaveLength(2);
});
