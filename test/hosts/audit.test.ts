/** What is made and removed by hand is found after it was seen twice, told, and repaired where somebody asks for it or where that is safe. */
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import { addressSetName } from '../../activities/network/addressGroup.ts';
import { firewallGroupName } from '../../activities/network/firewallWrites.ts';
import { balancerName } from '../../activities/network/loadBalancer.ts';
import { networkGroup, switchName } from '../../activities/network/network.ts';
import {
  map,
  type OvsdbOperation,
  openNorthbound,
  rowTags,
  set,
  taggedWith,
} from '../../activities/network/northbound.ts';
import { forwardName } from '../../activities/network/portForward.ts';
import { securityGroupName } from '../../activities/network/securityGroup.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { maintenanceId } from '../../model/platform/maintenance.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { maintainUntil, triggered, withTemporal } from '../support/maintenance.ts';
import { follower, inStep, refusal } from '../support/operations.ts';
import { newOutside } from '../support/outside.ts';
import { setSetting } from '../support/settings.ts';
import { befall, realityOf, simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const northbound = openNorthbound(address.northbound);
/** Hosts of this file alone. */
const [home, other] = ['host-186', 'host-187'];
const hostIds = new Map<string, string>();
const idOf = (name: string): string => hostIds.get(name) ?? '';

const byHand = (operations: OvsdbOperation[]) => northbound.transact('by hand', operations);
const at = (host: string, what: string, body: Record<string, unknown>): Promise<void> =>
  befall(address.simulatorUrl, host, what, body);

interface Finding extends Resource {
  class: string;
  severity: string;
  what: string;
  actual: string;
  sightings: number;
}
const scan = (body: Record<string, unknown>): Promise<OperationView> =>
  admin.done('POST', '/v1/findings/actions/scan', body) as Promise<OperationView>;
const found = async (resourceId: string): Promise<Finding[]> =>
  (
    await admin.call<{ items: Finding[] }>(
      'GET',
      `/v1/findings?filter=${encodeURIComponent(`resourceId = "${resourceId}"`)}&orderBy=createdAt`,
    )
  ).items;
const seen = async (resourceId: string): Promise<string[]> =>
  (await found(resourceId)).map((one) => `${one.class} ${one.what} ${one.state}`);
async function theOne(resourceId: string, as: string): Promise<Finding> {
  const one = (await found(resourceId)).find((finding) => `${finding.class} ${finding.what}` === as);
  if (!one) throw new Error(`there is no finding ${as} of ${resourceId}`);
  return one;
}
const repair = (id: string): Promise<OperationView> => admin.call('POST', `/v1/findings/${id}/actions/repair`, {});
/** Seen twice, repaired, and not seen again. */
async function foundAndRepaired(resourceId: string, as: string, scope: Record<string, unknown>): Promise<Finding> {
  const state = async (): Promise<string> => (await theOne(resourceId, as)).state;
  await scan(scope);
  expect(await state()).toBe('sighted');
  await scan(scope);
  expect(await state()).toBe('open');
  const one = await theOne(resourceId, as);
  const ended = await admin.settled((await repair(one.id)).id);
  expect([ended.state, ended.error?.message]).toEqual(['succeeded', undefined]);
  await scan(scope);
  expect(await state()).toBe('repaired');
  return one;
}
const onHost = (name: string): Record<string, unknown> => ({ scope: 'host', id: idOf(name) });
const running = async (id: string): Promise<string[]> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).running.get(id) ?? [];

/** An instance on the first of the two hosts. */
async function guest(name: string): Promise<string> {
  const body = { ...instanceBody(cloud, name), projectId: cloud.project.id, requestedHostId: idOf(home) };
  return ((await admin.done('POST', '/v1/instances', body)) as OperationView).targetId;
}

/** Looks that nobody in this file has asked for would count, too. */
const byItself = ['scanHosts', 'scanNetwork', 'scanPools'] as const;
const eachSchedule = (verb: 'pause' | 'unpause'): Promise<unknown> =>
  withTemporal(address.temporalAddress, (temporal) =>
    Promise.all(byItself.map((name) => temporal.schedule.getHandle(maintenanceId(name))[verb]())),
  );

