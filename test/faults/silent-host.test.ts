/**
 * Work on a pool can go through any host that reaches it. Here the messages of a worker are held up on a host that falls silent; the worker is
 * stopped, its successor does the work through another host, and the opposite is done after that. Then the host comes back, before anybody has
 * greeted it, and is handed the old messages.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, OperationView } from '../../lab/api.ts';
import { type Cloud, inBatches } from '../../lab/provision.ts';
import type { Message } from '../../lab/simulated/host/server.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { describe as inWords, type PersistentApi, persistent } from '../support/persistent.ts';
import { secondWorker, suspend } from '../support/suspend.ts';

const testTimeoutMs = 600_000;
let running: SimulatedCloud;
let admin: Api;
let cloud: Cloud;
let tenant: PersistentApi;
let real: () => Promise<unknown>;
let wrong: () => Promise<string[]>;
const goOn: (() => void)[] = [];
let endSecond: () => Promise<void> = async () => {};

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 3, faultInjection: false });
  const joined = joinCloud(running.address);
  ({ admin, cloud, wrong } = joined);
  real = async () => ((await joined.picture()) as { real: unknown }).real;
  tenant = persistent(joined.cloud.tenant);
}, testTimeoutMs);

afterAll(async () => {
  for (const letGo of goOn) letGo();
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

const volumeBody = (more: Record<string, unknown> = {}) => ({
  name: `volume-${crypto.randomUUID().slice(0, 8)}`,
  zoneId: cloud.zone.id,
  volumeTypeId: cloud.volumeTypes[0]?.id,
  sizeGib: 1,
  ...more,
});
const newVolume = async (): Promise<string> => (await succeeds('POST', '/v1/volumes', volumeBody())).targetId;
const newSnapshot = async (volumeId: string): Promise<string> =>
  (await succeeds('POST', '/v1/snapshots', { name: 's', volumeId })).targetId;
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  succeeds('POST', `/v1/volumes/${id}/actions/${verb}`, body);
const remove = (plural: string, id: string): Promise<OperationView> => succeeds('DELETE', `/v1/${plural}/${id}`);
const write = (volumeId: string, content: string): Promise<unknown> =>
  sim('POST', 'ceph', { pool: cloud.pools[0]?.pool, image: `volume-${volumeId}`, content });

interface Case {
  /** The message that is held up. */
  message: string;
  /** What it is about: an id that stands in it. */
  about: string;
  method: string;
  path: string;
  body?: unknown;
  /** Done after the operation has ended: an old message would show now. */
  opposite(): Promise<unknown>;
}

const onVolume = (volumeId: string, message: string, verb: string, opposite: () => Promise<unknown>): Case => ({
  message,
  about: volumeId,
  method: verb === 'delete' ? 'DELETE' : 'POST',
  path: verb === 'delete' ? `/v1/volumes/${volumeId}` : `/v1/volumes/${volumeId}/actions/${verb}`,
  ...(verb === 'delete' ? {} : { body: {} }),
  opposite,
});

async function cases(): Promise<Case[]> {
  const creating = async (message: string, more: Record<string, unknown>): Promise<Case> => {
    const requestedId = crypto.randomUUID();
    const body = volumeBody({ ...more, requestedId });
    const opposite = async (): Promise<void> => {
      await remove('volumes', requestedId);
      await act(requestedId, 'expunge');
    };
    return { message, about: requestedId, method: 'POST', path: '/v1/volumes', body, opposite };
  };
  const [kept, trashed, restored, reverted, grown, source] = await inBatches(Array(6).fill(0), 6, newVolume);
  if (!kept || !trashed || !restored || !reverted || !grown || !source) throw new Error('a volume is missing');
  await remove('volumes', restored);
  const from = await newSnapshot(source);
  const before = await newSnapshot(reverted);
  await write(reverted, 'what is given up');
  const requestedId = crypto.randomUUID();
  return [
    await creating('rbd.ensureImage', {}),
    await creating('rbd.ensureClone', { source: { snapshotId: from } }),
    onVolume(trashed, 'rbd.ensureTrashed', 'delete', () => act(trashed, 'recover')),
    onVolume(restored, 'rbd.ensureRestored', 'recover', () => remove('volumes', restored)),
    {
      ...onVolume(reverted, 'rbd.rollBack', 'revert', () => write(reverted, 'what was written since')),
      body: { snapshotId: before },
    },
    {
      ...onVolume(grown, 'rbd.ensureSize', 'resize', () => act(grown, 'resize', { sizeGib: 3 })),
      body: { sizeGib: 2 },
    },
    {
      message: 'rbd.ensureSnapshot',
      about: requestedId,
      method: 'POST',
      path: '/v1/snapshots',
      body: { name: 's', volumeId: kept, requestedId },
      opposite: () => remove('snapshots', requestedId),
    },
  ];
}

test(
  'what was sent to a host that fell silent is not done when it comes back: others have done it, and gone on',
  async () => {
    // Work on volumes that no guest has goes through the host that is open.
    const [host, ...others] = cloud.hosts;
    if (!host) throw new Error('there is no host');
    const prepared = await cases();
    for (const { id } of others) await admin.call('PATCH', `/v1/hosts/${id}`, { enabled: false });
    for (const { message, about } of prepared)
      await sim('POST', 'rules', { call: message, about: [about], when: 'before', action: 'hang', times: 1 });
    const operations = await Promise.all(
      prepared.map(({ method, path, body }) => cloud.tenant.call<OperationView>(method, path, body)),
    );
    const struck = async (): Promise<number> =>
      (await sim<{ used: number }[]>('GET', 'rules')).filter(({ used }) => used > 0).length;
    await until(async () => (await struck()) === prepared.length);

    const first = running.stack.pid('host');
    goOn.push(suspend(first));
    await sim('POST', `hosts/${host.name}/partition`, { quietly: true });
    const second = secondWorker(first, 'host-2');
    endSecond = second;
    const ended = await Promise.all(operations.map(({ id }) => tenant.settled(id)));
    expect(ended.filter(({ state }) => state !== 'succeeded').map(inWords)).toEqual([]);
    for (const { opposite } of prepared) await opposite();
    const before = await real();
    expect(await wrong()).toEqual([]);

    goOn.push(suspend(second.pid));
    const known = new Set(operations.map(({ id }) => id));
    const ofThem = async (): Promise<Message[]> =>
      (await sim<Message[]>('GET', 'messages')).filter(
        ({ host: by, operationId }) => by === host.name && known.has(operationId),
      );
    const sent = (await ofThem()).length;
    await sim('POST', `hosts/${host.name}/heal`);
    await sim('DELETE', 'rules');
    await until(async () => (await ofThem()).length === sent + prepared.length);
    const arrived = (await ofThem()).slice(sent);
    for (const letGo of goOn) letGo();
    expect(arrived.filter(({ isRefused }) => !isRefused)).toEqual([]);
    await until(async () => (await admin.call('GET', `/v1/hosts/${host.id}`)).connection === 'connected');
    expect(await real()).toEqual(before);
    expect(await wrong()).toEqual([]);
  },
  testTimeoutMs,
);
