/** A host that fails is found by several witnesses, and by no single one; whoever can not know says so and does nothing. */
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { type DetectedHost, detecting, isFenced } from '../support/detection.ts';
import { refusal, untilSeen } from '../support/operations.ts';

const address = inject('cloud');
const { admin, cloud, wrong, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const {
  now,
  list,
  failovers,
  suffer: sim,
  cluster: newCluster,
  zone: newZone,
} = detecting(admin, address.simulatorUrl);

interface Finding extends Resource {
  what: string;
  severity: string;
  actual: string;
  sightings: number;
  ignoreReason: string | null;
}

/** A zone of this file alone, with one pool of files in which its twelve hosts leave their heartbeats. A quarter of them may fail at once. */
let zone: Resource;
let hosts: Resource[] = [];
const names = Array.from({ length: 12 }, (_, n) => `host-${150 + n}`);

const becomes = (host: Resource | undefined, health: string): Promise<DetectedHost> =>
  untilSeen(
    () => now(host),
    (seen) => seen.health === health,
  );
const findings = (resource: Resource | undefined, state = 'open'): Promise<Finding[]> =>
  list('findings', `resourceId = "${resource?.id}" AND state = "${state}"`);

beforeAll(async () => {
  ({ zone, hosts } = await newZone(names));
}, 120_000);

/** As at the beginning, whatever was done to it. */
async function restore(host: Resource): Promise<void> {
  await sim(host, 'heal');
  await untilSeen(
    async () => {
      const seen = await now(host);
      // Its failover may have begun in the last moment.
      if (isFenced(seen)) await admin.done('POST', `/v1/hosts/${host.id}/actions/reinstate`, {});
      return seen;
    },
    ({ state, health }) => state === 'active' && health === 'well',
  );
  await untilSeen(
    () => findings(host),
    (open) => open.length === 0,
  );
}
afterEach(async () => {
  await Promise.all(hosts.map(restore));
  await untilSeen(
    () => findings(zone),
    (open) => open.length === 0,
  );
}, 120_000);

test('a host that any other witness sees is left alone, and a finding says why', async () => {
  const [alone, unseen, unstored] = hosts;
  await sim(unseen, 'cut', { from: ['peers'] });
  await sim(unstored, 'cut', { from: ['storage'] });
  for (const host of [alone, unseen, unstored]) await sim(host, 'partition');
  for (const [host, told] of [
    [alone, /reach it in the network; it still leaves its heartbeat/],
    [unseen, /do not reach it in the network either; it still leaves its heartbeat/],
    [unstored, /reach it in the network; it leaves no heartbeat/],
  ] as const) {
    const { healthReason } = await becomes(host, 'unreachable');
    expect(healthReason).toMatch(told);
    expect(healthReason).toContain('its guests are left alone');
    expect(await findings(host)).toMatchObject([
      { class: 'risk', severity: 'warning', what: 'hostUnreachable', actual: healthReason },
    ]);
  }
  // Asked again, they say the same.
  const [seenOnce] = await findings(alone);
  await untilSeen(
    () => findings(alone),
    ([finding]) => (finding?.sightings ?? 0) > (seenOnce?.sightings ?? 0),
  );
  for (const host of [alone, unseen, unstored]) {
    expect(await now(host)).toMatchObject({ state: 'active', health: 'unreachable' });
    expect(await failovers(host)).toEqual([]);
  }

  // A person knows of it, and wants to hear no more.
  const path = `/v1/findings/${seenOnce?.id}`;
  const ignore = (until: string): Promise<unknown> =>
    admin.call('POST', `${path}/actions/ignore`, { until, reason: 'the switch is replaced' });
  expect(await refusal(ignore('2020-01-01T00:00:00Z'))).toBe('422 INVALID_ARGUMENT');
  await ignore('2100-01-01T00:00:00Z');
  await admin.call('PATCH', path, { note: 'Ada is at it' });
  expect(await findings(alone)).toEqual([]);
  expect(await refusal(tenant.call('GET', path))).toMatch(/^40[34]/);

  await sim(alone, 'heal');
  expect(await becomes(alone, 'well')).toMatchObject({ healthReason: null });
  expect(await findings(alone, 'gone')).toMatchObject([{ id: seenOnce?.id, ignoreReason: null, note: 'Ada is at it' }]);
});

test('a host that only its storage is cut from is used, and a finding says so', async () => {
  const [host] = hosts;
  await sim(host, 'cut', { from: ['storage'] });
  await untilSeen(
    () => findings(host),
    ([finding]) => finding?.what === 'storageUnreachable',
  );
  expect(await now(host)).toMatchObject({ health: 'well', connection: 'connected', state: 'active' });
  expect(await failovers(host)).toEqual([]);
});

test('a host whose hypervisor does not answer is used, and a finding says so until it does', async () => {
  const [, host] = hosts;
  await sim(host, 'cut', { from: ['hypervisor'] });
  const [found] = await untilSeen(
    () => findings(host),
    ([finding]) => finding?.what === 'hypervisorSilent',
  );
  expect(await now(host)).toMatchObject({ health: 'well', connection: 'connected', state: 'active' });
  await sim(host, 'heal');
  await untilSeen(
    () => findings(host, 'gone'),
    (gone) => gone.some(({ id }) => id === found?.id),
  );
});

test('a host that has lost its power, hangs, or is cut from everybody is down, and its failover begins once', async () => {
  const failed = hosts.slice(3, 6);
  const [powerless, hanging, cutOff] = failed;
  await sim(powerless, 'crash');
  await sim(hanging, 'freeze');
  await sim(cutOff, 'cut', { from: ['peers', 'storage'] });
  await sim(cutOff, 'partition');
  for (const host of failed) {
    await untilSeen(() => now(host), isFenced);
    expect(await failovers(host)).toHaveLength(1);
    expect((await now(host)).healthReason).toMatch(/do not reach it in the network either; it leaves no heartbeat/);
    const events = await list<{ payload: DetectedHost }>(
      'events',
      `resourceId = "${host.id}" AND type = "host.healthChanged"`,
    );
    expect(events.map(({ payload }) => payload.health)).toEqual(expect.arrayContaining(['suspect', 'down']));
    // There is nothing that a person must do.
    expect(await findings(host)).toEqual([]);
  }
});

test('of more hosts than may fail at once not all are failed over, and a person is called', async () => {
  const failed = hosts.slice(6, 10);
  await Promise.all(failed.map((host) => sim(host, 'crash')));
  const open = async (): Promise<Finding[]> => (await Promise.all(failed.map((host) => findings(host)))).flat();
  const held = await untilSeen(open, (seen) => seen.some(({ what }) => what === 'hostDown'));
  expect(held.find(({ what }) => what === 'hostDown')).toMatchObject({
    severity: 'critical',
    actual: expect.stringContaining('4 hosts of its zone fail at once, and 3 may without a person'),
  });
  expect((await Promise.all(failed.map(failovers))).flat().length).toBeLessThanOrEqual(3);
});

test('when most of a zone is silent nothing is concluded of any of its hosts, and one finding says so', async () => {
  const silent = hosts.slice(0, 7);
  const before = (await Promise.all(silent.map(failovers))).flat();
  await Promise.all(silent.map((host) => sim(host, 'crash')));
  for (const host of silent)
    await untilSeen(
      () => now(host),
      ({ healthReason }) => healthReason?.includes('5 of 12 hosts are heard') === true,
    );
  expect(await findings(zone)).toMatchObject([{ what: 'zoneSilent', severity: 'critical' }]);
  for (const host of silent) {
    expect(await now(host)).toMatchObject({ state: 'active', health: 'unreachable' });
    expect(await findings(host)).toEqual([]);
  }
  expect((await Promise.all(silent.map(failovers))).flat()).toHaveLength(before.length);
});

test('a cluster that does not fail over by itself says that its host is down, and a person begins it', async () => {
  const host = hosts[11];
  const { clusterId } = await now(host);
  const ha = (enabled: boolean): Promise<unknown> =>
    admin.call('PATCH', `/v1/clusters/${clusterId}`, { ha: { enabled, requireFence: true, suspectSeconds: 4 } });
  await ha(false);
  try {
    await sim(host, 'crash');
    const [found] = await untilSeen(
      () => findings(host),
      ([finding]) => finding?.what === 'hostDown',
    );
    // A failover by hand would stop them.
    expect(found?.actual).toContain('belay clusters update <cluster> --ha.enabled');
    expect(found?.actual).not.toContain('belay hosts failover');
    expect(await now(host)).toMatchObject({ state: 'active', health: 'down' });
    await admin.done('POST', `/v1/hosts/${host?.id}/actions/failover`, {});
  } finally {
    await ha(true);
  }
});

test('an instance of a host that has failed runs elsewhere, and nobody has asked for it', async () => {
  const { cluster, hosts: made } = await newCluster('guests', cloud.zone.id, ['host-162', 'host-163', 'host-164']);
  const pool = await make(admin, 'storage-pools', {
    name: 'failing',
    pool: 'failing',
    replicas: 1,
    failureDomain: 'osd',
    storageClass: 'failing',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cluster.id],
  });
  const volumeType = await admin.call('POST', '/v1/volume-types', { name: 'failing', storageClass: 'failing' });
  const instance = await make(
    tenant,
    'instances',
    instanceBody(cloud, 'survivor', { rootVolume: { volumeTypeId: volumeType.id } }),
  );
  const { hostId } = await admin.call('GET', `/v1/instances/${instance.id}`);
  const host = made.find(({ id }) => id === hostId);
  await sim(host, 'crash');
  const moved = await untilSeen(
    () => admin.call<Resource & { hostId: string }>('GET', `/v1/instances/${instance.id}`),
    (seen) => seen.state === 'running' && seen.hostId !== hostId,
  );
  expect(made.map(({ id }) => id)).toContain(moved.hostId);
  expect(await failovers(host)).toHaveLength(1);
  await untilSeen(() => now(host), isFenced);
  await sim(host, 'heal');
  await admin.done('POST', `/v1/hosts/${host?.id}/actions/reinstate`, {});
  expect(await becomes(host, 'well')).toMatchObject({ state: 'active', healthReason: null });
  expect(await wrong()).toEqual([]);
  await removeInstance(instance.id);
  await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
  for (const { id } of made) await admin.done('DELETE', `/v1/hosts/${id}`);
});
