/**
 * A host worker is stopped in the middle of every message that its operations send to hosts, for longer than its lease. Its successor
 * finishes the operations, the guests go on to other hosts, and then the first one goes on where it was.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, OperationView } from '../../lab/api.ts';
import { type Cloud, inBatches, instanceBody } from '../../lab/provision.ts';
import type { Message } from '../../lab/simulated/host/server.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { describe as inWords, type PersistentApi, persistent } from '../support/persistent.ts';
import { secondWorker, suspend } from '../support/suspend.ts';
import { changes } from '../support/world.ts';

const testTimeoutMs = 600_000;
let running: SimulatedCloud;
let admin: Api;
let cloud: Cloud;
let tenant: PersistentApi;
let picture: () => Promise<unknown>;
let wrong: () => Promise<string[]>;
let deploy: (name: string, more?: Record<string, unknown>) => Promise<{ id: string }>;
let goOn: () => void = () => {};
let endSecond: () => Promise<void> = async () => {};

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 8, faultInjection: false });
  const joined = joinCloud(running.address);
  ({ admin, cloud, picture, wrong, deploy } = joined);
  tenant = persistent(joined.cloud.tenant);
}, testTimeoutMs);

afterAll(async () => {
  goOn();
  await endSecond();
  await running?.stop();
}, 120_000);

const sim = async <T>(method: string, path: string, body?: unknown): Promise<T> =>
  (await (
    await fetch(`${running.address.simulatorUrl}/_sim/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  ).json()) as T;

const until = async (condition: () => Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 100));
};
const succeeds = async (method: string, path: string, body?: unknown): Promise<OperationView> => {
  const operation = await tenant.ended(method, path, body);
  expect(inWords(operation)).toContain(' succeeded');
  return operation;
};
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  succeeds('POST', `/v1/instances/${id}/actions/${verb}`, body);

interface Request {
  instanceId: string;
  /** What its messages are about. */
  about: string[];
  method: string;
  path: string;
  body: unknown;
}

const onInstance =
  (verb: string, body: unknown = {}, first: (id: string) => Promise<unknown> = async () => {}) =>
  async (name: string): Promise<Request> => {
    const { id } = await deploy(name);
    await first(id);
    return { instanceId: id, about: [id], method: 'POST', path: `/v1/instances/${id}/actions/${verb}`, body };
  };

const newVolume = async (name: string): Promise<string> =>
  (
    await succeeds('POST', '/v1/volumes', {
      name,
      zoneId: cloud.zone.id,
      volumeTypeId: cloud.volumeTypes[0]?.id,
      sizeGib: 1,
    })
  ).targetId;

const onVolume =
  (verb: 'attach' | 'detach') =>
  async (name: string): Promise<Request> => {
    const [{ id }, volumeId] = await Promise.all([deploy(name), newVolume(name)]);
    const path = `/v1/volumes/${volumeId}/actions`;
    if (verb === 'detach') await succeeds('POST', `${path}/attach`, { instanceId: id });
    const body = verb === 'attach' ? { instanceId: id } : {};
    return { instanceId: id, about: [id, volumeId], method: 'POST', path: `${path}/${verb}`, body };
  };

const subjects: Record<string, (name: string) => Promise<Request>> = {
  async create(name) {
    const requestedId = crypto.randomUUID();
    const body = instanceBody(cloud, name, { requestedId });
    return { instanceId: requestedId, about: [requestedId], method: 'POST', path: '/v1/instances', body };
  },
  start: onInstance('start', {}, (id) => act(id, 'stop', { mode: 'force' })),
  stop: onInstance('stop', { mode: 'soft' }),
  reboot: onInstance('reboot', { mode: 'force' }),
  migrate: onInstance('migrate'),
  attach: onVolume('attach'),
  detach: onVolume('detach'),
};

/** The messages of one operation that change something, each once. */
async function messagesOf(subject: string): Promise<string[]> {
  const request = await subjects[subject]?.(`model of ${subject}`);
  if (!request) throw new Error(`there is no ${subject}`);
  const { id } = await succeeds(request.method, request.path, request.body);
  const messages = await sim<Message[]>('GET', 'messages');
  return [...new Set(messages.filter(({ operationId }) => operationId === id).map(({ name }) => name))];
}

