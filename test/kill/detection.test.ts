/** Who finds failed hosts may sleep, die, or be two at a time: a host is failed over once, and none because somebody slept. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { untilSeen } from '../support/operations.ts';
import { secondWorker, suspend } from '../support/suspend.ts';

const testTimeoutMs = 300_000;
let running: SimulatedCloud;
let admin: Api;
let hosts: Resource[];
const end: (() => Promise<void>)[] = [];

interface Host extends Resource {
  health: string;
  currentOperationId: string | null;
}

const list = async <T>(path: string, filter: string): Promise<T[]> =>
  (await admin.call<{ items: T[] }>('GET', `/v1/${path}?pageSize=500&filter=${encodeURIComponent(filter)}`)).items;
const failovers = (host: Resource | undefined): Promise<OperationView[]> =>
  list('operations', `targetId = "${host?.id}" AND type = "host.failover"`);
const now = (host: Resource | undefined): Promise<Host> => admin.call('GET', `/v1/hosts/${host?.id}`);
const crash = (host: Resource | undefined): Promise<unknown> =>
  fetch(`${running.address.simulatorUrl}/_sim/hosts/${host?.name}/crash`, { method: 'POST', body: '{}' });
const isFenced = ({ state, currentOperationId }: Host): boolean => state === 'fenced' && currentOperationId === null;

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 2, faultInjection: false });
  ({ admin } = joinCloud(running.address));
  const zone = await admin.call('POST', '/v1/zones', { name: 'detection' });
  const pod = await admin.call('POST', '/v1/pods', { name: 'detection', zoneId: zone.id });
  const cluster = await admin.call('POST', '/v1/clusters', { name: 'detection', podId: pod.id });
  const simulator = new URL(running.address.simulatorUrl).host;
  hosts = await Promise.all(
    [10, 11, 12, 13].map((n) =>
      make(admin, 'hosts', { name: `host-${n}`, clusterId: cluster.id, address: `sim://${simulator}/host-${n}` }),
    ),
  );
  await make(admin, 'storage-pools', {
    name: 'heartbeats',
    type: 'sharedMount',
    storageClass: 'detection',
    clusterIds: [cluster.id],
    source: { path: '/srv/detection' },
  });
}, testTimeoutMs);

afterAll(async () => {
  for (const each of end) await each();
  await running?.stop();
}, 120_000);

test(
  'a control plane that slept concludes nothing of the hosts that it did not hear meanwhile',
  async () => {
    const pid = running.stack.pid('host');
    const awake = suspend(pid);
    const asleepAt = performance.now();
    // Longer than any silence that means something, and than its lease.
    await untilSeen(
      async () => performance.now() - asleepAt,
      (ms) => ms > 20_000,
    );
    awake();
    // It is known to be awake again once it has said of all hosts that it hears them.
    const wokenAt = Date.now();
    for (const host of hosts)
      await untilSeen(
        () => now(host),
        (seen) => seen.connection === 'connected' && Date.parse(String(seen.lastSeenAt)) > wokenAt,
      );
    for (const host of hosts) {
      expect(await now(host)).toMatchObject({ health: 'well', state: 'active' });
      expect(await list('events', `resourceId = "${host.id}" AND type = "host.healthChanged"`)).toEqual([]);
    }
    expect(await list('findings', 'what = "zoneSilent"')).toEqual([]);
  },
  testTimeoutMs,
);

test(
  'a host whose worker is stopped while it looks for it is found by the next, and failed over once',
  async () => {
    const [host] = hosts;
    const pid = running.stack.pid('host');
    await crash(host);
    await untilSeen(
      () => now(host),
      ({ health }) => health !== 'well',
    );
    const awake = suspend(pid);
    end.push(secondWorker(pid, 'second'));
    await untilSeen(() => now(host), isFenced);
    awake();
    await untilSeen(
      () => now(hosts[1]),
      ({ connection }) => connection === 'connected',
    );
    expect(await failovers(host)).toHaveLength(1);
    for (const other of hosts.slice(1)) expect(await failovers(other)).toEqual([]);
  },
  testTimeoutMs,
);
