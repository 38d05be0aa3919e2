/** Wires: what hosts are told of them, which networks are on them and with which tag, what is refused, and who sees them. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import { localnetName } from '../../activities/network/network.ts';
import { wireName } from '../../activities/network/physicalNetwork.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { answer } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;
const clusterId = cloud.cluster.id;
const rootProject = '00000000-0000-4000-8000-000000000004';
afterEach(() => setRules(admin, []));

let count = 0;
const wireBody = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  name: `wire ${++count}`,
  zoneId,
  encapsulation: 'vlan',
  bridge: `br-phy-w${count}`,
  clusterIds: [clusterId],
  segmentRanges: [{ from: 100, to: 101 }],
  ...more,
});
const newWire = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(admin, 'physical-networks', wireBody(more));
const networkBody = (physicalNetworkId: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  name: 'on a wire',
  zoneId,
  projectId: rootProject,
  type: 'vlan',
  physicalNetworkId,
  ...more,
});
const newNetwork = (id: string, more: Record<string, unknown> = {}): Promise<Resource> =>
  make(admin, 'networks', networkBody(id, more));
const remove = (plural: string, id: string): Promise<unknown> => admin.done('DELETE', `/v1/${plural}/${id}`);
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.done('POST', `/v1/physical-networks/${id}/actions/${verb}`, body);

/** By host, the bridge that leads to the wire. */
async function bridgesOf(physicalNetworkId: string): Promise<Set<string>> {
  const { hosts } = await simulatorInventory(address.simulatorUrl);
  return new Set(
    Object.values(hosts as Record<string, { mappings?: { physicalNetworkId: string; bridge: string }[] }>).flatMap(
      ({ mappings = [] }) =>
        mappings.filter((one) => one.physicalNetworkId === physicalNetworkId).map(({ bridge }) => bridge),
    ),
  );
}
const rows = async (table: string): Promise<Record<string, unknown>[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Record<string, unknown>[];
const wirePort = async (networkId: string): Promise<Record<string, unknown> | undefined> =>
  (await rows('Logical_Switch_Port')).find(({ name }) => name === localnetName(networkId));

describe('a physical network', () => {
  test('leads every host of its clusters through its bridge, and none any more once it is gone', async () => {
    const wire = await newWire();
    expect(wire).toMatchObject({ state: 'ready', encapsulation: 'vlan', mtu: 1500, enabled: true });
    expect(await bridgesOf(wire.id)).toEqual(new Set([wire.bridge]));
    await act(wire.id, 'detachCluster', { clusterId });
    expect(await bridgesOf(wire.id)).toEqual(new Set());
    await act(wire.id, 'attachCluster', { clusterId });
    await act(wire.id, 'repair');
    expect(await bridgesOf(wire.id)).toEqual(new Set([wire.bridge]));
    await remove('physical-networks', wire.id);
    expect(await bridgesOf(wire.id)).toEqual(new Set());
  });

  test('whose bridge a host has not is none, and no host is led to it', async () => {
    const body = wireBody({ bridge: 'br-missing' });
    const { id } = await admin.call<OperationView>('POST', '/v1/physical-networks', body);
    const ended = await admin.settled(id);
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'PRECONDITION_FAILED']);
    expect(ended.error?.message).toContain('br-missing');
  });

  test('of geneve asks nothing of hosts', async () => {
    const wire = await newWire({ encapsulation: 'geneve', bridge: null, segmentRanges: [] });
    await remove('physical-networks', wire.id);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['vlan without a bridge', { bridge: null }, 'bridge'],
    ['geneve with one', { encapsulation: 'geneve', segmentRanges: [] }, 'bridge'],
    ["the bridge of OVN's own", { bridge: 'br-int' }, 'bridge'],
    ['flat with tags', { encapsulation: 'flat' }, 'segmentRanges'],
    ['a range that is reversed', { segmentRanges: [{ from: 9, to: 8 }] }, 'segmentRanges.0.to'],
    [
      'ranges that cross',
      {
        segmentRanges: [
          { from: 5, to: 9 },
          { from: 9, to: 12 },
        ],
      },
      'segmentRanges.1.from',
    ],
    ['a tag that is none', { segmentRanges: [{ from: 1, to: 4095 }] }, 'segmentRanges.0.to'],
    ['a cluster that is not there', { clusterIds: [crypto.randomUUID()] }, 'clusterIds'],
  ])('is refused: %s', async (_, more, field) => {
    const refused = await answer(admin, 'POST', '/v1/physical-networks', wireBody(more));
    expect(refused.violations).toEqual([expect.objectContaining({ field })]);
  });

  test('shares no bridge with another, and takes a cluster once', async () => {
    const wire = await newWire();
    const twin = await answer(admin, 'POST', '/v1/physical-networks', wireBody({ bridge: wire.bridge }));
    expect([twin.status, twin.code]).toEqual([409, 'NAME_IN_USE']);
    const again = await answer(admin, 'POST', `/v1/physical-networks/${wire.id}/actions/attachCluster`, { clusterId });
    expect([again.status, again.code]).toEqual([409, 'ALREADY_ATTACHED']);
    await remove('physical-networks', wire.id);
  });

  test('is nothing that tenants see, make or name', async () => {
    const wire = await newWire();
    expect((await answer(tenant, 'GET', `/v1/physical-networks/${wire.id}`)).status).toBe(404);
    expect((await answer(tenant, 'POST', '/v1/physical-networks', wireBody())).status).toBe(403);
    const body = { name: 'theirs', zoneId, type: 'vlan', physicalNetworkId: wire.id };
    expect((await answer(tenant, 'POST', '/v1/networks', body)).status).toBe(404);
    await remove('physical-networks', wire.id);
  });
});

