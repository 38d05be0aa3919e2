/** Networks on the provider's wire, as what is outside sees them: real hosts, and packets counted on the wire itself. */
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { hostNumbers, namespaces, providerBridge, switchPorts } from '../../lab/real/layout.ts';
import { inside } from '../../lab/real/network.ts';
import { run } from '../../lab/real/processes.ts';
import { serialUntil } from '../../lab/serial.ts';
import { type GuestCommand, inGuest } from './guest.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
const { hosts, cluster, zone } = cloud;

let lab: Lab;
beforeAll(async () => {
  lab = await attachLab(home);
});

const numberOf = (hostId: unknown): number => hosts.findIndex(({ id }) => id === hostId) + 1;
const get = (plural: string, id: string): Promise<Resource> => admin.call('GET', `/v1/${plural}/${id}`);
async function sh(instanceId: string, command: string): Promise<GuestCommand> {
  const { hostId } = await get('instances', instanceId);
  return inGuest(lab, numberOf(hostId), instanceId, command);
}
const addressOf = async (instanceId: string): Promise<string> => {
  const filter = encodeURIComponent(`instanceId = "${instanceId}"`);
  const { items } = await admin.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  return String(items[0]?.address);
};
async function deploy(name: string, subnetId: string): Promise<string> {
  const body = instanceBody(cloud, name, {
    networkInterfaces: [{ subnetId, securityGroupIds: [cloud.securityGroup.id] }],
  });
  const { id } = await make(tenant, 'instances', body);
  await serialUntil(tenant, id, /READY .* boots=1 .*(?=\r?\n)/, 180_000);
  return id;
}

/** What goes over the cables of a host while something happens, as tcpdump prints it with its Ethernet header. */
async function wireWhile(
  host: (typeof hostNumbers)[number],
  filter: string,
  work: () => Promise<unknown>,
): Promise<string> {
  const listener = run(
    [
      ...inside(namespaces.switch),
      ...['timeout', '30', 'tcpdump', '-l', '-e', '-n', '-c', '2', '-i', switchPorts(host).provider, filter],
    ],
    { timeoutMs: 40_000 },
  );
  let heard: string | null = null;
  void listener.then(({ stdout }) => {
    heard = stdout;
  });
  for (let turn = 0; heard === null && turn < 20; turn++) {
    await work();
    await setTimeout(100);
  }
  return (await listener).stdout;
}

const made: [string, string][] = [];
afterAll(async () => {
  for (const [plural, id] of made.reverse())
    await admin.done('DELETE', `/v1/${plural}/${id}${plural === 'instances' ? '?expunge=true' : ''}`);
});

test('guests on a VLAN meet on the wire of the provider, with its tag, and no others hear them', async () => {
  const wire = await make(admin, 'physical-networks', {
    name: 'provider',
    zoneId: zone.id,
    encapsulation: 'vlan',
    bridge: providerBridge,
    segmentRanges: [{ from: 301, to: 309 }],
    clusterIds: [cluster.id],
  });
  made.push(['physical-networks', wire.id]);
  for (const host of hostNumbers) {
    const { stdout } = await lab.execHost(host, [
      ...['ovs-vsctl', 'get', 'Open_vSwitch', '.', 'external_ids:ovn-bridge-mappings'],
    ]);
    expect(stdout).toContain(`physical-${wire.id}:${providerBridge}`);
  }
  const network = await make(admin, 'networks', {
    name: 'vlan',
    zoneId: zone.id,
    projectId: cloud.project.id,
    type: 'vlan',
    physicalNetworkId: wire.id,
  });
  made.push(['networks', network.id]);
  expect(network.segmentId).toBe(301);
  const subnet = await make(tenant, 'subnets', { name: 'vlan', networkId: network.id, cidr: '10.66.0.0/24' });
  made.push(['subnets', subnet.id]);
  const one = await deploy('on the wire', subnet.id);
  made.push(['instances', one]);
  const other = await deploy('on the wire, too', subnet.id);
  made.push(['instances', other]);
  const [here, there] = [await get('instances', one), await get('instances', other)];
  expect(here.hostId).not.toBe(there.hostId);
  const address = await addressOf(other);
  const host = hostNumbers[numberOf(there.hostId) - 1] ?? 1;
  const seen = await wireWhile(host, 'vlan 301 and icmp', () => sh(one, `ping -c 1 -W 1 ${address}`));
  expect(seen).toMatch(/vlan 301, .*ICMP echo request/);
  // The whole size of a packet, and none lost.
  const ping = await sh(one, `ping -c 3 -W 2 -s 1472 ${address}`);
  expect(ping.output).toMatch(/ 0% packet loss/);
});
