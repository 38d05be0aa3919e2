/** A port is in its switch and in all its groups, or it is not made: what OVN lacks is told, not passed over. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { networks } from '../../../activities/network/network.ts';
import { networkInterfaces } from '../../../activities/network/networkInterface.ts';
import { type Northbound, openNorthbound } from '../../../activities/network/northbound.ts';
import { securityGroups } from '../../../activities/network/securityGroup.ts';
import { subnets } from '../../../activities/network/subnet.ts';
import type { StepContext } from '../../../activities/step.ts';
import type { World } from '../../../activities/world.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import type { Pair } from '../../../model/network/networkInterface.ts';
import { cloud } from '../simulator/cloud.ts';

const networkId = '10000000-0000-4000-8000-000000000001';
const subnetId = '20000000-0000-4000-8000-000000000001';
const groupId = '30000000-0000-4000-8000-000000000001';
const instanceId = '40000000-0000-4000-8000-000000000001';
const portId = '50000000-0000-4000-8000-000000000001';
const hex = (id: string): string => id.replaceAll('-', '');
const context = {} as StepContext;

const port = {
  id: portId,
  networkId,
  subnetId,
  mac: '02:00:00:00:00:01',
  address: '10.0.0.2',
  subnet6Id: null as string | null,
  address6: null as string | null,
  dhcp6: false,
  secondaryAddresses: [] as string[],
  securityGroupIds: [groupId],
  dhcp: true,
  portSecurity: true,
  networkPortSecurity: true,
  allowedPairs: [] as Pair[],
  linkUp: true,
  qos: null,
  dnsName: null,
  domain: null,
  namedOn: [],
};
const records = {
  subnet: {
    cidr: '10.0.0.0/24',
    gateway: '10.0.0.1',
    dhcp: true,
    dnsServers: [] as string[],
    zoneServers: ['10.0.0.53'],
    domain: null as string | null,
    leaseSeconds: 3600,
    family: 4,
    ipv6Mode: null as string | null,
    ntpServers: [] as string[],
    searchDomains: [] as string[],
    hostRoutes: [] as { cidr: string; nextHop: string }[],
  },
  securityGroup: { rules: [{ direction: 'out', protocol: 'tcp', fromPort: 443 }] },
};

let simulator: Simulator;
let northbound: Northbound;
let world: World;
beforeEach(async () => {
  simulator = await cloud({ hosts: 1 });
  northbound = openNorthbound(simulator.ovn.nbRemote);
  world = {
    northbound,
    // What the steps ask of the records: the interfaces of the instance, of the network, of the group.
    database: {
      connections: {
        query: async ({ text }: { text: string }) => ({ rows: [/FROM "subnet" s/.test(text) ? records.subnet : port] }),
      },
      prisma: {
        securityGroup: { findUniqueOrThrow: async () => records.securityGroup },
        instance: { findUniqueOrThrow: async () => ({ hostId: null }) },
      },
    },
  } as unknown as World;
  await networks(world).make.do({ networkId }, context);
  await subnets(world).make.do({ subnetId }, context);
  await securityGroups(world).make.do({ securityGroupId: groupId }, context);
});
afterEach(async () => {
  northbound.close();
  await simulator.stop();
});

const rows = (table: string): Record<string, unknown>[] =>
  (simulator.inventory().ovn.OVN_Northbound?.[table] ?? []) as Record<string, unknown>[];
const portsIn = (table: string, name: string): unknown =>
  rows(table).find((row) => row.name === name)?.ports ?? 'no such row';
const plug = () => networkInterfaces(world).plug.do({ instanceId, hostId: 'chassis-1' }, context);
const drop = (table: string, name: string) =>
  northbound.transact('drop', [{ op: 'delete', table, where: [['name', '==', name]] }]);

const members: [string, string, RegExp][] = [
  ['Logical_Switch', `network-${networkId}`, /no switch of network/],
  ['Port_Group', `net_${hex(networkId)}`, /no port group of network/],
  ['Port_Group', `sg_${hex(groupId)}`, /no port group of security group/],
];

describe('plug', () => {
  test('puts the port into its switch, the group of its network, and its security groups, however often it runs', async () => {
    await plug();
    const once = simulator.inventory().ovn;
    await plug();
    expect(simulator.inventory().ovn).toEqual(once);
    for (const [table, name] of members) expect(portsIn(table, name)).toEqual([portId]);
  });

  test.each(members)('does not bring a port up without its %s %s', async (table, name, message) => {
    await drop(table, name);
    const before = simulator.inventory().ovn;
    await expect(plug()).rejects.toMatchObject({
      type: 'PRECONDITION_FAILED',
      nonRetryable: true,
      message: expect.stringMatching(message),
    });
    expect(simulator.inventory().ovn).toEqual(before);
  });

  test('does not bring a port up without the DHCP options of its subnet', async () => {
    await subnets(world).remove.do({ subnetId }, context);
    await expect(plug()).rejects.toMatchObject({ type: 'PRECONDITION_FAILED' });
    expect(rows('Logical_Switch_Port')).toEqual([]);
  });

  test('returns a port that is there to a group that it was lost from', async () => {
    await plug();
    const whole = simulator.inventory().ovn;
    await northbound.transact('lose', [
      {
        op: 'update',
        table: 'Port_Group',
        where: [['name', '==', `net_${hex(networkId)}`]],
        row: { ports: ['set', []] },
      },
    ]);
    await plug();
    expect(simulator.inventory().ovn).toEqual(whole);
  });
});

describe('a port group that is made anew', () => {
  test.each([
    [`net_${hex(networkId)}`, () => networks(world).make.do({ networkId }, context)],
    [`sg_${hex(groupId)}`, () => securityGroups(world).make.do({ securityGroupId: groupId }, context)],
  ])('has at once all ports that the records say are in it: %s', async (name, make) => {
    await plug();
    const whole = simulator.inventory().ovn;
    await drop('Port_Group', name);
    expect(portsIn('Port_Group', name)).toBe('no such row');
    await make();
    expect(simulator.inventory().ovn).toEqual(whole);
  });
});

describe('binding', () => {
  const steps = () => networkInterfaces(world);
  const hosts = { instanceId, sourceHostId: 'a', targetHostId: 'b' };
  test('a port that is not there is refused', async () => {
    for (const bound of [
      steps().bind.do({ instanceId, hostId: 'a' }, context),
      steps().bindToBoth.do(hosts, context),
      steps().bindToTarget.do(hosts, context),
    ])
      await expect(bound).rejects.toMatchObject({ type: 'PRECONDITION_FAILED' });
  });

  test('is undone whether the port is there or not', async () => {
    await steps().bind.undo?.({ instanceId, hostId: 'a' }, context);
    await steps().bindToBoth.undo?.(hosts, context);
    await steps().unbind.do({ instanceId }, context);
    expect(rows('Logical_Switch_Port')).toEqual([]);
  });
});

test('new rules replace the old ones in the rows of OVN', async () => {
  const count = rows('ACL').length;
  await securityGroups(world).replaceRules.do({ securityGroupId: groupId, rules: [] }, context);
  expect(rows('ACL')).toHaveLength(count - 4);
  await securityGroups(world).replaceRules.undo?.({ securityGroupId: groupId, rules: [] }, context);
  expect(rows('ACL')).toHaveLength(count);
});

describe('what a network and its zone say of guests', () => {
  afterEach(() => {
    port.portSecurity = true;
    Object.assign(records.subnet, { dnsServers: [], domain: null });
  });

  const options = async (told: Partial<typeof records.subnet>): Promise<unknown> => {
    Object.assign(records.subnet, told);
    await subnets(world).make.do({ subnetId }, context);
    return rows('DHCP_Options')[0]?.options;
  };

  test('they are told the name servers of the subnet, else those of the zone, and the domain', async () => {
    expect(await options({})).toMatchObject({ dns_server: '{10.0.0.53}' });
    expect(await options({ dnsServers: ['10.0.0.2', '10.0.0.3'] })).toMatchObject({
      dns_server: '{10.0.0.2, 10.0.0.3}',
    });
    expect(await options({ domain: 'example.net' })).toMatchObject({ domain_name: '"example.net"' });
    expect(await options({ domain: null })).not.toHaveProperty('domain_name');
  });

  test('they are told servers of time, domains to search, and routes with the one to the gateway among them', async () => {
    const four = {
      ntpServers: ['10.0.0.9'],
      searchDomains: ['a.example', 'b.example'],
      hostRoutes: [{ cidr: '10.8.0.0/16', nextHop: '10.0.0.7' }],
    };
    expect(await options(four)).toMatchObject({
      ntp_server: '{10.0.0.9}',
      domain_search_list: '"a.example,b.example"',
      classless_static_route: '{10.8.0.0/16,10.0.0.7, 0.0.0.0/0,10.0.0.1}',
    });
  });

  test('those of IPv6 are told by DHCPv6 what is for them, and nothing where they make their address by themselves', async () => {
    const six = {
      cidr: 'fd00::/64',
      gateway: null as never,
      family: 6,
      ipv6Mode: 'dhcpv6',
      ntpServers: [],
      hostRoutes: [],
    };
    const told = await options({ ...six, searchDomains: [], dnsServers: ['fd00::53'], domain: 'example.net' });
    expect(told).toEqual({ server_id: expect.any(String), dns_server: '{fd00::53}', domain_search: '"example.net"' });
    expect(await options({ ipv6Mode: 'stateless' })).toMatchObject({ dhcpv6_stateless: 'true' });
    await subnets(world).remove.do({ subnetId }, context);
    expect(await options({ ipv6Mode: 'slaac' })).toBeUndefined();
    Object.assign(records.subnet, { cidr: '10.0.0.0/24', gateway: '10.0.0.1', family: 4, ipv6Mode: null });
  });

  test('a port sends with its own addresses alone, unless its network has no port security', async () => {
    await plug();
    const own = '02:00:00:00:00:01 10.0.0.2';
    expect(rows('Logical_Switch_Port')).toMatchObject([{ addresses: [own], port_security: [own] }]);
    port.portSecurity = false;
    await plug();
    // An empty column is not in the inventory.
    expect(rows('Logical_Switch_Port')).toMatchObject([{ addresses: [own, 'unknown'] }]);
    expect(rows('Logical_Switch_Port')[0]).not.toHaveProperty('port_security');
  });
});

describe('one interface', () => {
  afterEach(() => {
    Object.assign(port, { secondaryAddresses: [], allowedPairs: [], linkUp: true, securityGroupIds: [groupId] });
  });
  const steps = () => networkInterfaces(world);
  const of = { networkInterfaceId: portId };
  const own = '02:00:00:00:00:01 10.0.0.2';

  test('has the port of its record, however often that is made, and none when it is removed', async () => {
    await steps().makeOne.do(of, context);
    const once = simulator.inventory().ovn;
    await steps().makeOne.do(of, context);
    expect(simulator.inventory().ovn).toEqual(once);
    for (const [table, name] of members) expect(portsIn(table, name)).toEqual([portId]);
    await steps().removeOne.do(of, context);
    expect(rows('Logical_Switch_Port')).toEqual([]);
  });

  test('may send with further addresses, and with pairs that are allowed; other MAC addresses are sent to it, too', async () => {
    await steps().makeOne.do(of, context);
    const change = {
      secondaryAddresses: ['10.0.0.3'],
      allowedPairs: [{ cidr: '10.9.0.0/16' }, { cidr: '10.0.0.9/32', mac: '02:00:00:00:00:99' }],
    };
    await steps().rewrite.do({ ...of, change }, context);
    expect(rows('Logical_Switch_Port')).toMatchObject([
      {
        addresses: [`${own} 10.0.0.3`, 'unknown'],
        port_security: [`${own} 10.0.0.3 10.9.0.0/16`, '02:00:00:00:00:99 10.0.0.9/32'],
      },
    ]);
    await steps().rewrite.undo?.({ ...of, change }, context);
    expect(rows('Logical_Switch_Port')).toMatchObject([{ addresses: [own], port_security: [own] }]);
  });

  test('leaves the groups that it is to carry no more in the same transaction, and is put back', async () => {
    await steps().makeOne.do(of, context);
    const before = simulator.inventory().ovn;
    const change = { securityGroupIds: [], linkUp: false, portSecurity: false };
    await steps().rewrite.do({ ...of, change }, context);
    expect(portsIn('Port_Group', `sg_${hex(groupId)}`)).toBe('no such row');
    expect(portsIn('Port_Group', `net_${hex(networkId)}`)).toEqual([portId]);
    expect(rows('Logical_Switch_Port')).toMatchObject([{ enabled: [false], addresses: [own, 'unknown'] }]);
    await steps().rewrite.undo?.({ ...of, change }, context);
    expect(simulator.inventory().ovn).toEqual(before);
  });

  test('is bound by itself, and let go of', async () => {
    await steps().makeOne.do(of, context);
    const before = simulator.inventory().ovn;
    const on = { ...of, hostId: 'chassis-1' };
    await steps().bindOne.do(on, context);
    expect(rows('Logical_Switch_Port')).toMatchObject([{ options: { 'requested-chassis': 'chassis-1' } }]);
    await steps().unbindOne.do(on, context);
    expect(simulator.inventory().ovn).toEqual(before);
  });
});

describe('a step that comes too late', () => {
  const late = (mayChange: () => Promise<void>, remote = simulator.ovn.nbRemote): Northbound => {
    northbound.close();
    northbound = openNorthbound(remote, null, mayChange);
    return northbound;
  };
  const plugged = (over: Northbound): Promise<void> =>
    networkInterfaces({ ...world, northbound: over }).plug.do({ instanceId }, context);

  test('looks, and changes nothing', async () => {
    const before = simulator.inventory();
    await expect(
      plugged(
        late(async () => {
          throw new Error('too late');
        }),
      ),
    ).rejects.toThrow('too late');
    expect(simulator.inventory()).toEqual(before);
  });

  test('sends nothing over another session than the one in which it was asked whether it may', async () => {
    const port = Number(simulator.ovn.nbRemote.split(':').at(-1));
    const sockets = new Set<Socket>();
    const gate = createServer((socket) => {
      const onward = connect({ host: '127.0.0.1', port });
      sockets.add(socket);
      socket.pipe(onward).pipe(socket);
      for (const end of [socket, onward])
        end.on('error', () => {}).on('close', () => void [socket, onward].map((one) => one.destroy()));
    }).listen(0, '127.0.0.1');
    await once(gate, 'listening');
    const before = simulator.inventory();
    // The database has heard nothing for too long.
    const cutOff = async (): Promise<void> => {
      for (const socket of sockets) socket.destroy();
      await expect.poll(() => [...sockets].every(({ destroyed }) => destroyed)).toBe(true);
    };
    const over = late(cutOff, `tcp:127.0.0.1:${(gate.address() as AddressInfo).port}`);
    await expect(plugged(over)).rejects.toThrow('OVN northbound');
    expect(simulator.inventory()).toEqual(before);
    gate.close();
  });
});