describe('a network on a wire', () => {
  test('has a tag of its own, and a port that leads out by it', async () => {
    const wire = await newWire();
    const [one, other] = await Promise.all([newNetwork(wire.id), newNetwork(wire.id)]);
    expect([one.segmentId, other.segmentId].sort()).toEqual([100, 101]);
    const port = await wirePort(one.id);
    expect(port).toMatchObject({
      type: 'localnet',
      tag: [one.segmentId],
      options: { network_name: wireName(wire.id) },
      addresses: ['unknown'],
    });
    const full = await answer(admin, 'POST', '/v1/networks', networkBody(wire.id));
    expect([full.status, full.code]).toEqual([409, 'ADDRESS_EXHAUSTED']);
    const held = await answer(admin, 'DELETE', `/v1/physical-networks/${wire.id}`);
    expect([held.status, held.code]).toEqual([409, 'HAS_DEPENDENTS']);
    await remove('networks', one.id);
    expect(await wirePort(one.id)).toBeUndefined();
    const again = await newNetwork(wire.id);
    expect(again.segmentId).toBe(one.segmentId);
    for (const { id } of [other, again]) await remove('networks', id);
    await remove('physical-networks', wire.id);
  });

  test('that asks for a tag has it, and of two who ask at the same moment one', async () => {
    const wire = await newWire();
    const asked = await Promise.all(
      [1, 2, 3].map(() => answer(admin, 'POST', '/v1/networks', networkBody(wire.id, { segmentId: 100 }))),
    );
    expect(asked.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    const refused = asked.find(({ status }) => status === 409);
    expect([refused?.code, refused?.violations]).toEqual([
      'ADDRESS_IN_USE',
      [expect.objectContaining({ field: 'segmentId' })],
    ]);
    const made = asked.find(({ status }) => status === 202) as unknown as OperationView;
    await admin.settled(made.id);
    await remove('networks', String(made.targetId));
    await remove('physical-networks', wire.id);
  });

  test('that is flat is there once', async () => {
    const wire = await newWire({ encapsulation: 'flat', segmentRanges: [] });
    const { id } = await newNetwork(wire.id, { type: 'flat' });
    expect(await wirePort(id)).not.toHaveProperty('tag');
    const second = await answer(admin, 'POST', '/v1/networks', networkBody(wire.id, { type: 'flat' }));
    expect([second.status, second.code]).toEqual([409, 'ADDRESS_IN_USE']);
    await remove('networks', id);
    await remove('physical-networks', wire.id);
  });

  test('is repaired with its port, which the auditor misses', async () => {
    const wire = await newWire();
    const { id } = await newNetwork(wire.id);
    const before = await wirePort(id);
    await admin.done('POST', `/v1/networks/${id}/actions/repair`, {});
    expect(await wirePort(id)).toEqual(before);
    await remove('networks', id);
    await remove('physical-networks', wire.id);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['no wire', { physicalNetworkId: null }, 'physicalNetworkId'],
    ['another sort of wire', { type: 'flat' }, 'physicalNetworkId'],
    ['a tag outside the ranges', { segmentId: 99 }, 'segmentId'],
    ['an overlay that leads outside', { type: 'overlay', physicalNetworkId: null, external: true }, 'external'],
  ])('is refused: %s', async (_, more, field) => {
    const wire = await newWire();
    const refused = await answer(admin, 'POST', '/v1/networks', networkBody(wire.id, more));
    expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
    await remove('physical-networks', wire.id);
  });

  test('is for operators to make, and so is one that leads outside', async () => {
    for (const more of [{ type: 'vlan' }, { type: 'flat' }, { external: true }, { visibility: 'public' }]) {
      const refused = await answer(tenant, 'POST', '/v1/networks', { name: 'mine', zoneId, ...more });
      expect([refused.status, refused.code]).toEqual([403, 'FORBIDDEN']);
    }
  });

  test('carries instances where its wire is, and keeps the wire there as long as they are', async () => {
    const wire = await newWire({ clusterIds: [] });
    const network = await newNetwork(wire.id, { projectId: cloud.project.id });
    const subnet = await make(tenant, 'subnets', { name: 's', networkId: network.id, cidr: '10.33.0.0/24' });
    const body = instanceBody(cloud, 'on a wire', { networkInterfaces: [{ subnetId: subnet.id }] });
    expect((await answer(tenant, 'POST', '/v1/instances', body)).code).toBe('NO_CAPACITY');
    await act(wire.id, 'attachCluster', { clusterId });
    const instance = await make(tenant, 'instances', body);
    const path = `/v1/physical-networks/${wire.id}/actions/detachCluster`;
    const asked = await admin.call<OperationView>('POST', path, { clusterId });
    expect(await admin.settled(asked.id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    expect(await bridgesOf(wire.id)).toEqual(new Set([wire.bridge]));
    // Which wire it is, and by which tag, is nothing that a tenant is told.
    expect(await tenant.call('GET', `/v1/networks/${network.id}`)).toMatchObject({
      type: 'vlan',
      physicalNetworkId: null,
      segmentId: null,
    });
    await tenant.done('DELETE', `/v1/instances/${instance.id}?expunge=true`);
    await act(wire.id, 'detachCluster', { clusterId });
    await tenant.done('DELETE', `/v1/networks/${network.id}?cascade=true`);
    await remove('physical-networks', wire.id);
  });
});

describe('an external network', () => {
  test('is seen by all who may use it, and no instance is plugged in there', async () => {
    const wire = await newWire({ encapsulation: 'flat', segmentRanges: [] });
    const outside = await newNetwork(wire.id, { type: 'flat', external: true, visibility: 'public' });
    const range = {
      name: 'public',
      networkId: outside.id,
      cidr: '198.51.100.0/24',
      gateway: '198.51.100.1',
      allocationRanges: [{ from: '198.51.100.10', to: '198.51.100.20' }],
    };
    const crossing = { ...range, gateway: '198.51.100.15' };
    for (const [body, field] of [
      [crossing, 'gateway'],
      [{ ...range, dhcp: true }, 'dhcp'],
    ] as const) {
      const refused = await answer(admin, 'POST', '/v1/subnets', body);
      expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
    }
    const subnet = await make(admin, 'subnets', range);
    expect(subnet).toMatchObject({ external: true, dhcp: false });
    expect(await tenant.call('GET', `/v1/networks/${outside.id}`)).toMatchObject({ external: true });
    const theirs = await answer(tenant, 'POST', '/v1/subnets', { ...range, cidr: '203.0.113.0/24' });
    expect([403, 404]).toContain(theirs.status);
    const body = instanceBody(cloud, 'outside', {
      networkInterfaces: [{ subnetId: subnet.id }],
      projectId: rootProject,
    });
    const refused = await answer(admin, 'POST', '/v1/instances', body);
    expect(refused.violations).toEqual([expect.objectContaining({ field: 'networkInterfaces.0.subnetId' })]);
    await remove('subnets', subnet.id);
    await remove('networks', outside.id);
    await remove('physical-networks', wire.id);
  });
});
