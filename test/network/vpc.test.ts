/** VPCs: what stands at their routers, who carries them, which addresses they have, and what is refused. */
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { routerName } from '../../activities/network/router.ts';
import { routeTableName } from '../../activities/network/routeTable.ts';
import { routerPortName } from '../../activities/network/subnet.ts';
import { uplinkName, uplinkPortName } from '../../activities/network/vpc.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside, type Outside } from '../support/outside.ts';
import { answer } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;

let outside: Outside;
let small: Outside;
beforeAll(async () => {
  outside = await newOutside(admin, cloud, 'vpc');
  small = await newOutside(admin, cloud, 'small', { cidr: '203.0.113.0/24', from: '203.0.113.10', to: '203.0.113.11' });
});
afterEach(() => setRules(admin, []));
afterAll(async () => {
  expect((await wrong()).filter((text) => text.startsWith('address'))).toEqual([]);
  await outside.remove();
  await small.remove();
});

interface Uplink {
  id: string;
  address: string;
  networkId: string;
}
type Vpc = Resource & { uplinks: Uplink[]; publicAddress: string | null; gatewayHostIds: string[] | null };

const cidrs = ['10.1.0.0/16'];
const body = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  name: 'vpc',
  zoneId,
  cidrs,
  uplink: { networkId: outside.network.id },
  ...more,
});
const newVpc = async (more: Record<string, unknown> = {}): Promise<Vpc> =>
  (await make(tenant, 'vpcs', body(more))) as Vpc;
const now = (id: string): Promise<Vpc> => admin.call('GET', `/v1/vpcs/${id}`) as Promise<Vpc>;
const act = (plural: string, id: string, verb: string, input: unknown = {}, api = tenant): Promise<OperationView> =>
  api.done('POST', `/v1/${plural}/${id}/actions/${verb}`, input);
const away = (id: string): Promise<unknown> => tenant.done('DELETE', `/v1/vpcs/${id}?cascade=true`);
const subnetIn = async (vpcId: string, cidr: string, more: Record<string, unknown> = {}): Promise<Resource> => {
  const network = await make(tenant, 'networks', { name: cidr, zoneId, vpcId });
  return make(tenant, 'subnets', { name: cidr, networkId: network.id, cidr, ...more });
};