let restoreGrace: () => Promise<void> = async () => {};
beforeAll(async () => {
  const simulator = new URL(address.simulatorUrl).host;
  for (const name of [home, other])
    hostIds.set(
      name,
      (await make(admin, 'hosts', { name, clusterId: cloud.cluster.id, address: `sim://${simulator}/${name}` })).id,
    );
  await removeInstance((await deploy('first')).id);
  await eachSchedule('pause');
  restoreGrace = await setSetting(admin, 'audit.graceSeconds', 0);
});
afterEach(async () => expect(await wrong()).toEqual([]));
afterAll(async () => {
  await eachSchedule('unpause');
  await restoreGrace();
  for (const id of hostIds.values()) await admin.done('DELETE', `/v1/hosts/${id}`);
  northbound.close();
});

test('a guest without an instance is found on its host, and ended there', async () => {
  const model = await guest('orphan-model');
  const stray = crypto.randomUUID();
  await at(home, 'plantGuest', { domainId: stray, like: model });
  const { severity } = await foundAndRepaired(stray, 'orphan guestStray', onHost(home));
  expect(severity).toBe('error');
  expect(await running(stray)).toEqual([]);
  expect(await seen(model)).toEqual([]);
  await removeInstance(model);
});

test('an instance whose guest has vanished is found, and stopped by its repair', async () => {
  const id = await guest('missing');
  await at(home, 'dropGuest', { domainId: id });
  await foundAndRepaired(id, 'missing guest', onHost(home));
  expect(await tenant.call('GET', `/v1/instances/${id}`)).toMatchObject({ state: 'stopped', hostId: null });
  await removeInstance(id);
});

test('a guest on another host than its own is misplaced; while both run it is there twice, and only the stray is ended', async () => {
  const id = await guest('twice');
  await at(other, 'plantGuest', { domainId: id, like: id });
  for (const name of [other, home, other, home]) await scan(onHost(name));
  expect((await seen(id)).sort()).toEqual(['duplicate guestTwice open', 'misplaced guestElsewhere open']);
  const twice = (await found(id)).find(({ what }) => what === 'guestTwice');
  expect(twice?.severity).toBe('critical');
  expect((await admin.settled((await repair(twice?.id ?? '')).id)).state).toBe('succeeded');
  expect(await running(id)).toEqual([home]);
  for (const name of [other, home]) await scan(onHost(name));
  expect((await seen(id)).sort()).toEqual(['duplicate guestTwice repaired', 'misplaced guestElsewhere gone']);
  await removeInstance(id);
});

test('a guest at home is not ended by a repair of what was seen before', async () => {
  const id = await guest('at-home');
  const removal = admin.call<OperationView>('POST', `/v1/hosts/${idOf(home)}/actions/removeStray`, { instanceId: id });
  expect((await admin.settled((await removal).id)).error?.code).toBe('INVALID_STATE');
  expect(await running(id)).toEqual([home]);
  await removeInstance(id);
});

test('nothing is said of what an operation is at work on', async () => {
  const id = await guest('at-work');
  const letGo = await hold(address.simulatorUrl, 'domain.ensureRunning');
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  const body = {
    name: 'held',
    ...instanceBody(cloud, 'held'),
    projectId: cloud.project.id,
    requestedHostId: idOf(home),
  };
  const create = await admin.call<OperationView>('POST', '/v1/instances', body);
  await follower(admin)(create.id, inStep('hypervisor.boot'));
  for (const _ of [1, 2]) {
    await scan(onHost(home));
    await scan({ scope: 'network' });
    await scan({ scope: 'storagePool' });
  }
  expect(await seen(create.targetId)).toEqual([]);
  await letGo();
  expect((await admin.settled(create.id)).state).toBe('succeeded');
  await removeInstance(create.targetId);
  await removeInstance(id);
});

