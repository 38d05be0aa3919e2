/** A real agent's wire and a simulated host's, asked the same: whatever one refuses the other refuses in the same words. */
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openFence } from '../../../host-agent/agent/fenceFile.ts';
import { requestListener, type Served } from '../../../host-agent/agent/server.ts';
import { taskRegistry } from '../../../host-agent/agent/tasks.ts';
import { agentClock } from '../../../host-agent/clock.ts';
import { CALLS, type CallName, isQuestion, TASKS, type TaskName } from '../../../host-agent/protocol.ts';
import { LEASE_HEADER, STEP_HEADER, UNTIL_HEADER } from '../../../host-agent/stamp.ts';
import { type Simulator, startSimulator } from '../../../lab/simulated/simulator.ts';
import { type Inputs, rightInputs, wrongInputs } from '../../support/protocolInputs.ts';
import { configurationOf, firstStamp, headersOf, idOf } from '../simulator/cloud.ts';

let simulator: Simulator;
let agent: http.Server;
let directory: string;
let right: Inputs;
/** What was done by the agent. */
const acted: string[] = [];
const servers: string[] = [];

beforeAll(async () => {
  simulator = await startSimulator({ hosts: 1 });
  directory = mkdtempSync(join(tmpdir(), 'belay-requests-'));
  const handlers = new Proxy({}, { get: (_, name) => async () => acted.push(String(name)) });
  agent = http.createServer(
    requestListener({
      calls: handlers as Served['calls'],
      tasks: taskRegistry(handlers as Parameters<typeof taskRegistry>[0]),
      events: { subscribe: async () => () => {} },
      fence: await openFence(join(directory, 'fence.json'), () => {}),
      clock: agentClock('life'),
      isEnding: () => false,
      health: () => ({ agent: 'v', bootId: 'b', hostname: 'h', libvirt: true, switch: true }),
      log: () => {},
    }),
  );
  await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
  servers.push(`http://127.0.0.1:${(agent.address() as AddressInfo).port}`, `${simulator.url}/host-0`);
  const { monitors, fsid, adminUser: user, adminKey: key } = simulator.ceph;
  right = rightInputs({
    access: { storageClusterId: idOf('cluster'), monitors, fsid, user, key },
    pool: 'fast',
    source: { url: 'http://127.0.0.1:1/', format: 'raw', sha256: '0'.repeat(64) },
    ...configurationOf(simulator, 0),
    targetAddress: '10.0.0.2',
    filesPath: '/srv/contract',
  });
});
afterAll(async () => {
  agent.closeAllConnections();
  await new Promise((resolve) => agent.close(resolve));
  await simulator.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** The one answer of both: they are the same, or the test fails. */
async function ask(method: string, path: string, body?: string, headers: Record<string, string> = {}) {
  const answers = await Promise.all(
    servers.map(async (url) => {
      const response = await fetch(`${url}/v1/${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
      return { status: response.status, ...((await response.json()) as { code?: string; message?: string }) };
    }),
  );
  const [ofAgent, ofSimulator] = answers;
  expect(ofSimulator).toEqual(ofAgent);
  expect(acted, `${method} ${path}`).toEqual([]);
  return ofAgent;
}

test('a wrong input of any call and task is told by the member that is wrong', async () => {
  for (const name of Object.keys(CALLS) as CallName[]) {
    const wrong = wrongInputs(right[name]).filter(({ why }) => /without|not known|a number/.test(why));
    for (const { why, input } of wrong)
      expect(await ask('POST', `calls/${name}`, JSON.stringify(input)), `${name} ${why}`).toMatchObject({
        status: 422,
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(`${name}: `),
      });
  }
  for (const name of Object.keys(TASKS) as TaskName[])
    expect(await ask('PUT', 'tasks/t', JSON.stringify({ name, input: { ...right[name], surplus: 1 } }))).toMatchObject({
      status: 422,
      message: expect.stringContaining('/surplus is not known'),
    });
  const { access } = right['ceph.status'];
  const told = await ask('POST', 'calls/ceph.status', JSON.stringify({ access: { ...access, key: 'not base64 !' } }));
  expect(told?.message).toContain('/access/key');
  expect(told?.message).not.toContain('not base64');
});

test('what is no request of the protocol is refused', async () => {
  const code = async (...asked: Parameters<typeof ask>) => (await ask(...asked))?.code;
  expect(await code('POST', 'calls/domain.explode', '{}')).toBe('NOT_SUPPORTED');
  expect(await code('POST', 'calls/toString', '{}')).toBe('NOT_SUPPORTED');
  expect(await code('PUT', 'tasks/t', '{"name":"host.tidy"}')).toBe('NOT_SUPPORTED');
  expect(await code('PUT', 'tasks/t', 'null')).toBe('NOT_SUPPORTED');
  expect(await code('PUT', `tasks/${encodeURIComponent('../x')}`, '{"name":"host.probe"}')).toBe('INVALID_ARGUMENT');
  expect(await code('POST', 'calls/host.facts', '{"')).toBe('INVALID_ARGUMENT');
  expect(await code('POST', 'calls/host.facts', `"${'x'.repeat(5 << 20)}"`)).toBe('INVALID_ARGUMENT');
  expect(await code('GET', `domains/${encodeURIComponent('../x')}/serial`)).toBe('INVALID_ARGUMENT');
  expect(await code('GET', 'calls/host.facts')).toBe('NOT_FOUND');
  expect(await code('GET', 'secrets')).toBe('NOT_FOUND');
});

test('what changes something says on whose behalf it comes, and what does not is asked freely', async () => {
  const until = { life: 'life', ms: 1e9 };
  const whole = headersOf(firstStamp, until);
  for (const name of Object.keys(CALLS) as CallName[]) {
    if (isQuestion(name)) continue;
    for (const missing of [LEASE_HEADER, STEP_HEADER, UNTIL_HEADER]) {
      const { [missing]: _, ...headers } = whole;
      const answer = await ask('POST', `calls/${name}`, JSON.stringify(right[name]), headers);
      expect(answer, `${name} without ${missing}`).toMatchObject({ status: 422, code: 'INVALID_ARGUMENT' });
    }
  }
  for (const header of [LEASE_HEADER, STEP_HEADER, UNTIL_HEADER])
    expect(
      await ask('POST', 'calls/domain.thaw', JSON.stringify(right['domain.thaw']), { ...whole, [header]: 'x y' }),
    ).toMatchObject({ code: 'INVALID_ARGUMENT', message: `the header ${header} is malformed` });
});
