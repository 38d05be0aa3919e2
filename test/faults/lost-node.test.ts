/** A process of the control plane that dies without a word is told to be lost, and its successor is another node. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, Resource } from '../../lab/api.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { refusal, untilSeen } from '../support/operations.ts';

interface Node extends Resource {
  role: string;
}

let running: SimulatedCloud;
let admin: Api;
beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 1, faultInjection: false });
  ({ admin } = joinCloud(running.address));
}, 600_000);
afterAll(async () => running?.stop(), 120_000);

const nodesOf = async (role: string): Promise<Node[]> =>
  (await admin.call<{ items: Node[] }>('GET', `/v1/control-nodes?filter=${encodeURIComponent(`role = "${role}"`)}`))
    .items;

for (const role of ['control', 'host', 'dispatcher'] as const)
  test(`a ${role} process that is killed becomes lost, and can be forgotten then`, async () => {
    const [before, ...others] = await untilSeen(
      () => nodesOf(role),
      (nodes) => nodes.length > 0,
    );
    expect([before?.state, others]).toEqual(['up', []]);
    await running.stack.kill(role);
    const after = await untilSeen(
      () => nodesOf(role),
      (nodes) => nodes.length === 2 && nodes.some(({ state }) => state === 'lost'),
    );
    expect(after.find(({ state }) => state === 'lost')?.id).toBe(before?.id);
    const successor = after.find(({ id }) => id !== before?.id);
    expect(successor?.state).toBe('up');
    expect(await refusal(admin.call('POST', `/v1/control-nodes/${before?.id}/actions/drain`, { force: true }))).toBe(
      '409 INVALID_STATE',
    );
    expect(await refusal(admin.call('DELETE', `/v1/control-nodes/${successor?.id}`))).toBe('409 INVALID_STATE');
    await admin.call('DELETE', `/v1/control-nodes/${before?.id}`);
    expect((await nodesOf(role)).map(({ id }) => id)).toEqual([successor?.id]);
    const { items } = await admin.call<{ items: { type: string }[] }>(
      'GET',
      `/v1/events?filter=${encodeURIComponent(`resourceId = "${before?.id}" AND type = "controlNode.lost"`)}`,
    );
    expect(items).toHaveLength(1);
  }, 300_000);
