/** Every message of the protocol that changes something, sent by one who has been overtaken. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CALLS, type CallName, isQuestion, TASKS, type TaskName } from '../../../host-agent/protocol.ts';
import type { Stamp } from '../../../host-agent/stamp.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { type Inputs, rightInputs } from '../../support/protocolInputs.ts';
import {
  ask,
  cloud,
  configurationOf,
  fromNow,
  headersOf,
  idOf,
  migrationAddress,
  pool,
  putTask,
  runDomain,
  storageClusterId,
} from './cloud.ts';

const a = idOf('a');

let simulator: Simulator;
let inputs: Inputs;
beforeAll(async () => {
  simulator = await cloud();
  await runDomain(simulator, 'host-0', a);
  const { monitors, fsid, adminUser: user, adminKey: key } = simulator.ceph;
  inputs = rightInputs({
    access: { storageClusterId, monitors, fsid, user, key },
    pool,
    source: { url: 'http://127.0.0.1:1/', format: 'raw', sha256: '0'.repeat(64) },
    ...configurationOf(simulator, 0),
    targetAddress: migrationAddress(1),
    filesPath: '/srv/contract',
  });
});
afterAll(() => simulator.stop());

const callNames = Object.keys(CALLS) as CallName[];
const changing = callNames.filter((name) => !isQuestion(name));
const taskNames = Object.keys(TASKS) as TaskName[];

const newer: Stamp = { lease: { shard: 1, epoch: 9 }, step: { operationId: 'late', index: 0, round: 2, attempt: 1 } };
const overtaken: [string, Stamp][] = [
  ['whose lease has passed on', { ...newer, lease: { shard: 1, epoch: 8 } }],
  ['whose step was tried again since', { ...newer, step: { ...newer.step, round: 1, attempt: 6 } }],
];

test('the protocol has calls that change something, and questions', () => {
  expect(changing.length).toBeGreaterThan(25);
  expect(callNames.length).toBeGreaterThan(changing.length);
});

test.each(overtaken)(
  'one %s changes nothing, by no call and no task, also after a restart of the agent',
  async (_, old) => {
    await ask(simulator, 'host-0', 'domain.status', { id: a }, newer);
    await ask(simulator, 'host-0', 'domain.thaw', { id: a }, newer);
    simulator.restartAgent('host-0');
    const before = simulator.inventory();
    for (const name of changing)
      await expect(ask(simulator, 'host-0', name, inputs[name], old), name).rejects.toMatchObject({
        code: 'SUPERSEDED',
      });
    for (const name of taskNames)
      await expect(putTask(simulator, 'host-0', name, inputs[name], 'task', old), name).rejects.toMatchObject({
        code: 'SUPERSEDED',
      });
    expect(simulator.inventory()).toEqual(before);
  },
);

test('one whose message was held up changes nothing, though the host has heard nothing newer', async () => {
  const stamp: Stamp = { lease: { shard: 7, epoch: 1 }, step: { operationId: 'x', index: 0, round: 1, attempt: 1 } };
  const sent = await fromNow(simulator, 'host-0');
  const held = sent && { ...sent, ms: 0 };
  expect(held).toBeDefined();
  const superseded = { code: 'SUPERSEDED' };
  const before = simulator.inventory();
  for (const name of changing)
    await expect(ask(simulator, 'host-0', name, inputs[name], stamp, held), name).rejects.toMatchObject(superseded);
  for (const name of taskNames)
    await expect(putTask(simulator, 'host-0', name, inputs[name], 'task', stamp, held), name).rejects.toMatchObject(
      superseded,
    );
  simulator.restartAgent('host-0');
  await expect(ask(simulator, 'host-0', 'domain.ensureOff', { id: a }, stamp, sent)).rejects.toMatchObject(superseded);
  expect(simulator.inventory()).toEqual(before);
  await ask(simulator, 'host-0', 'domain.thaw', { id: a }, stamp);
});

test('one who does not say who he is, or until when, changes nothing', async () => {
  const before = simulator.inventory();
  for (const headers of [{}, headersOf(newer)])
    for (const name of changing) {
      const response = await fetch(`${simulator.url}/host-0/v1/calls/${name}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(inputs[name]),
      });
      expect(await response.json(), name).toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  expect(simulator.inventory()).toEqual(before);
});