test('who looks twice at the same moment has seen it once: what is told must have lasted', async () => {
  const again = await setSetting(admin, 'audit.graceSeconds', 3600);
  const model = await guest('at-once');
  const stray = crypto.randomUUID();
  await at(home, 'plantGuest', { domainId: stray, like: model });
  await Promise.all([1, 2, 3, 4].map(() => scan(onHost(home))));
  expect(await seen(stray)).toEqual(['orphan guestStray sighted']);
  await again();
  await scan(onHost(home));
  expect(await seen(stray)).toEqual(['orphan guestStray open']);
  // Somebody was faster: it goes by itself, and its repair finds nothing to do.
  const one = await theOne(stray, 'orphan guestStray');
  await at(home, 'byHand', { call: 'domain.ensureAbsent', input: { id: stray } });
  expect((await admin.settled((await repair(one.id)).id)).state).toBe('succeeded');
  await removeInstance(model);
});

const ovn = { scope: 'network' };

test('a port, rules, addresses and DHCP options that are gone or others are found in OVN and written anew', async () => {
  const network = await make(tenant, 'networks', { name: 'audited', zoneId: cloud.zone.id });
  const subnet = await make(tenant, 'subnets', { name: 'audited', networkId: network.id, cidr: '10.9.0.0/24' });
  const addresses = await make(tenant, 'address-groups', {
    name: 'audited',
    family: 4,
    entries: [{ cidr: '10.1.0.0/16' }, { cidr: '10.2.0.0/16' }],
  });
  const rules = [{ direction: 'in', protocol: 'tcp', fromPort: 22, remoteAddressGroupId: addresses.id }];
  const group = await make(tenant, 'security-groups', { name: 'audited', zoneId: cloud.zone.id, rules });
  const { id } = await deploy('audited', {
    networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [group.id] }],
  });
  const { items } = await tenant.call<{ items: Resource[] }>(
    'GET',
    `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${id}"`)}`,
  );
  const port = items[0]?.id ?? '';
  for (const _ of [1, 2]) await scan(ovn);
  for (const one of [network, subnet, addresses, group, { id: port }]) expect(await seen(one.id)).toEqual([]);

  const [row] = await byHand([
    { op: 'select', table: 'Logical_Switch_Port', where: [['name', '==', port]], columns: ['_uuid'] },
  ]);
  const uuid = row?.rows?.[0]?._uuid;
  const leave = (table: string, name: string): OvsdbOperation => ({
    op: 'mutate',
    table,
    where: [['name', '==', name]],
    mutations: [['ports', 'delete', set([uuid])]],
  });
  await byHand([
    leave('Logical_Switch', switchName(network.id)),
    leave('Port_Group', networkGroup(network.id)),
    leave('Port_Group', securityGroupName(group.id)),
  ]);
  await foundAndRepaired(port, 'missing portRows', ovn);

  await byHand([
    { op: 'update', table: 'Logical_Switch_Port', where: [['name', '==', port]], row: { addresses: 'unknown' } },
  ]);
  await foundAndRepaired(port, 'drifted portRows', ovn);
  const limiting = await tenant.call<OperationView>('PATCH', `/v1/network-interfaces/${port}`, {
    qos: { inBytesPerSec: 1_000_000 },
  });
  await tenant.settled(limiting.id);
  const limit = taggedWith('networkInterface', port);
  const naming = await tenant.call<OperationView>('PATCH', `/v1/network-interfaces/${port}`, { dnsName: 'audited' });
  await tenant.settled(naming.id);
  await byHand([{ op: 'update', table: 'DNS', where: limit, row: { records: ['map', [['audited', '10.0.0.1']]] } }]);
  await foundAndRepaired(port, 'drifted portRows', ovn);
  await byHand([{ op: 'delete', table: 'DNS', where: limit }]);
  await foundAndRepaired(port, 'drifted portRows', ovn);
  await byHand([{ op: 'update', table: 'QoS', where: limit, row: { bandwidth: ['map', [['rate', 1]]] } }]);
  await foundAndRepaired(port, 'drifted portRows', ovn);

  await byHand([
    { op: 'update', table: 'ACL', where: taggedWith('securityGroup', group.id), row: { match: 'ip4' } },
    { op: 'update', table: 'DHCP_Options', where: taggedWith('subnet', subnet.id), row: { cidr: '10.8.0.0/24' } },
  ]);
  await scan(ovn);
  await scan(ovn);
  expect([...(await seen(group.id)), ...(await seen(subnet.id))]).toEqual([
    'drifted groupRows open',
    'drifted subnetRows open',
  ]);
  // These are repaired without asking.
  await maintainUntil(address.temporalAddress, 'scanNetwork', async () =>
    [...(await seen(group.id)), ...(await seen(subnet.id))].every((text) => text.endsWith(' repaired')),
  );

  await byHand([{ op: 'delete', table: 'Port_Group', where: taggedWith('securityGroup', group.id) }]);
  await foundAndRepaired(group.id, 'missing groupRows', ovn);

  const policy = await make(tenant, 'firewall-policies', {
    name: 'audited',
    rules: [
      {
        priority: 1,
        direction: 'in',
        action: 'deny',
        protocol: 'udp',
        source: { addressGroupId: addresses.id },
        log: true,
      },
    ],
    defaults: { in: 'allow', out: 'allow' },
  });
  await tenant.done('POST', `/v1/networks/${network.id}/actions/setFirewallPolicy`, { firewallPolicyId: policy.id });
  for (const _ of [1, 2]) await scan(ovn);
  for (const one of [policy, { id: port }])
    expect((await seen(one.id)).filter((text) => text.endsWith('open'))).toEqual([]);
  const ofPolicy = taggedWith('firewallPolicy', policy.id);
  await byHand([{ op: 'update', table: 'ACL', where: ofPolicy, row: { match: 'ip4' } }]);
  await foundAndRepaired(policy.id, 'drifted policyRows', ovn);
  await byHand([{ op: 'delete', table: 'Meter', where: ofPolicy }]);
  await foundAndRepaired(policy.id, 'missing policyRows', ovn);
  await byHand([{ op: 'update', table: 'Port_Group', where: ofPolicy, row: { ports: set([]) } }]);
  await foundAndRepaired(port, 'drifted portRows', ovn);
  await byHand([{ op: 'delete', table: 'Port_Group', where: ofPolicy }]);
  await foundAndRepaired(policy.id, 'missing policyRows', ovn);
  await tenant.done('POST', `/v1/networks/${network.id}/actions/setFirewallPolicy`, {});
  const [anew] = await byHand([
    { op: 'select', table: 'Logical_Switch_Port', where: [['name', '==', port]], columns: ['_uuid'] },
  ]);
  const ports = set([anew?.rows?.[0]?._uuid]);
  await byHand([{ op: 'update', table: 'Port_Group', where: ofPolicy, row: { ports } }]);
  await foundAndRepaired(port, 'drifted portRows', ovn);
  await tenant.done('DELETE', `/v1/firewall-policies/${policy.id}`);

  const where = taggedWith('addressGroup', addresses.id);
  const mutations: [string, string, unknown][] = [['addresses', 'delete', set(['10.2.0.0/16'])]];
  await byHand([{ op: 'mutate', table: 'Address_Set', where, mutations }]);
  await foundAndRepaired(addresses.id, 'drifted addressRows', ovn);
  await byHand([{ op: 'delete', table: 'Address_Set', where }]);
  await foundAndRepaired(addresses.id, 'missing addressRows', ovn);
  const [kept] = await byHand([{ op: 'select', table: 'Address_Set', where, columns: ['name', 'addresses'] }]);
  expect(kept?.rows).toEqual([
    { name: addressSetName(addresses.id, 4), addresses: set(['10.1.0.0/16', '10.2.0.0/16']) },
  ]);
  const reality = await simulatorInventory(address.simulatorUrl);
  expect(JSON.stringify(reality.ovn)).toContain('tcp.dst == 22');

  await removeInstance(id);
  await tenant.done('DELETE', `/v1/security-groups/${group.id}`);
  await tenant.done('DELETE', `/v1/address-groups/${addresses.id}`);
  await tenant.done('DELETE', `/v1/subnets/${subnet.id}`);
  await tenant.done('DELETE', `/v1/networks/${network.id}`);
  await scan(ovn);
  expect((await seen(network.id)).filter((text) => !text.endsWith('gone'))).toEqual([]);
});

test('what public addresses lead to is found where it is gone or another, and leads there again', async () => {
  const outside = await newOutside(admin, cloud, 'audited');
  const networkId = outside.network.id;
  const zoneId = cloud.zone.id;
  const vpc = await make(tenant, 'vpcs', { name: 'audited', zoneId, cidrs: ['10.6.0.0/16'], uplink: { networkId } });
  const network = await make(tenant, 'networks', { name: 'audited', zoneId, vpcId: vpc.id });
  const subnet = await make(tenant, 'subnets', { name: 'audited', networkId: network.id, cidr: '10.6.1.0/24' });
  const nic = await make(tenant, 'network-interfaces', { name: 'audited', subnetId: subnet.id });
  const newAddress = (): Promise<Resource> => tenant.call('POST', '/v1/floating-ips', { name: 'audited', networkId });
  const [whole, shared] = [await newAddress(), await newAddress()];
  await tenant.done('POST', `/v1/floating-ips/${whole.id}/actions/attach`, { networkInterfaceId: nic.id });
  const forward = await make(tenant, 'port-forwards', {
    name: 'audited',
    floatingIpId: shared.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: nic.id,
    allowedCidrs: ['192.0.2.0/24'],
  });
  for (const _ of [1, 2]) await scan(ovn);
  for (const { id } of [whole, shared, forward, vpc]) expect(await seen(id)).toEqual([]);
  const nat = taggedWith('floatingIp', whole.id);
  await byHand([{ op: 'update', table: 'NAT', where: nat, row: { logical_ip: '10.6.1.99' } }]);
  await foundAndRepaired(whole.id, 'drifted publicAddressRows', ovn);
  const where = taggedWith('portForward', forward.id);
  await byHand([{ op: 'update', table: 'ACL', where, row: { match: 'ip4' } }]);
  await foundAndRepaired(forward.id, 'drifted forwardRows', ovn);
  await byHand([{ op: 'delete', table: 'Load_Balancer', where }]);
  await foundAndRepaired(forward.id, 'missing forwardRows', ovn);
  const stray = crypto.randomUUID();
  const row = { name: forwardName(stray), external_ids: rowTags('portForward', stray) };
  await byHand([{ op: 'insert', table: 'Load_Balancer', row }]);
  await foundAndRepaired(stray, 'orphan forwardRows', ovn);
  for (const { id } of [whole, shared]) await tenant.done('DELETE', `/v1/floating-ips/${id}?cascade=true`);
  await tenant.done('DELETE', `/v1/network-interfaces/${nic.id}`);
  await tenant.done('DELETE', `/v1/vpcs/${vpc.id}?cascade=true`);
  await outside.remove();
});

test('what a load balancer sends to is found where it is gone or another, and sent to again', async () => {
  const zoneId = cloud.zone.id;
  const vpc = await make(tenant, 'vpcs', { name: 'balanced', zoneId, cidrs: ['10.6.0.0/16'] });
  const network = await make(tenant, 'networks', { name: 'balanced', zoneId, vpcId: vpc.id });
  const subnet = await make(tenant, 'subnets', { name: 'balanced', networkId: network.id, cidr: '10.6.1.0/24' });
  const nic = await make(tenant, 'network-interfaces', { name: 'balanced', subnetId: subnet.id });
  const group = await tenant.call('POST', '/v1/target-groups', {
    name: 'balanced',
    vpcId: vpc.id,
    protocol: 'tcp',
    port: 80,
    targets: [{ networkInterfaceId: nic.id }],
  });
  const internal = { vpcId: vpc.id, scheme: 'internal', subnetId: subnet.id };
  const balancer = await make(tenant, 'load-balancers', { name: 'balanced', ...internal });
  const listener = await make(tenant, 'listeners', {
    name: 'balanced',
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: group.id,
  });
  for (const _ of [1, 2]) await scan(ovn);
  for (const { id } of [balancer, listener]) expect(await seen(id)).toEqual([]);
  const where = taggedWith('listener', listener.id);
  await byHand([{ op: 'update', table: 'Load_Balancer', where, row: { vips: map({}) } }]);
  await foundAndRepaired(listener.id, 'drifted listenerRows', ovn);
  await byHand([
    { op: 'update', table: 'Load_Balancer_Health_Check', where, row: { options: map({ interval: '99' }) } },
  ]);
  await foundAndRepaired(listener.id, 'drifted listenerRows', ovn);
  await byHand([{ op: 'delete', table: 'Load_Balancer', where }]);
  await foundAndRepaired(listener.id, 'missing listenerRows', ovn);
  const at = taggedWith('network', network.id);
  await byHand([{ op: 'update', table: 'Logical_Switch', where: at, row: { load_balancer_group: set([]) } }]);
  await foundAndRepaired(balancer.id, 'drifted balancerRows', ovn);
  const stray = crypto.randomUUID();
  await byHand([
    { op: 'insert', table: 'Load_Balancer_Group', 'uuid-name': 'stray', row: { name: balancerName(stray) } },
    {
      op: 'mutate',
      table: 'Logical_Switch',
      where: at,
      mutations: [['load_balancer_group', 'insert', set([['named-uuid', 'stray']])]],
    },
  ]);
  await foundAndRepaired(stray, 'orphan balancerRows', ovn);
  const another = crypto.randomUUID();
  const row = { name: balancerName(another), external_ids: rowTags('listener', another) };
  await byHand([{ op: 'insert', table: 'Load_Balancer', row }]);
  await foundAndRepaired(another, 'orphan listenerRows', ovn);
  await tenant.done('DELETE', `/v1/load-balancers/${balancer.id}?cascade=true`);
  await tenant.done('DELETE', `/v1/target-groups/${group.id}`);
  await tenant.done('DELETE', `/v1/network-interfaces/${nic.id}`);
  await tenant.done('DELETE', `/v1/vpcs/${vpc.id}?cascade=true`);
});

test('rows of what has no record are found, and removed when somebody asks', async () => {
  const stray = crypto.randomUUID();
  await byHand([
    {
      op: 'insert',
      table: 'Logical_Switch',
      row: { name: switchName(stray), external_ids: rowTags('network', stray) },
    },
  ]);
  await foundAndRepaired(stray, 'orphan networkRows', ovn);
  const another = crypto.randomUUID();
  const external_ids = rowTags('addressGroup', another);
  await byHand([{ op: 'insert', table: 'Address_Set', row: { name: addressSetName(another, 4), external_ids } }]);
  await foundAndRepaired(another, 'orphan addressRows', ovn);
  const third = crypto.randomUUID();
  const row = { name: firewallGroupName(third), external_ids: rowTags('firewallPolicy', third) };
  await byHand([{ op: 'insert', table: 'Port_Group', row }]);
  await foundAndRepaired(third, 'orphan policyRows', ovn);
  // Whose record is there is no stray, whoever says so.
  const { items } = await tenant.call<{ items: Resource[] }>('GET', '/v1/networks');
  const removal = await admin.call<OperationView>('POST', '/v1/networks/actions/removeStray', {
    kind: 'network',
    id: items[0]?.id,
  });
  expect((await admin.settled(removal.id)).error?.code).toBe('INVALID_STATE');
});

test('a disk without a volume goes to the trash when a person asks, and never by itself', async () => {
  const { items } = await admin.call<{ items: (Resource & { type: string; pool: string; clusterIds: string[] })[] }>(
    'GET',
    '/v1/storage-pools',
  );
  const pool = items.find(
    ({ type, state, clusterIds }) => type === 'rbd' && state === 'ready' && clusterIds.includes(cloud.cluster.id),
  );
  const stray = crypto.randomUUID();
  const place = { storageClusterId: cloud.storageCluster.id, pool: pool?.pool, image: `volume-${stray}` };
  const tags = { id: stray, kind: 'volume', operation: crypto.randomUUID(), revision: 1 };
  await at(home, 'byHand', { call: 'rbd.ensureImage', input: { ...place, sizeGib: 1, tags } });
  const inPool = { scope: 'storagePool', id: pool?.id };
  await foundAndRepaired(stray, 'orphan volumeStray', inPool);
  const { trashed, images } = realityOf(await simulatorInventory(address.simulatorUrl));
  expect([trashed.has(`${pool?.pool}/volume-${stray}`), images.has(`${pool?.pool}/volume-${stray}`)]).toEqual([
    true,
    false,
  ]);
  await at(home, 'byHand', { call: 'rbd.ensureExpunged', input: place });
});

test('the platform looks by itself, and touches no guest and no disk without being asked', async () => {
  const model = await guest('by-itself');
  const [stray, disk] = [crypto.randomUUID(), crypto.randomUUID()];
  await at(home, 'plantGuest', { domainId: stray, like: model });
  const { poolId } = await admin.call<Resource & { poolId: string }>(
    'GET',
    `/v1/volumes/${(await admin.call('GET', `/v1/instances/${model}`)).rootVolumeId}`,
  );
  const { pool } = await admin.call<Resource & { pool: string }>('GET', `/v1/storage-pools/${poolId}`);
  const place = { storageClusterId: cloud.storageCluster.id, pool, image: `volume-${disk}` };
  const tags = { id: disk, kind: 'volume', operation: crypto.randomUUID(), revision: 1 };
  await at(home, 'byHand', { call: 'rbd.ensureImage', input: { ...place, sizeGib: 1, tags } });
  for (const [name, id, as] of [
    ['scanHosts', stray, 'orphan guestStray open'],
    ['scanPools', disk, 'orphan volumeStray open'],
  ] as const) {
    await maintainUntil(address.temporalAddress, name, async () => (await seen(id)).includes(as));
    await withTemporal(address.temporalAddress, (temporal) => triggered(temporal, maintenanceId(name)));
    expect(await seen(id)).toEqual([as]);
  }
  for (const [id, as] of [
    [stray, 'orphan guestStray'],
    [disk, 'orphan volumeStray'],
  ] as const)
    expect((await admin.settled((await repair((await theOne(id, as)).id)).id)).state).toBe('succeeded');
  await at(home, 'byHand', { call: 'rbd.ensureExpunged', input: place });
  await removeInstance(model);
});

test('a volume whose disk is gone is told, and left to a person', async () => {
  const volume = await make(tenant, 'volumes', {
    name: 'lost',
    zoneId: cloud.zone.id,
    volumeTypeId: cloud.volumeTypes[1]?.id,
    sizeGib: 1,
  });
  const { poolId } = await admin.call<Resource & { poolId: string }>('GET', `/v1/volumes/${volume.id}`);
  const pool = await admin.call<Resource & { pool: string }>('GET', `/v1/storage-pools/${poolId}`);
  const place = { storageClusterId: cloud.storageCluster.id, pool: pool.pool, image: `volume-${volume.id}` };
  await at(home, 'byHand', { call: 'rbd.ensureImageAbsent', input: place });
  const inPool = { scope: 'storagePool', id: poolId };
  for (const _ of [1, 2]) await scan(inPool);
  expect(await seen(volume.id)).toEqual(['missing volume open']);
  const { id } = await theOne(volume.id, 'missing volume');
  expect(await refusal(repair(id))).toBe('412 PRECONDITION_FAILED');
  const tags = { id: volume.id, kind: 'volume', operation: crypto.randomUUID(), revision: 1 };
  await at(home, 'byHand', { call: 'rbd.ensureImage', input: { ...place, sizeGib: 1, tags } });
  await scan(inPool);
  expect(await seen(volume.id)).toEqual(['missing volume gone']);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
});

test('tenants neither see findings nor ask for scans and repairs', async () => {
  expect(await refusal(tenant.call('POST', '/v1/findings/actions/scan', {}))).toBe('403 FORBIDDEN');
  expect(await refusal(tenant.call('POST', `/v1/findings/${crypto.randomUUID()}/actions/repair`, {}))).toBe(
    '404 NOT_FOUND',
  );
  expect((await tenant.call<{ items: unknown[] }>('GET', '/v1/findings').catch(() => ({ items: [] }))).items).toEqual(
    [],
  );
  expect(await refusal(admin.call('POST', '/v1/findings/actions/scan', { id: crypto.randomUUID() }))).toBe(
    '422 INVALID_ARGUMENT',
  );
  expect(
    await refusal(admin.call('POST', '/v1/findings/actions/scan', { scope: 'host', id: crypto.randomUUID() })),
  ).toBe('404 NOT_FOUND');
});
