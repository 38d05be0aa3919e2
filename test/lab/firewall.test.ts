/** What firewall policies that are drawn at random let through is what OVN itself says of the rows that were written for them, asked by `ovn-trace`. */
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { switchName } from '../../activities/network/network.ts';
import { openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { labPaths } from '../../lab/real/layout.ts';
import { northboundSocket, southboundSocket } from '../../lab/real/ovn.ts';
import { must } from '../../lab/real/processes.ts';
import { drawPacket, drawPolicy, type PolicyPacket, said } from '../support/firewall.ts';
import { randomFrom } from '../support/random.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
const zoneId = cloud.zone.id;
const seed = Number(process.env.BELAY_SEED ?? Date.now() % 1_000_000);
const draw = randomFrom(seed);
const random = (below: number): number => Math.floor(draw() * below);

const sets = 30;
const packetsOfEach = 6;

/** One whose traffic is asked about, under the policy, and one at the other end. Neither is started: OVN knows their ports. */
let mine: Resource;
let peer: Resource;
let policy: Resource;
let network: Resource;
const made: [plural: string, id: string][] = [];
const instances: string[] = [];
const groups: Record<string, readonly string[]> = {};
const groupIds: Record<4 | 6, string[]> = { 4: [], 6: [] };

async function keep(plural: string, body: object): Promise<Resource> {
  const one = await make(tenant, plural, { name: 'policed', ...body });
  made.unshift([plural, one.id]);
  return one;
}

async function portOn(subnetId: string, securityGroupIds: string[]): Promise<Resource> {
  const networkInterfaces = [{ subnetId, securityGroupIds }];
  const body = instanceBody(cloud, 'policed', { startOnCreate: false, networkInterfaces });
  const { id } = await make(tenant, 'instances', body);
  instances.push(id);
  const filter = encodeURIComponent(`instanceId = "${id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  return items[0] as Resource;
}

beforeAll(async () => {
  for (const [family, cidrs] of [
    [4, ['10.62.0.0/28', '192.0.2.0/24']],
    [4, []],
    [6, ['fd01::/16']],
  ] as const) {
    const { id } = await keep('address-groups', { family, entries: cidrs.map((cidr) => ({ cidr })) });
    groups[id] = cidrs;
    groupIds[family].push(id);
  }
  policy = await keep('firewall-policies', {});
  // Addresses are drawn at random too: with port security none but their own would leave the ports.
  network = await keep('networks', { zoneId, portSecurity: false });
  const subnet = await keep('subnets', { networkId: network.id, cidr: '10.62.0.0/24' });
  const rules = [
    { direction: 'in', protocol: 'tcp', family: 4, fromPort: 22, toPort: 443 },
    { direction: 'in', protocol: 'any', family: 6 },
  ];
  const group = await keep('security-groups', { zoneId, rules });
  const all = [4, 6].map((family) => ({ direction: 'in', protocol: 'any', family }));
  const open = await keep('security-groups', { zoneId, rules: all });
  mine = await portOn(subnet.id, [group.id]);
  peer = await portOn(subnet.id, [open.id]);
  await tenant.done('POST', `/v1/networks/${network.id}/actions/setFirewallPolicy`, { firewallPolicyId: policy.id });
});
afterAll(async () => {
  for (const id of instances) {
    await tenant.done('DELETE', `/v1/instances/${id}`);
    await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
  }
  for (const [plural, id] of made) await tenant.done('DELETE', `/v1/${plural}/${id}`);
});

/** Whether a packet between the two ports, the first of a connection, is put out at the other one. */
async function trace(packet: PolicyPacket): Promise<{ passes: boolean; traced: string }> {
  const inbound = packet.direction === 'in';
  const [from, to] = inbound ? [peer, mine] : [mine, peer];
  const ip = `ip${packet.family}`;
  const { port, icmpType, icmpCode } = packet;
  const ofProtocol: Record<PolicyPacket['protocol'], string> = {
    tcp: `tcp && tcp.src == 40000 && tcp.dst == ${port}`,
    udp: `udp && udp.src == 40000 && udp.dst == ${port}`,
    icmp: `icmp4.type == ${icmpType} && icmp4.code == ${icmpCode}`,
    icmpv6: `icmp6.type == ${icmpType} && icmp6.code == ${icmpCode}`,
    other: `ip.proto == ${packet.number}`,
  };
  const traced = await must([
    'ovn-trace',
    `--db=unix:${southboundSocket(labPaths(home))}`,
    // At each place where connections are looked up.
    ...Array<string>(4).fill('--ct=new,trk'),
    '--no-friendly-names',
    switchName(network.id),
    [
      `inport == "${from.id}"`,
      `eth.src == ${String(from.mac)} && eth.dst == ${String(to.mac)}`,
      `${ip}.src == ${packet.source} && ${ip}.dst == ${packet.destination} && ip.ttl == 64`,
      ofProtocol[packet.protocol],
    ].join(' && '),
  ]);
  return { passes: traced.includes(`/* output to "${to.id}"`), traced };
}

test(`is what OVN traces, of ${sets} policies from seed ${seed}`, async () => {
  const networks = {
    4: ['10.62.0.0/24', '10.0.0.0/8', '192.0.2.7/32', '0.0.0.0/0'],
    6: ['fd00::/8', 'fd01::/64', '::/0'],
  };
  const addresses = {
    4: ['10.62.0.7', '10.62.0.99', '192.0.2.7', '198.51.100.1'],
    6: ['fd00::7', 'fd01::7', '2001:db8::1'],
  };
  const seen = { passed: 0, dropped: 0 };
  for (let set = 0; set < sets; set++) {
    const drawn = drawPolicy({ random, networks, groupIds }, 6);
    await tenant.done('POST', `/v1/firewall-policies/${policy.id}/actions/setRules`, drawn);
    await must(['ovn-nbctl', `--db=unix:${northboundSocket(labPaths(home))}`, '--timeout=15', '--wait=sb', 'sync']);
    for (let count = 0; count < packetsOfEach; count++) {
      const packet = drawPacket(random, addresses);
      // Both ports are under the policy: a packet leaves the one, and comes to the other.
      const allowed = (['out', 'in'] as const).every(
        (direction) => said(drawn, { ...packet, direction }, groups) === 'allow',
      );
      const { direction, family, protocol, port = 0 } = packet;
      const byGroup = direction === 'out' || family === 6 || (protocol === 'tcp' && port >= 22 && port <= 443);
      const expected = allowed && byGroup;
      const { passes, traced } = await trace(packet);
      if (passes !== expected) expect.fail(`${expected} expected of ${JSON.stringify({ drawn, packet })}\n${traced}`);
      seen[passes ? 'passed' : 'dropped'] += 1;
    }
  }
  console.log(`seed ${seed}: ${seen.passed} passed, ${seen.dropped} dropped, all as said`);
  expect(Math.min(seen.passed, seen.dropped)).toBeGreaterThan(10);
});
