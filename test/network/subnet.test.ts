/** Subnets of both families: what is given out of them, what is kept back, what DHCP tells, and what is refused. */
import { describe, expect, inject, test } from 'vitest';
import type { Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { answer } from '../support/people.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { cloud, wrong, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;

const newNetwork = (): Promise<Resource> => make(tenant, 'networks', { name: 'both', zoneId });
const newSubnet = (networkId: string, cidr: string, more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'subnets', { name: cidr.slice(0, 20), networkId, cidr, ...more });
async function nic(subnetId: string, more: Record<string, unknown> = {}): Promise<Resource> {
  const { id } = await make(tenant, 'network-interfaces', { name: 'nic', subnetId, ...more });
  return tenant.call('GET', `/v1/network-interfaces/${id}`);
}
const remove = (plural: string, id: string): Promise<unknown> => tenant.done('DELETE', `/v1/${plural}/${id}`);
const refused = async (method: string, path: string, body: unknown): Promise<unknown[]> => {
  const { status, code, violations } = await answer(tenant, method, path, body);
  return [status, code, ...(violations?.map(({ field }) => field) ?? [])];
};
const rows = async (table: string): Promise<Record<string, unknown>[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Record<string, unknown>[];
const portOf = async (id: string): Promise<Record<string, unknown> | undefined> =>
  (await rows('Logical_Switch_Port')).find(({ name }) => name === id);
const told = async (subnetId: string): Promise<Record<string, unknown> | undefined> =>
  (await rows('DHCP_Options')).find(
    ({ external_ids }) => (external_ids as Record<string, string>)['belay:id'] === subnetId,
  );

test('an interface has one address of each family: made of its MAC address, told by DHCPv6, or asked for', async () => {
  const network = await newNetwork();
  const four = await newSubnet(network.id, '10.90.0.0/24');
  const slaac = await newSubnet(network.id, 'FD90:0:0:1::/64');
  const dhcpv6 = await newSubnet(network.id, 'fd90:0:0:2::/64', { ipv6Mode: 'dhcpv6', gateway: 'fd90:0:0:2::1' });
  const stateless = await newSubnet(network.id, 'fd90:0:0:3::/64', { ipv6Mode: 'stateless' });
  expect(await tenant.call('GET', `/v1/subnets/${slaac.id}`)).toMatchObject({
    family: 6,
    cidr: 'fd90:0:0:1::/64',
    ipv6Mode: 'slaac',
    gateway: null,
  });
  const mac = '02:00:5e:10:00:01';
  const made = await nic(four.id, { mac, subnet6Id: slaac.id });
  expect(made).toMatchObject({ address: '10.90.0.2', address6: 'fd90::1:0:5eff:fe10:1' });
  const given = await nic(four.id, { subnet6Id: dhcpv6.id });
  expect(given.address6).toBe('fd90:0:0:2::2');
  const asked = await nic(four.id, { subnet6Id: dhcpv6.id, address6: 'fd90:0:0:2::77' });
  expect(asked.address6).toBe('fd90:0:0:2::77');
  const own = `${mac} ${String(made.address)} ${String(made.address6)}`;
  expect(await portOf(made.id)).toMatchObject({ addresses: [own], port_security: [own] });
  expect(await portOf(made.id)).not.toHaveProperty('dhcpv6_options');
  expect(await portOf(given.id)).toHaveProperty('dhcpv6_options');
  expect([await told(slaac.id), (await told(dhcpv6.id))?.cidr]).toEqual([undefined, 'fd90:0:0:2::/64']);
  expect((await told(stateless.id))?.options).toMatchObject({ dhcpv6_stateless: 'true' });
  const networkInterfaces = [{ subnetId: four.id, subnet6Id: dhcpv6.id }];
  const { id } = await make(
    tenant,
    'instances',
    instanceBody(cloud, 'both', { startOnCreate: false, networkInterfaces }),
  );
  const filter = encodeURIComponent(`instanceId = "${id}" AND address6 = "fd90:0:0:2::3"`);
  expect(
    (await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`)).items,
  ).toHaveLength(1);
  const view = `/v1/network-interfaces/${made.id}/views/allowedTraffic?direction=out&protocol=tcp&port=80&address=fd00::1`;
  expect(await tenant.call('GET', view)).toMatchObject({ allowed: true, decidedBy: 'outboundOpen' });

  const create = (more: Record<string, unknown>) =>
    refused('POST', '/v1/network-interfaces', { name: 'n', subnetId: four.id, ...more });
  const other = await newNetwork();
  const elsewhere = await newSubnet(other.id, 'fd91::/64');
  expect(await create({ subnet6Id: slaac.id, address6: 'fd90:0:0:1::7' })).toEqual([
    422,
    'INVALID_ARGUMENT',
    'address6',
  ]);
  expect(await create({ address6: 'fd90:0:0:1::7' })).toEqual([422, 'INVALID_ARGUMENT', 'address6']);
  expect(await create({ subnet6Id: dhcpv6.id, address6: 'fd90:0:0:2::77' })).toEqual([
    409,
    'ADDRESS_IN_USE',
    'address6',
  ]);
  expect(await create({ subnet6Id: dhcpv6.id, address6: 'fd90:0:0:2::1' })).toEqual([
    422,
    'INVALID_ARGUMENT',
    'address6',
  ]);
  expect(await create({ subnet6Id: four.id })).toEqual([422, 'INVALID_ARGUMENT', 'subnet6Id']);
  expect(await create({ subnet6Id: elsewhere.id })).toEqual([422, 'INVALID_ARGUMENT', 'subnet6Id']);
  expect(await create({ subnetId: slaac.id })).toEqual([422, 'INVALID_ARGUMENT', 'subnetId']);
  expect(await refused('DELETE', `/v1/subnets/${slaac.id}`, undefined)).toEqual([409, 'HAS_DEPENDENTS']);

  await removeInstance(id);
  for (const one of [made, given, asked]) await remove('network-interfaces', one.id);
  for (const one of [four, slaac, dhcpv6, stateless, elsewhere]) await remove('subnets', one.id);
  for (const one of [network, other]) await remove('networks', one.id);
  expect(await wrong()).toEqual([]);
});

test('what is kept back is given to nobody, or to who asks for it by name; it may change at any time', async () => {
  const network = await newNetwork();
  const subnet = await newSubnet(network.id, '10.91.0.0/29', {
    reservedRanges: [{ from: '10.91.0.2', to: '10.91.0.3' }],
    reservations: [{ ip: '10.91.0.4', mac: '02:00:5e:10:00:02', note: 'the appliance' }],
  });
  const path = `/v1/subnets/${subnet.id}`;
  const first = await nic(subnet.id);
  expect(first.address).toBe('10.91.0.5');
  const create = (more: Record<string, unknown>) =>
    refused('POST', '/v1/network-interfaces', { name: 'n', subnetId: subnet.id, ...more });
  expect(await create({ address: '10.91.0.2' })).toEqual([422, 'INVALID_ARGUMENT', 'address']);
  expect(await create({ address: '10.91.0.4' })).toEqual([422, 'INVALID_ARGUMENT', 'address']);
  const appliance = await nic(subnet.id, { address: '10.91.0.4', mac: '02:00:5e:10:00:02' });
  const last = await nic(subnet.id);
  expect(last.address).toBe('10.91.0.6');
  expect(await create({})).toEqual([409, 'ADDRESS_EXHAUSTED']);
  expect(await refused('PATCH', path, { reservedRanges: [{ from: '10.91.0.5', to: '10.91.0.6' }] })).toEqual([
    409,
    'ADDRESS_IN_USE',
    'reservedRanges.0',
  ]);
  expect(await refused('PATCH', path, { reservedRanges: [{ from: '10.92.0.4', to: '10.91.0.6' }] })).toEqual([
    422,
    'INVALID_ARGUMENT',
    'reservedRanges.0.from',
  ]);
  await tenant.call('PATCH', path, { reservedRanges: [{ from: '10.91.0.3', to: '10.91.0.3' }] });
  const freed = await nic(subnet.id);
  expect(freed.address).toBe('10.91.0.2');
  expect(await create({})).toEqual([409, 'ADDRESS_EXHAUSTED']);
  await remove('network-interfaces', freed.id);
  await tenant.call('PATCH', path, { reservedRanges: [{ from: '10.91.0.2', to: '10.91.0.2' }], reservations: [] });
  const again = await nic(subnet.id);
  expect(again.address).toBe('10.91.0.3');
  for (const one of [first, appliance, last, again]) await remove('network-interfaces', one.id);
  await remove('subnets', subnet.id);
  await remove('networks', network.id);
  expect(await wrong()).toEqual([]);
});

describe('what DHCP tells', () => {
  test('changes for all interfaces at once, and is told of the subnet', async () => {
    const network = await newNetwork();
    const subnet = await newSubnet(network.id, '10.93.0.0/24', { searchDomains: ['a.example'] });
    const one = await nic(subnet.id);
    const options = {
      leaseSeconds: 600,
      dnsServers: ['10.93.0.53'],
      ntpServers: ['10.93.0.123'],
      hostRoutes: [{ cidr: '10.94.0.0/16', nextHop: '10.93.0.7' }],
    };
    const path = `/v1/subnets/${subnet.id}`;
    await tenant.done('POST', `${path}/actions/setOptions`, options);
    expect(await tenant.call('GET', path)).toMatchObject({ ...options, searchDomains: ['a.example'], state: 'ready' });
    expect((await told(subnet.id))?.options).toMatchObject({
      lease_time: '600',
      dns_server: '{10.93.0.53}',
      ntp_server: '{10.93.0.123}',
      classless_static_route: '{10.94.0.0/16,10.93.0.7, 0.0.0.0/0,10.93.0.1}',
      domain_search_list: '"a.example"',
    });
    expect(await portOf(one.id)).toHaveProperty('dhcpv4_options');
    const set = (body: unknown) => refused('POST', `${path}/actions/setOptions`, body);
    expect(await set({})).toEqual([422, 'INVALID_ARGUMENT', 'dnsServers']);
    expect(await set({ dnsServers: ['10.0.0.1', 'fd00::1'] })).toEqual([422, 'INVALID_ARGUMENT', 'dnsServers.1']);
    expect(await set({ hostRoutes: [{ cidr: 'fd00::/8', nextHop: '10.93.0.7' }] })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'hostRoutes.0.cidr',
    ]);
    expect(await set({ hostRoutes: [{ cidr: '10.0.0.0/8', nextHop: '10.95.0.7' }] })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'hostRoutes.0.nextHop',
    ]);
    await remove('network-interfaces', one.id);
    const slaac = await newSubnet(network.id, 'fd93::/64');
    expect(await refused('POST', `/v1/subnets/${slaac.id}/actions/setOptions`, { leaseSeconds: 600 })).toEqual([
      409,
      'INVALID_STATE',
    ]);
    for (const one of [subnet, slaac]) await remove('subnets', one.id);
    await remove('networks', network.id);
  });

  test('of one family is refused for the other, with the field', async () => {
    const network = await newNetwork();
    const create = (cidr: string, more: Record<string, unknown>) =>
      refused('POST', '/v1/subnets', { name: 's', networkId: network.id, cidr, ...more });
    for (const [cidr, more, field] of [
      ['10.95.0.0/24', { ipv6Mode: 'slaac' }, 'ipv6Mode'],
      ['10.95.0.0/24', { gateway: 'fd00::1' }, 'gateway'],
      ['10.95.0.0/24', { dnsServers: ['fd00::1'] }, 'dnsServers.0'],
      ['10.95.0.0/24', { allocationRanges: [{ from: '10.95.0.1', to: 'fd00::1' }] }, 'allocationRanges.0.to'],
      ['fd95::/64', { ntpServers: ['fd00::1'] }, 'ntpServers'],
      ['fd95::/64', { dnsServers: ['10.0.0.1'] }, 'dnsServers.0'],
      ['fd95::/64', { gateway: '10.0.0.1' }, 'gateway'],
      ['fd95::/65', {}, 'cidr'],
      ['fd95::1/64', {}, 'cidr'],
      ['fe80::/64', {}, 'cidr'],
    ] as const)
      expect([cidr, more, ...(await create(cidr, more))]).toEqual([cidr, more, 422, 'INVALID_ARGUMENT', field]);
    await remove('networks', network.id);
  });
});
