/** What the view allowedTraffic says of rules that are drawn at random is what OVN itself says of the rows that were written for them, asked by `ovn-trace`. */
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { switchName } from '../../activities/network/network.ts';
import { openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { labPaths } from '../../lab/real/layout.ts';
import { northboundSocket, southboundSocket } from '../../lab/real/ovn.ts';
import { must } from '../../lab/real/processes.ts';
import { randomFrom } from '../support/random.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
const zoneId = cloud.zone.id;
const seed = Number(process.env.BELAY_SEED ?? Date.now() % 1_000_000);
const draw = randomFrom(seed);
const random = (below: number): number => Math.floor(draw() * below);
const pick = <T>(values: readonly T[]): T => values[random(values.length)] as T;

const sets = 30;
const packetsOfEach = 6;

/** One whose traffic is asked about, and one at the other end, which lets everything in. Neither is started: OVN knows their ports. */
let mine: Resource;
let peer: Resource;
let group: Resource;
let open: Resource;
let offices: Resource;
let offices6: Resource;
let network: Resource;
let subnet: Resource;
const instances: string[] = [];

async function portWith(name: string, securityGroupIds: string[]): Promise<Resource> {
  const networkInterfaces = [{ subnetId: subnet.id, securityGroupIds }];
  const { id } = await make(
    tenant,
    'instances',
    instanceBody(cloud, name, { startOnCreate: false, networkInterfaces }),
  );
  instances.push(id);
  const filter = encodeURIComponent(`instanceId = "${id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  return items[0] as Resource;
}

beforeAll(async () => {
  // Addresses are drawn at random too: with port security none but their own would leave the ports.
  network = await make(tenant, 'networks', { name: 'traced', zoneId, portSecurity: false });
  subnet = await make(tenant, 'subnets', { name: 'traced', networkId: network.id, cidr: '10.61.0.0/24' });
  offices = await make(tenant, 'address-groups', { name: 'o4', family: 4, entries: [{ cidr: '192.0.2.0/24' }] });
  offices6 = await make(tenant, 'address-groups', { name: 'o6', family: 6, entries: [{ cidr: 'fd01::/16' }] });
  group = await make(tenant, 'security-groups', { name: 'traced', zoneId });
  const rules = [4, 6].map((family) => ({ direction: 'in', protocol: 'any', family }));
  open = await make(tenant, 'security-groups', { name: 'open', zoneId, rules });
  mine = await portWith('traced', [group.id]);
  peer = await portWith('peer', [open.id]);
});
afterAll(async () => {
  for (const id of instances) {
    await tenant.done('DELETE', `/v1/instances/${id}`);
    await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
  }
  for (const [plural, one] of [
    ['security-groups', group],
    ['security-groups', open],
    ['address-groups', offices],
    ['address-groups', offices6],
    ['subnets', subnet],
    ['networks', network],
  ] as const)
    await tenant.done('DELETE', `/v1/${plural}/${one.id}`);
});

function rule(): Record<string, unknown> {
  const protocol = pick(['any', 'tcp', 'udp', 'icmp', 'icmpv6']);
  const family = protocol === 'icmp' ? 4 : protocol === 'icmpv6' ? 6 : pick([4, 6]);
  const made: Record<string, unknown> = { direction: pick(['in', 'in', 'out']), protocol, family };
  const remote = random(4);
  if (remote === 0) made.remoteCidr = family === 4 ? pick(['10.61.0.0/24', '192.0.2.7/32', '0.0.0.0/0']) : 'fd00::/8';
  if (remote === 1) made.remoteAddressGroupId = family === 4 ? offices.id : offices6.id;
  if (remote === 2) made.remoteSecurityGroupId = pick([open.id, group.id]);
  if (protocol === 'tcp' || protocol === 'udp') {
    if (random(3) > 0) made.fromPort = pick([22, 53]);
    if (made.fromPort && random(2) === 0) made.toPort = 443;
  }
  if (protocol.startsWith('icmp') && random(2) === 0) made.icmpType = protocol === 'icmp' ? 8 : 128;
  if (random(6) === 0) made.enabled = false;
  return made;
}

interface Packet {
  direction: string;
  protocol: string;
  address: string;
  port?: number;
}

function packet(): Packet {
  const address = pick([String(peer.address), '192.0.2.7', '198.51.100.1', 'fd00::7', 'fd01::7', '2001:db8::1']);
  const protocol = pick(['tcp', 'udp', address.includes(':') ? 'icmpv6' : 'icmp', 'other']);
  const port = protocol === 'tcp' || protocol === 'udp' ? { port: pick([22, 53, 80, 443, 444]) } : {};
  return { direction: pick(['in', 'out']), protocol, address, ...port };
}

/** Whether a packet between the two ports, the first of a connection, is put out at the other one. */
async function trace({ direction, protocol, address, port }: Packet): Promise<{ passes: boolean; traced: string }> {
  const inbound = direction === 'in';
  const [from, to] = inbound ? [peer, mine] : [mine, peer];
  const six = address.includes(':');
  const ip = six ? 'ip6' : 'ip4';
  const own = six ? 'fd00::99' : String(mine.address);
  const [source, destination] = inbound ? [address, own] : [own, address];
  const ofProtocol: Record<string, string> = {
    tcp: `tcp && tcp.src == 40000 && tcp.dst == ${port}`,
    udp: `udp && udp.src == 40000 && udp.dst == ${port}`,
    icmp: 'icmp4.type == 8 && icmp4.code == 0',
    icmpv6: 'icmp6.type == 128 && icmp6.code == 0',
    other: 'ip.proto == 47',
  };
  const flow = [
    `inport == "${from.id}"`,
    `eth.src == ${String(from.mac)} && eth.dst == ${String(to.mac)}`,
    `${ip}.src == ${source} && ${ip}.dst == ${destination} && ip.ttl == 64`,
    ofProtocol[protocol],
  ].join(' && ');
  const traced = await must([
    'ovn-trace',
    `--db=unix:${southboundSocket(labPaths(home))}`,
    // At each place where connections are looked up.
    ...Array<string>(4).fill('--ct=new,trk'),
    // Else it shortens names that look like UUIDs.
    '--no-friendly-names',
    switchName(network.id),
    flow,
  ]);
  return { passes: traced.includes(`/* output to "${to.id}"`), traced };
}

test(`is what OVN traces, of ${sets} sets of rules from seed ${seed}`, async () => {
  const seen = { passed: 0, dropped: 0 };
  for (let set = 0; set < sets; set++) {
    const rules = Array.from({ length: random(5) }, rule);
    await tenant.done('POST', `/v1/security-groups/${group.id}/actions/setRules`, { rules });
    await must(['ovn-nbctl', `--db=unix:${northboundSocket(labPaths(home))}`, '--timeout=15', '--wait=sb', 'sync']);
    for (let count = 0; count < packetsOfEach; count++) {
      const asked = packet();
      const query = new URLSearchParams(
        Object.entries(asked).map(([name, value]): [string, string] => [name, String(value)]),
      );
      const told = await tenant.call<{ allowed: boolean; id: string }>(
        'GET',
        `/v1/network-interfaces/${mine.id}/views/allowedTraffic?${query}`,
      );
      const { passes, traced } = await trace(asked);
      if (told.allowed !== passes) expect.fail(`told ${JSON.stringify({ rules, asked, told })}\n${traced}`);
      seen[passes ? 'passed' : 'dropped'] += 1;
    }
  }
  console.log(`seed ${seed}: ${seen.passed} passed, ${seen.dropped} dropped, all as told`);
  expect(Math.min(seen.passed, seen.dropped)).toBeGreaterThan(10);
});