test(
  'stopped inside any message of create, start, stop, reboot, migrate, attach and detach, a worker changes nothing when it goes on',
  async () => {
    // The first deploy leaves a cached image in the pool, on purpose.
    await deploy('first');
    const cases = (
      await inBatches(Object.keys(subjects), 8, async (subject) =>
        (await messagesOf(subject)).map((message) => ({ subject, message })),
      )
    ).flat();
    const told = cases.map(({ subject, message }) => `${subject}: ${message}`);
    // If one of these is missing, the messages were not seen.
    for (const message of ['create: domain.ensureRunning', 'migrate: domain.migrate', 'attach: domain.ensureDisk'])
      expect(told).toContain(message);

    const prepared = await inBatches([...cases.entries()], 8, async ([index, { subject, message }]) => {
      const request = await subjects[subject]?.(`case ${index}`);
      if (!request) throw new Error(`there is no ${subject}`);
      return { ...request, message };
    });
    // What an image is cloned for, only its operation knows; everything else is held by what it is about.
    const clones = prepared.filter(({ message }) => message === 'rbd.ensureClone');
    const others = prepared.filter(({ message }) => message !== 'rbd.ensureClone');
    const held = async (count: number): Promise<void> =>
      until(async () => {
        const rules = await sim<{ used: number }[]>('GET', 'rules');
        return rules.filter(({ used }) => used > 0).length === count;
      });
    const watched = (await deploy('watched')).id;
    const operations: OperationView[] = [];
    const begin = async (requests: typeof prepared): Promise<void> => {
      for (const { message, about } of requests) {
        const rule = { call: message, when: 'before', action: 'hang', times: 1 };
        await sim('POST', 'rules', message === 'rbd.ensureClone' ? rule : { ...rule, about });
      }
      operations.push(
        ...(await Promise.all(
          requests.map(({ method, path, body }) => cloud.tenant.call<OperationView>(method, path, body)),
        )),
      );
    };
    await begin(clones);
    await held(clones.length);
    await begin(others);
    await held(prepared.length);

    const first = running.stack.pid('host');
    goOn = suspend(first);
    // The first one has this in its stream of events, and reads it when it goes on.
    const { hostId } = await admin.call('GET', `/v1/instances/${watched}`);
    const host = cloud.hosts.find(({ id }) => id === hostId)?.name;
    await sim('POST', `hosts/${host}/guestPowerOff`, { domainId: watched });
    endSecond = secondWorker(first, 'host-2');
    const ended = await Promise.all(operations.map(({ id }) => tenant.settled(id)));
    expect(ended.filter(({ state }) => state !== 'succeeded').map(inWords)).toEqual([]);

    await until(async () => (await admin.call('GET', `/v1/instances/${watched}`)).state === 'stopped');
    await act(watched, 'start');
    // Every guest goes on to another host than the one where an old message waits.
    await inBatches(prepared, 8, async ({ instanceId }) => {
      const { state } = await cloud.tenant.call('GET', `/v1/instances/${instanceId}`);
      if (state === 'stopped') await act(instanceId, 'start');
      await act(instanceId, 'migrate');
    });
    expect(await wrong()).toEqual([]);
    const before = await picture();
    const refused = async (): Promise<Message[]> =>
      (await sim<Message[]>('GET', 'messages')).filter(({ isRefused }) => isRefused);
    expect(await refused()).toEqual([]);

    await sim('DELETE', 'rules');
    goOn();
    await until(async () => (await refused()).length >= prepared.length);
    const known = new Set(operations.map(({ id }) => id));
    expect((await refused()).filter(({ operationId }) => !known.has(operationId))).toEqual([]);
    expect(changes(before, await picture())).toEqual([]);
    expect(await wrong()).toEqual([]);
    expect((await admin.call('GET', `/v1/instances/${watched}`)).state).toBe('running');
    console.log(`${prepared.length} old messages refused:\n${told.join('\n')}`);
  },
  testTimeoutMs,
);