type Row = Record<string, unknown>;
const rows = async (table: string): Promise<Row[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Row[];
const named = async (table: string, name: string): Promise<Row | undefined> =>
  (await rows(table)).find((row) => row.name === name);
const of = async (table: string, id: string): Promise<Row[]> =>
  (await rows(table)).filter(({ external_ids }) => (external_ids as Row | undefined)?.['belay:id'] === id);

describe('a VPC', () => {
  test('is a router with a way out that two hosts carry, and nothing of it stays when it is gone', async () => {
    const vpc = await newVpc();
    const [uplink] = vpc.uplinks;
    const name = uplinkName(uplink?.id ?? '');
    expect(vpc.publicAddress).toMatch(/^198\.51\.100\./);
    // Who carries it is nothing that a tenant is told.
    expect(vpc.gatewayHostIds).toBe(null);
    const { gatewayHostIds } = await now(vpc.id);
    expect(new Set(gatewayHostIds).size).toBe(2);
    expect(await named('Logical_Router', routerName(vpc.id))).toBeDefined();
    expect(await named('Logical_Router_Port', name)).toMatchObject({
      networks: [`${vpc.publicAddress}/24`],
      gateway_chassis: gatewayHostIds?.map((id) => `${name}_${id}`).sort(),
    });
    expect(await named('Logical_Switch_Port', uplinkPortName(uplink?.id ?? ''))).toMatchObject({
      type: 'router',
      options: { 'router-port': name, 'nat-addresses': 'router' },
    });
    expect(await of('NAT', vpc.id)).toEqual([
      expect.objectContaining({ type: 'snat', external_ip: vpc.publicAddress, logical_ip: '10.1.0.0/16' }),
    ]);
    expect(await of('Logical_Router_Static_Route', vpc.id)).toEqual([
      expect.objectContaining({ ip_prefix: '0.0.0.0/0', nexthop: '198.51.100.1', output_port: [name] }),
    ]);
    const policies = await of('Logical_Router_Policy', vpc.id);
    expect(policies.map(({ action }) => action).sort()).toEqual(['allow', 'drop']);
    for (const { match } of policies) expect(match).toContain(`inport == "${name}"`);
    const [global] = await rows('NB_Global');
    expect(global?.options).toMatchObject({ 'bfd-min-rx': '200', 'bfd-min-tx': '200', 'bfd-mult': '3' });
    await tenant.done('DELETE', `/v1/vpcs/${vpc.id}`);
    for (const table of ['Logical_Router', 'NAT', 'Logical_Router_Static_Route', 'Logical_Router_Policy'])
      expect(await of(table, vpc.id)).toEqual([]);
    expect(await named('Logical_Switch_Port', uplinkPortName(uplink?.id ?? ''))).toBeUndefined();
  });

  test('without an uplink leads nowhere, and asks no host', async () => {
    const vpc = await newVpc({ uplink: null });
    expect([vpc.publicAddress, vpc.uplinks]).toEqual([null, []]);
    expect((await now(vpc.id)).gatewayHostIds).toEqual([]);
    await away(vpc.id);
  });

  test('tells guests of IPv6 how to come to an address, beside what it carries of IPv4', async () => {
    const vpc = await newVpc();
    const { networkId } = (await subnetIn(vpc.id, '10.1.1.0/24')) as Resource & { networkId: string };
    const told: Record<string, Record<string, string>> = {
      slaac: { address_mode: 'slaac', rdnss: 'fd11::53', dnssl: 'corp.example' },
      stateless: { address_mode: 'dhcpv6_stateless' },
      dhcpv6: { address_mode: 'dhcpv6_stateful' },
    };
    const made: Resource[] = [];
    for (const [index, [ipv6Mode, wanted]] of Object.entries(told).entries()) {
      const cidr = `fd10:0:0:${index + 1}::/64`;
      const more = { ipv6Mode, dnsServers: ['fd11::53'], searchDomains: ['corp.example'] };
      const six = await make(tenant, 'subnets', { name: ipv6Mode, networkId, cidr, ...more });
      made.push(six);
      expect(six.gateway).toBe(`fd10:0:0:${index + 1}::1`);
      expect(await named('Logical_Router_Port', routerPortName(six.id))).toMatchObject({
        networks: [`${String(six.gateway)}/64`],
        ipv6_ra_configs: { ...wanted, send_periodic: 'true', mtu: '1500' },
      });
    }
    // What the ranges of the VPC say is of IPv4 alone.
    await act('vpcs', vpc.id, 'setCidrs', { cidrs: ['10.0.0.0/8'] });
    const { id: elsewhere } = await make(tenant, 'networks', { name: 'elsewhere', zoneId, vpcId: vpc.id });
    const overlapping = { name: 's', networkId: elsewhere, cidr: 'fd10:0:0:1::/64' };
    expect(await answer(tenant, 'POST', '/v1/subnets', overlapping)).toMatchObject({
      status: 409,
      code: 'ADDRESS_IN_USE',
    });
    const [dynamic] = made.slice(-1);
    const taken = { name: 'n', subnetId: vpc.id, subnet6Id: dynamic?.id, address6: 'fd10:0:0:3::1' };
    const { items } = await tenant.call<{ items: Resource[] }>(
      'GET',
      `/v1/subnets?filter=${encodeURIComponent(`networkId = "${networkId}" AND family = 4`)}`,
    );
    const refused = await answer(tenant, 'POST', '/v1/network-interfaces', { ...taken, subnetId: items[0]?.id });
    expect([refused.status, refused.violations?.[0]?.field]).toEqual([422, 'address6']);
    const before = await of('Logical_Router_Port', made[0]?.id ?? '');
    await act('vpcs', vpc.id, 'repair');
    expect(await of('Logical_Router_Port', made[0]?.id ?? '')).toEqual(before);
    for (const { id } of made) await tenant.done('DELETE', `/v1/subnets/${id}`);
    for (const { id } of made) expect(await of('Logical_Router_Port', id)).toEqual([]);
    await away(vpc.id);
  });

  test('has its router at each of its subnets, whatever addresses others have', async () => {
    const [one, other] = await Promise.all([newVpc(), newVpc()]);
    const [mine, theirs] = await Promise.all([subnetIn(one.id, '10.1.1.0/24'), subnetIn(other.id, '10.1.1.0/24')]);
    for (const [vpc, subnet] of [
      [one, mine],
      [other, theirs],
    ] as const) {
      expect(subnet.vpcId).toBe(vpc.id);
      expect(await named('Logical_Router_Port', routerPortName(subnet.id))).toMatchObject({
        networks: ['10.1.1.1/24'],
      });
      expect((await named('Logical_Router', routerName(vpc.id)))?.ports).toContain(routerPortName(subnet.id));
    }
    expect(one.publicAddress).not.toBe(other.publicAddress);
    const { id: networkId } = await make(tenant, 'networks', { name: 'n', zoneId, vpcId: one.id });
    for (const [cidr, status, code] of [
      ['10.2.0.0/24', 422, 'INVALID_ARGUMENT'],
      ['10.1.1.128/25', 409, 'ADDRESS_IN_USE'],
    ] as const) {
      const refused = await answer(tenant, 'POST', '/v1/subnets', { name: 's', networkId, cidr });
      expect([refused.status, refused.code]).toEqual([status, code]);
      expect(refused.violations).toEqual([expect.objectContaining({ field: 'cidr' })]);
    }
    await tenant.done('DELETE', `/v1/subnets/${mine.id}`);
    expect(await named('Logical_Router_Port', routerPortName(mine.id))).toBeUndefined();
    await Promise.all([away(one.id), away(other.id)]);
  });

  test('takes other ranges as long as its subnets lie in them', async () => {
    const vpc = await newVpc();
    await subnetIn(vpc.id, '10.1.1.0/24');
    await act('vpcs', vpc.id, 'setCidrs', { cidrs: ['10.1.0.0/20', '192.168.0.0/16'] });
    expect((await of('NAT', vpc.id)).map(({ logical_ip }) => logical_ip).sort()).toEqual([
      '10.1.0.0/20',
      '192.168.0.0/16',
    ]);
    const { id } = await tenant.call<OperationView>('POST', `/v1/vpcs/${vpc.id}/actions/setCidrs`, {
      cidrs: ['192.168.0.0/16'],
    });
    expect(await tenant.settled(id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    expect((await of('NAT', vpc.id)).length).toBe(2);
    await away(vpc.id);
  });

  test('takes further ways out, and lets go of those that nothing uses', async () => {
    const vpc = await newVpc();
    const first = vpc.uplinks[0]?.id;
    await act('vpcs', vpc.id, 'attachUplink', { networkId: small.network.id, isDefault: false });
    const { uplinks } = await now(vpc.id);
    const second = uplinks.find(({ networkId }) => networkId === small.network.id);
    expect(second?.address).toMatch(/^203\.0\.113\.1[01]$/);
    const { name: tableName, id: tableId } = await make(tenant, 'route-tables', {
      name: 'out',
      vpcId: vpc.id,
      routes: [{ cidr: '172.16.0.0/12', nextHop: '203.0.113.1' }],
    });
    expect(tableName).toBe('out');
    const detach = { uplinkId: second?.id };
    const asked = await tenant.call<OperationView>('POST', `/v1/vpcs/${vpc.id}/actions/detachUplink`, detach);
    expect(await tenant.settled(asked.id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    await act('route-tables', tableId, 'setRoutes', { routes: [] });
    await act('vpcs', vpc.id, 'detachUplink', detach);
    expect((await now(vpc.id)).uplinks.map(({ id }) => id)).toEqual([first]);
    expect(await named('Logical_Router_Port', uplinkName(second?.id ?? ''))).toBeUndefined();
    const twice = await tenant.call<OperationView>('POST', `/v1/vpcs/${vpc.id}/actions/attachUplink`, {
      networkId: outside.network.id,
      isDefault: false,
    });
    expect(await tenant.settled(twice.id)).toMatchObject({ state: 'failed', error: { code: 'ALREADY_ATTACHED' } });
    await away(vpc.id);
  });

  test('is carried by another host when the operator says so, and by those that are left when it is repaired', async () => {
    const vpc = await newVpc();
    const before = (await now(vpc.id)).gatewayHostIds ?? [];
    await act('vpcs', vpc.id, 'failOverGateway', {}, admin);
    expect((await now(vpc.id)).gatewayHostIds).toEqual([...before].reverse());
    const third = cloud.hosts.find(({ id }) => !before.includes(id))?.id ?? '';
    await act('vpcs', vpc.id, 'failOverGateway', { hostId: third }, admin);
    const after = (await now(vpc.id)).gatewayHostIds ?? [];
    expect([after[0], after.length]).toEqual([third, 2]);
    const port = uplinkName(vpc.uplinks[0]?.id ?? '');
    const carriers = (await rows('Gateway_Chassis')).filter(({ name }) => String(name).startsWith(port));
    expect(carriers.toSorted((a, b) => Number(b.priority) - Number(a.priority)).map((row) => row.chassis_name)).toEqual(
      after,
    );
    expect((await answer(tenant, 'POST', `/v1/vpcs/${vpc.id}/actions/failOverGateway`, {})).code).toBe('FORBIDDEN');
    await act('vpcs', vpc.id, 'repair');
    expect((await now(vpc.id)).gatewayHostIds).toEqual(after);
    await away(vpc.id);
  });

  test('has an address that it asks for, or a free one, and gives it back', async () => {
    const wanted = { networkId: small.network.id, address: '203.0.113.11' };
    const first = await newVpc({ uplink: wanted });
    expect(first.publicAddress).toBe('203.0.113.11');
    const taken = await answer(tenant, 'POST', '/v1/vpcs', body({ uplink: wanted }));
    expect([taken.status, taken.code]).toEqual([409, 'ADDRESS_IN_USE']);
    const second = await newVpc({ uplink: { networkId: small.network.id } });
    expect(second.publicAddress).toBe('203.0.113.10');
    const full = await answer(tenant, 'POST', '/v1/vpcs', body({ uplink: { networkId: small.network.id } }));
    expect([full.status, full.code]).toEqual([409, 'ADDRESS_EXHAUSTED']);
    const held = await answer(admin, 'DELETE', `/v1/subnets/${small.range.id}`);
    expect([held.status, held.code]).toEqual([409, 'HAS_DEPENDENTS']);
    await Promise.all([away(first.id), away(second.id)]);
  });

  test('that can not be made gives its address back, and leaves no router', async () => {
    const requestedId = crypto.randomUUID();
    await setRules(admin, [{ targetId: requestedId, step: 'vpcs.make', fault: 'failAfter', times: 1 }]);
    const uplink = { networkId: small.network.id, address: '203.0.113.10' };
    const { id } = await tenant.call<OperationView>('POST', '/v1/vpcs', body({ requestedId, uplink }));
    expect((await tenant.settled(id)).state).toBe('failed');
    expect(await of('Logical_Router', requestedId)).toEqual([]);
    await away((await newVpc({ uplink })).id);
  });

  test.each<[string, () => Record<string, unknown>, string]>([
    ['host bits', () => ({ cidrs: ['10.1.0.1/16'] }), 'cidrs.0'],
    ['ranges that overlap', () => ({ cidrs: ['10.1.0.0/16', '10.1.2.0/24'] }), 'cidrs.1'],
    ['a network that leads nowhere', () => ({ uplink: { networkId: cloud.network.id } }), 'uplink.networkId'],
    [
      'an address that is not given out',
      () => ({ uplink: { networkId: outside.network.id, address: '198.51.100.5' } }),
      'uplink.address',
    ],
  ])('is refused: %s', async (_, more, field) => {
    const refused = await answer(tenant, 'POST', '/v1/vpcs', body(more()));
    expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
  });

  test('has what its router type offers', async () => {
    const type = await admin.call('POST', '/v1/router-types', { name: 'plain', redundant: false, services: [] });
    const refused = await answer(tenant, 'POST', '/v1/vpcs', body({ routerTypeId: type.id }));
    expect([refused.status, refused.code]).toEqual([409, 'NOT_SUPPORTED']);
    const uplink = { networkId: outside.network.id, snat: false };
    const vpc = await newVpc({ routerTypeId: type.id, uplink });
    expect((await now(vpc.id)).gatewayHostIds?.length).toBe(1);
    expect([vpc.publicAddress, await of('NAT', vpc.id)]).toEqual([null, []]);
    // Of another type it has what that offers, and as many hosts.
    const changing = `/v1/vpcs/${vpc.id}/actions/changeType`;
    expect(await answer(tenant, 'POST', changing, { routerTypeId: type.id })).toMatchObject({ status: 422 });
    const name = uplinkName(vpc.uplinks[0]?.id ?? '');
    const carriers = async (): Promise<number> =>
      ((await named('Logical_Router_Port', name))?.gateway_chassis as unknown[] | undefined)?.length ?? 0;
    await setRules(admin, [{ targetId: vpc.id, step: 'vpcs.recordType', fault: 'failAfter', times: 1 }]);
    const failing = await tenant.call<OperationView>('POST', changing, {});
    expect((await tenant.settled(failing.id)).state).toBe('failed');
    expect([(await now(vpc.id)).routerTypeId, await carriers()]).toEqual([type.id, 1]);
    await act('vpcs', vpc.id, 'changeType');
    expect([(await now(vpc.id)).routerTypeId, (await now(vpc.id)).gatewayHostIds?.length]).toEqual([null, 2]);
    expect(await carriers()).toBe(2);
    await act('vpcs', vpc.id, 'changeType', { routerTypeId: type.id });
    expect([(await now(vpc.id)).gatewayHostIds?.length, await carriers()]).toEqual([1, 1]);
    await away(vpc.id);
    await admin.call('DELETE', `/v1/router-types/${type.id}`);
  });
});

describe('a route table', () => {
  test('is for the subnets that name it; the main one is for all, and goes with its VPC', async () => {
    const vpc = await newVpc();
    const filter = encodeURIComponent(`vpcId = "${vpc.id}"`);
    const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/route-tables?filter=${filter}`);
    expect(items).toEqual([expect.objectContaining({ name: 'main', isMain: true, routes: [] })]);
    const main = items[0]?.id ?? '';
    const table = await make(tenant, 'route-tables', { name: 'special', vpcId: vpc.id });
    const subnet = await subnetIn(vpc.id, '10.1.1.0/24', { routeTableId: table.id });
    expect(await named('Logical_Router_Port', routerPortName(subnet.id))).toMatchObject({
      options: { route_table: routeTableName(table.id) },
    });
    await act('route-tables', table.id, 'setRoutes', { routes: [{ cidr: '10.50.0.0/16', nextHop: '10.1.1.9' }] });
    await act('route-tables', main, 'setRoutes', { routes: [{ cidr: '10.60.0.0/16', blackhole: true }] });
    expect(await of('Logical_Router_Static_Route', table.id)).toEqual([
      expect.objectContaining({
        ip_prefix: '10.50.0.0/16',
        nexthop: '10.1.1.9',
        route_table: routeTableName(table.id),
      }),
    ]);
    expect(await of('Logical_Router_Static_Route', main)).toEqual([
      expect.objectContaining({ ip_prefix: '10.60.0.0/16', nexthop: 'discard' }),
    ]);
    const held = await answer(tenant, 'DELETE', `/v1/route-tables/${table.id}`);
    expect([held.status, held.code]).toEqual([409, 'HAS_DEPENDENTS']);
    const kept = await answer(tenant, 'DELETE', `/v1/route-tables/${main}`);
    expect([kept.status, kept.code]).toEqual([412, 'PRECONDITION_FAILED']);
    await act('vpcs', vpc.id, 'repair');
    expect((await of('Logical_Router_Static_Route', table.id)).length).toBe(1);
    await away(vpc.id);
    expect(await of('Logical_Router_Static_Route', main)).toEqual([]);
    expect((await answer(tenant, 'GET', `/v1/route-tables/${main}`)).status).toBe(404);
  });

  test.each<[string, Record<string, unknown>[], string]>([
    ['a way that is none', [{ cidr: '10.9.0.0/16', nextHop: '10.200.0.1' }], 'routes.0.nextHop'],
    ['the router itself', [{ cidr: '10.9.0.0/16', nextHop: '10.1.1.1' }], 'routes.0.nextHop'],
    ['neither a way nor a hole', [{ cidr: '10.9.0.0/16' }], 'routes.0.nextHop'],
    ['both', [{ cidr: '10.9.0.0/16', nextHop: '10.1.1.9', blackhole: true }], 'routes.0.blackhole'],
    ['what lies in a subnet', [{ cidr: '10.1.1.128/25', nextHop: '10.1.1.9' }], 'routes.0.cidr'],
    [
      'the same twice',
      [
        { cidr: '10.9.0.0/16', blackhole: true },
        { cidr: '10.9.0.0/16', nextHop: '10.1.1.9' },
      ],
      'routes.1.cidr',
    ],
  ])('is refused: %s', async (_, routes, field) => {
    const vpc = await newVpc();
    await subnetIn(vpc.id, '10.1.1.0/24');
    const refused = await answer(tenant, 'POST', '/v1/route-tables', { name: 'r', vpcId: vpc.id, routes });
    expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
    await away(vpc.id);
  });
});
