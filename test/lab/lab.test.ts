/** The promises that only real hosts, a real Ceph and a real OVN can keep. One lab, three guests; each part leaves it as it was. */
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { type Inventory, type LabInventory, openInventory } from '../../lab/real/inventory.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { writers } from '../../lab/real/writers.ts';
import { serialUntil } from '../../lab/serial.ts';
import { realUnderlay } from '../../lab/underlay.ts';
import { findOwnedProcess } from '../../postgres/owned-process.ts';
import { casesOf, runCases, type Subject, table, type Verdict } from '../support/rollback.ts';
import { atRest, changes, records, withoutRuns } from '../support/world.ts';
import { deadHost } from './deadHost.ts';
import { type GuestCommand, inGuest } from './guest.ts';
import { hostFiles } from './hostFiles.ts';
import { suspendedWorkers } from './suspended.ts';

const { home, apiUrl, token, databaseUrl, cloud: provisioned, untouchedHost } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
const { hosts } = cloud;
const publicKey = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'B'.repeat(43)}`;

let lab: Lab;
let inventory: Inventory;

const numberOf = (hostId: unknown): number => hosts.findIndex(({ id }) => id === hostId) + 1;
const hostIn = (found: LabInventory, hostId: unknown) => found.hosts[`host${numberOf(hostId)}`];
const look = (): Promise<LabInventory> => inventory.read(cloud.storageCluster.id);
/** As the operator, who alone sees where things are. */
const get = (plural: string, id: string): Promise<Resource> => admin.call('GET', `/v1/${plural}/${id}`);
const act = (plural: string, id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, body);
const remove = (plural: string, id: string): Promise<OperationView> => tenant.done('DELETE', `/v1/${plural}/${id}`);
const operator = (plural: string, id: string): Promise<OperationView> => admin.done('DELETE', `/v1/${plural}/${id}`);
const list = async (plural: string, filter: string): Promise<Resource[]> =>
  (await tenant.call<{ items: Resource[] }>('GET', `/v1/${plural}?filter=${encodeURIComponent(filter)}`)).items;

async function expunge(plural: 'instances' | 'volumes', id: string): Promise<void> {
  if ((await get(plural, id)).state !== 'destroyed') await remove(plural, id);
  await act(plural, id, 'expunge');
}

/** A shell command in a guest, wherever it runs now. */
async function sh(instanceId: string, command: string): Promise<GuestCommand> {
  const { hostId } = await get('instances', instanceId);
  return inGuest(lab, numberOf(hostId), instanceId, command);
}

const addressOf = async (instanceId: string): Promise<string> =>
  String((await list('network-interfaces', `instanceId = "${instanceId}"`))[0]?.address);

/** Waits for what happens by itself, such as a record that follows its guest. */
async function until<T>(what: string, probe: () => Promise<T | null | false>, timeoutMs = 60_000): Promise<T> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await setTimeout(200)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`${what} did not happen within ${timeoutMs / 1000} s`);
}

const figures: string[] = [];
async function timed<T>(what: string, work: Promise<T>): Promise<T> {
  const started = Date.now();
  const result = await work;
  figures.push(`${what} ${((Date.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

async function deploy(name: string, more: Record<string, unknown> = {}): Promise<Resource> {
  const deployed = await timed(`deploy ${name}`, make(tenant, 'instances', instanceBody(cloud, name, more)));
  return get('instances', deployed.id);
}
const ready = (instanceId: string, boots: number): Promise<string> =>
  timed(`boot ${boots}`, serialUntil(tenant, instanceId, new RegExp(`READY .* boots=${boots} .*(?=\\r?\\n)`), 180_000));

const picture = (): Promise<unknown> =>
  atRest(databaseUrl, async () => ({
    records: withoutRuns(await records(databaseUrl)),
    real: withoutRuns(await look()),
  }));

let server: Resource;
let client: Resource;
let closed: Resource;
let keyPair: Resource;
let serverAddress = '';

beforeAll(async () => {
  lab = await attachLab(home);
  inventory = await openInventory(home);
  keyPair = await tenant.call('POST', '/v1/key-pairs', { name: 'laptop', publicKey: `${publicKey} me@laptop` });
});

afterAll(async () => {
  await inventory?.close();
  console.log(figures.join('\n'));
});

describe('a deployed instance', () => {
  test('boots with the address, host name, user data and SSH key of its record', async () => {
    server = await deploy('server', {
      guestHostname: 'front-door',
      keyPairIds: [keyPair.id],
      userData:
        '#!/bin/sh\necho applied >/run/user-data-ran\nnc -ll -p 7000 -e /bin/cat >/dev/null 2>&1 </dev/null &\n',
    });
    serverAddress = await addressOf(server.id);
    expect(await ready(server.id, 1)).toContain(`READY front-door ${serverAddress} `);
    const { output } = await sh(
      server.id,
      `cat /run/user-data-ran /root/.ssh/authorized_keys; cat /sys/class/net/eth0/mtu`,
    );
    expect(output).toContain('applied');
    expect(output).toContain(publicKey);
    expect(output).toContain('1500');
  });

  test('reaches another one on another host, by TCP through its security group and with whole packets', async () => {
    client = await deploy('client');
    await ready(client.id, 1);
    expect(client.hostId).not.toBe(server.hostId);
    const page = await sh(client.id, `hget http://${serverAddress}/`);
    expect(page.output).toContain(`front-door ${serverAddress}`);
    // A switch finds its way to another host with the first packet, which is lost.
    await sh(client.id, `ping -c 1 -W 1 ${serverAddress}`);
    const ping = await sh(client.id, `ping -c 3 -W 2 -s 1472 ${serverAddress}`);
    expect(ping.output).toMatch(/ 0% packet loss/);
  });

  test('without a security group lets nobody in, and may go out', async () => {
    closed = await deploy('closed', { networkInterfaces: [{ subnetId: cloud.subnet.id, securityGroupIds: [] }] });
    await ready(closed.id, 1);
    const address = await addressOf(closed.id);
    expect((await sh(client.id, `hget http://${address}/`)).code).not.toBe(0);
    expect((await sh(client.id, `ping -c 2 -W 1 ${address}`)).output).toContain('100% packet loss');
    expect((await sh(closed.id, `hget http://${serverAddress}/`)).output).toContain('front-door');
  });

  test('can not send from an address that is not its own', async () => {
    const pings = async (): Promise<number> =>
      Number((await sh(server.id, `awk '/^Icmp: [0-9]/ { print $10 }' /proc/net/snmp`)).output);
    const before = await pings();
    const foreign = '10.77.200.200';
    await sh(
      client.id,
      `ip addr add ${foreign}/32 dev eth0; ping -I ${foreign} -c 3 -W 1 ${serverAddress}; ip addr del ${foreign}/32 dev eth0`,
    );
    expect(await pings()).toBe(before);
    await sh(client.id, `ping -c 3 -W 1 ${serverAddress}`);
    expect(await pings()).toBe(before + 3);
  });
});

describe('the rules of a security group', () => {
  /** Whether the server's sshd greets the client. */
  const greets = async (): Promise<boolean> =>
    (await sh(client.id, `(sleep 1) | nc -w 3 ${serverAddress} 22 | head -c 4`)).output.includes('SSH-');
  const shows = async (): Promise<boolean> => (await sh(client.id, `hget http://${serverAddress}/`)).code === 0;
  const echoes = async (): Promise<boolean> =>
    / [12] packets received/.test((await sh(client.id, `ping -c 2 -W 1 ${serverAddress}`)).output);
  const echoesOn443 = async (): Promise<boolean> =>
    (await sh(client.id, `(echo through; sleep 1) | nc -w 3 ${serverAddress} 443`)).output.includes('through');
  const asks = async (): Promise<boolean> =>
    (await sh(client.id, 'udhcpc -i eth0 -q -n -t 5 -T 1 -s /etc/udhcpc')).code === 0;

  /** Hosts follow a change by themselves: what passes is asked until it is as documented. */
  async function pass(expected: Record<string, boolean>): Promise<void> {
    const probes: Record<string, () => Promise<boolean>> = { greets, shows, echoes, echoesOn443, asks };
    let seen: Record<string, boolean> = {};
    await until('what the rules say', async () => {
      seen = {};
      for (const name of Object.keys(expected)) seen[name] = (await probes[name]?.()) ?? false;
      return isDeepStrictEqual(seen, expected);
    }).catch(() => {});
    expect(seen).toEqual(expected);
  }

  const inbound = { direction: 'in', protocol: 'any' };
  const cases: [string, unknown[], Record<string, boolean>][] = [
    [
      'TCP 22 alone',
      [{ direction: 'in', protocol: 'tcp', fromPort: 22 }],
      { greets: true, shows: false, echoes: false },
    ],
    [
      'ports up to 80, from where the client is',
      [{ direction: 'in', protocol: 'tcp', fromPort: 23, toPort: 80, remoteCidr: '10.77.0.0/16' }],
      { greets: false, shows: true, echoes: false },
    ],
    [
      'all, from where the client is not',
      [{ direction: 'in', protocol: 'any', remoteCidr: '10.78.0.0/16' }],
      { greets: false, shows: false, echoes: false },
    ],
    [
      'echo requests',
      [{ direction: 'in', protocol: 'icmp', icmpType: 8, icmpCode: 0 }],
      { greets: false, shows: false, echoes: true },
    ],
    [
      'ICMP of another type',
      [{ direction: 'in', protocol: 'icmp', icmpType: 13 }],
      { greets: false, shows: false, echoes: false },
    ],
    [
      'TCP 443 alone on the way out, and asking for an address',
      [inbound, { direction: 'out', protocol: 'tcp', fromPort: 443 }],
      { greets: false, shows: false, echoes: false, echoesOn443: true, asks: true },
    ],
    ['all', [inbound], { greets: true, shows: true, echoes: true, echoesOn443: true }],
  ];

  const setRules = (rules: unknown): Promise<OperationView> =>
    act('security-groups', cloud.securityGroup.id, 'setRules', { rules });

  test.each(cases)('let through %s, and nothing else', async (_, rules, expected) => {
    await sh(server.id, 'netstat -tln | grep -q :443 || nc -ll -p 443 -e /bin/cat >/dev/null 2>&1 </dev/null &');
    await setRules(rules);
    await pass(expected);
  });

  test('follow the entries of the address group that they name', async () => {
    const own = { cidr: `${await addressOf(client.id)}/32`, note: 'the client' };
    const foreign = { cidr: '10.78.0.0/16' };
    const { id } = await make(tenant, 'address-groups', { name: 'callers', family: 4, entries: [foreign, own] });
    const closed = { greets: false, shows: false, echoes: false };
    const open = { greets: true, shows: true, echoes: true };
    await setRules([{ ...inbound, remoteAddressGroupId: id }]);
    await pass(open);
    for (const [entries, expected] of [
      [[foreign], closed],
      [[own], open],
      [[], closed],
      // One lies in the other.
      [[own, { cidr: '0.0.0.0/0' }], open],
      [[foreign], closed],
    ] as const) {
      await act('address-groups', id, 'setEntries', { entries });
      await pass(expected);
    }
    await setRules(cloud.securityGroup.rules);
    await remove('address-groups', id);
  });

  test('stand below the firewall policy of their network: a packet passes if both allow it', async () => {
    const own = `${await addressOf(client.id)}/32`;
    const group = await make(tenant, 'address-groups', { name: 'callers', family: 4, entries: [{ cidr: own }] });
    const rule = (priority: number, action: string, protocol: string, more: Record<string, unknown> = {}) => ({
      priority,
      direction: 'in',
      action,
      protocol,
      ...more,
    });
    const web = rule(20, 'allow', 'tcp', { fromPort: 80 });
    const policy = await make(tenant, 'firewall-policies', { name: 'tier', rules: [web] });
    const carry = (body: Record<string, unknown>): Promise<OperationView> =>
      act('networks', cloud.network.id, 'setFirewallPolicy', body);
    const policed = (rules: unknown[], more: Record<string, unknown> = {}): Promise<OperationView> =>
      act('firewall-policies', policy.id, 'setRules', { rules, ...more });
    await setRules([inbound]);
    await pass({ greets: true, shows: true, echoes: true });
    await carry({ firewallPolicyId: policy.id });
    await pass({ greets: false, shows: true, echoes: false });
    await policed([web, rule(30, 'allow', 'icmp'), rule(10, 'deny', 'any', { source: { addressGroupId: group.id } })]);
    await pass({ greets: false, shows: false, echoes: false });
    await act('address-groups', group.id, 'setEntries', { entries: [{ cidr: '10.78.0.0/16' }] });
    await pass({ greets: false, shows: true, echoes: true });
    // What the policy allows is for the security group to decide.
    await setRules([{ direction: 'in', protocol: 'tcp', fromPort: 22 }]);
    await pass({ greets: false, shows: false, echoes: false });
    await policed([rule(10, 'reject', 'tcp', { fromPort: 80, log: true })], {
      defaults: { in: 'allow', out: 'allow' },
    });
    await pass({ greets: true, shows: false, echoes: false });
    await policed([], { defaults: { in: 'allow', out: 'deny' } });
    await pass({ greets: false, asks: true });
    await carry({});
    await setRules(cloud.securityGroup.rules);
    await pass({ shows: true });
    await remove('firewall-policies', policy.id);
    await remove('address-groups', group.id);
  });

  test('follow those that carry the security group that they name, be it their own, and let nothing through when not enabled', async () => {
    const own = { ...inbound, remoteSecurityGroupId: cloud.securityGroup.id };
    const shut = { greets: false, shows: false, echoes: false };
    await setRules([own]);
    await pass({ greets: true, shows: true, echoes: true });
    // It carries no group.
    expect((await sh(closed.id, `hget http://${serverAddress}/`)).code).not.toBe(0);
    await setRules([{ ...own, enabled: false }]);
    await pass(shut);
    const { id } = await make(tenant, 'security-groups', { name: 'others', zoneId: cloud.zone.id });
    await setRules([{ ...inbound, remoteSecurityGroupId: id }]);
    await pass(shut);
    await setRules([own]);
    await pass({ greets: true, shows: true, echoes: true });
    await setRules(cloud.securityGroup.rules);
    await remove('security-groups', id);
  });

  afterAll(async () => {
    const { rules } = cloud.securityGroup;
    if (server) await setRules(rules);
  });
});

describe('interfaces that are plugged into running guests', () => {
  let network: Resource;
  let subnet: Resource;
  let subnet6: Resource;
  const nics: Resource[] = [];
  const ours = async (index: number): Promise<Resource> => get('network-interfaces', String(nics[index]?.id));
  const change = async (index: number, body: unknown): Promise<void> => {
    const { id } = await tenant.call<OperationView>('PATCH', `/v1/network-interfaces/${nics[index]?.id}`, body);
    expect((await tenant.settled(id)).state).toBe('succeeded');
  };
  const reaches = async (target: string, from = ''): Promise<boolean> =>
    / [12] packets received/.test((await sh(client.id, `ping -c 2 -W 1 ${from} ${target}`)).output);
  /** A guest that is emulated notices after a while what was plugged in. */
  const appears = 'i=0; while [ ! -e /sys/class/net/eth1 ] && [ $i -lt 150 ]; do sleep 0.2; i=$((i + 1)); done';
  const becomes = (what: string, probe: () => Promise<boolean>): Promise<unknown> => until(what, probe);

  test('have their address by DHCP, and reach each other; a second one of the guest, on a network of its own', async () => {
    network = await make(tenant, 'networks', { name: 'second', zoneId: cloud.zone.id });
    subnet = await make(tenant, 'subnets', { name: 'second', networkId: network.id, cidr: '10.62.0.0/24' });
    subnet6 = await make(tenant, 'subnets', {
      name: 'second of IPv6',
      networkId: network.id,
      cidr: 'fd62::/64',
      ipv6Mode: 'dhcpv6',
    });
    for (const instance of [client, server]) {
      const nic = await make(tenant, 'network-interfaces', {
        name: 'second',
        subnetId: subnet.id,
        subnet6Id: subnet6.id,
        securityGroupIds: [cloud.securityGroup.id],
      });
      nics.push(nic);
      await act('network-interfaces', nic.id, 'attach', { instanceId: instance.id });
      const asked = await sh(
        instance.id,
        `${appears}; ip link set eth1 up && udhcpc -i eth1 -q -n -t 20 -T 1 -s /etc/udhcpc && ip -4 -o addr show eth1`,
      );
      expect(asked.output).toContain(String((await get('network-interfaces', nic.id)).address));
    }
    const other = String((await ours(1)).address);
    await becomes('an echo', () => reaches(other));
  });

  test('speak IPv6 with the address that they were given, and by the rules of that family alone', async () => {
    for (const [index, instance] of [client, server].entries())
      await sh(instance.id, `ip -6 addr add ${String((await ours(index)).address6)}/64 dev eth1`);
    const other = String((await ours(1)).address6);
    const reaches6 = async (from = ''): Promise<boolean> =>
      / [12] packets received/.test((await sh(client.id, `ping -6 -c 2 -W 1 ${from} ${other}`)).output);
    const setRules = (more: unknown[]): Promise<OperationView> =>
      act('security-groups', cloud.securityGroup.id, 'setRules', {
        rules: [...(cloud.securityGroup.rules as unknown[]), ...more],
      });
    const echoes = { direction: 'in', protocol: 'icmpv6', icmpType: 128 };
    expect(await reaches6()).toBe(false);
    await setRules([{ ...echoes, remoteSecurityGroupId: cloud.securityGroup.id }]);
    await becomes('an echo of IPv6', () => reaches6());
    await setRules([{ ...echoes, enabled: false }]);
    await becomes('silence', async () => !(await reaches6()));
    await setRules([{ ...echoes, remoteCidr: 'fd62::/64' }]);
    await becomes('an echo from the network', () => reaches6());
    // Port security knows its addresses of both families.
    await sh(client.id, 'ip -6 addr add fd62::bad/64 dev eth1; sleep 2');
    expect(await reaches6('-I fd62::bad')).toBe(false);
    await sh(client.id, 'ip -6 addr del fd62::bad/64 dev eth1');
    await setRules([]);
  });

  test('are sent further addresses, and may send with what is allowed to them, and with nothing else', async () => {
    await act('network-interfaces', String(nics[1]?.id), 'setAddresses', { secondaryAddresses: ['10.62.0.77'] });
    await sh(server.id, 'ip addr add 10.62.0.77/24 dev eth1');
    await becomes('an echo of the further address', () => reaches('10.62.0.77'));
    const other = String((await ours(1)).address);
    await sh(client.id, 'ip addr add 10.62.0.200/24 dev eth1');
    expect(await reaches(other, '-I 10.62.0.200')).toBe(false);
    await change(0, { allowedPairs: [{ cidr: '10.62.0.200/32' }] });
    await becomes('an echo to the allowed address', () => reaches(other, '-I 10.62.0.200'));
    await change(0, { allowedPairs: [] });
    await becomes('silence', async () => !(await reaches(other, '-I 10.62.0.200')));
    await sh(client.id, 'ip addr del 10.62.0.200/24 dev eth1');
  });

  test('carry as much as they may, and lose what is more', async () => {
    const other = String((await ours(1)).address);
    // 140,000 bytes, which is eleven seconds of what is let through.
    const lost = async (): Promise<number> =>
      Number(/(\d+)% packet loss/.exec((await sh(client.id, `ping -c 100 -i 0.02 -s 1372 ${other}`)).output)?.[1]);
    expect(await lost()).toBe(0);
    for (const [index, qos] of [
      [0, { outBytesPerSec: 12_500 }],
      [1, { inBytesPerSec: 12_500 }],
    ] as const) {
      await change(index, { qos });
      await becomes('a limit', async () => (await lost()) > 30);
      await change(index, { qos: null });
      await becomes('no limit', async () => (await lost()) === 0);
    }
  });

  test('are found by their names, with addresses of both families', async () => {
    const { address, address6 } = await ours(1);
    // Whoever is asked: OVN answers in its place.
    const found = async (): Promise<string> =>
      (await sh(client.id, `nslookup other ${String(address)}`)).output.split('Name:').slice(1).join();
    await change(1, { dnsName: 'other' });
    await becomes('an answer', async () => (await found()).includes(String(address)));
    expect(await found()).toContain(String(address6));
    await change(1, { dnsName: null });
    await becomes('no answer', async () => !(await found()).includes(String(address)));
  });

  test('whose link is down see that, and come back with it', async () => {
    const other = String((await ours(1)).address);
    const carrier = async (): Promise<string> => (await sh(server.id, 'cat /sys/class/net/eth1/carrier')).output.trim();
    await change(1, { linkUp: false });
    expect(await carrier()).toBe('0');
    expect(await reaches(other)).toBe(false);
    await change(1, { linkUp: true });
    await becomes('the carrier', async () => (await carrier()) === '1');
    await becomes('an echo', () => reaches(other));
  });

  test('go along when their guest moves, and are let go of', async () => {
    const other = String((await ours(1)).address);
    await act('instances', client.id, 'migrate');
    await becomes('an echo after the move', () => reaches(other));
    for (const [index, instance] of [client, server].entries()) {
      await act('network-interfaces', String(nics[index]?.id), 'detach');
      expect((await sh(instance.id, 'ls /sys/class/net')).output).not.toContain('eth1');
      await remove('network-interfaces', String(nics[index]?.id));
    }
    for (const { id } of [subnet, subnet6]) await remove('subnets', id);
    await remove('networks', network.id);
    const { ovn } = await look();
    expect(JSON.stringify(ovn)).not.toContain(String(nics[0]?.id));
  });
});

describe('a live migration', () => {
  const beats = async (): Promise<number> => Number((await sh(client.id, 'cat /run/beats')).output.trim() || 0);
  const sockets = async (): Promise<string> =>
    (await sh(client.id, `netstat -tn | grep ':7000.*ESTABLISHED' | awk '{ print $4 }'`)).output.trim();

  test('keeps a TCP connection, and leaves nothing at the source', async () => {
    await sh(
      client.id,
      `( n=0; while :; do n=$((n+1)); echo $n; sleep 0.2; done | nc ${serverAddress} 7000 | while read line; do echo $line >/run/beats; done ) >/dev/null 2>&1 </dev/null &`,
    );
    await until('the first answer', async () => (await beats()) > 0);
    const socket = await sockets();
    const source = client.hostId;
    const target = hosts.find(({ id }) => id !== source && id !== server.hostId);
    const operation = await timed(
      'migration',
      admin.done('POST', `/v1/instances/${client.id}/actions/migrate`, { hostId: target?.id }),
    );
    figures.push(`migration ${JSON.stringify(operation.result)}`);
    client = await get('instances', client.id);
    expect(client.hostId).toBe(target?.id);
    const after = await beats();
    await until('another answer', async () => (await beats()) > after + 5);
    expect(await sockets()).toBe(socket);
    const found = await look();
    expect(JSON.stringify(hostIn(found, source))).not.toContain(client.id);
    expect(hostIn(found, target?.id)?.domains.map(({ id, state }) => [id, state])).toContainEqual([
      client.id,
      'running',
    ]);
  });

  test('that is cancelled leaves the guest running where it was, and everything as before', async () => {
    const before = await picture();
    const last = await beats();
    const { id } = await admin.call<OperationView>('POST', `/v1/instances/${client.id}/actions/migrate`, {
      bandwidthBytesPerSec: 1_048_576,
    });
    await until('progress', async () => (await admin.call<OperationView>('GET', `/v1/operations/${id}`)).progress > 0);
    await admin.call('POST', `/v1/operations/${id}/actions/cancel`, {});
    expect((await timed('cancel of a migration', admin.settled(id))).state).toBe('cancelled');
    // Ceph counts the copy's QEMU as a watcher of the disks until 30 s after its death.
    await until('the picture of before', async () => isDeepStrictEqual(await picture(), before), 60_000).catch(
      () => {},
    );
    expect(changes(before, await picture())).toEqual([]);
    await until('another answer', async () => (await beats()) > last + 5);
  });

  test('that is cancelled after the agent of its source was started anew is aborted in libvirt', async () => {
    const source = client.hostId;
    // While it moves it may hold still, and then its agent does not answer.
    const last = await beats();
    const job = async (): Promise<string> =>
      (await lab.execHost(numberOf(source), ['virsh', '-c', 'qemu:///system', 'domjobinfo', `instance-${client.id}`]))
        .stdout;
    const { id } = await admin.call<OperationView>('POST', `/v1/instances/${client.id}/actions/migrate`, {
      bandwidthBytesPerSec: 1_048_576,
    });
    await until('the job of libvirt', async () => /Operation:\s+Outgoing migration/.test(await job()));
    const restarted = await lab.execHost(numberOf(source), ['/usr/local/sbin/belay-service', 'restart', 'belay-agent']);
    expect(restarted.code).toBe(0);
    await admin.call('POST', `/v1/operations/${id}/actions/cancel`, {});
    expect((await timed('cancel without the agent', admin.settled(id))).state).toBe('cancelled');
    expect(await job()).toMatch(/Job type:\s+None/);
    // The agent may be on its way up still.
    const places = async (): Promise<string[]> => {
      const found = await look();
      return hosts.flatMap(({ id: hostId }) =>
        JSON.stringify(hostIn(found, hostId)).includes(client.id) ? [hostId] : [],
      );
    };
    await until('the guest at the source alone', async () => isDeepStrictEqual(await places(), [source]));
    await until('another answer', async () => (await beats()) > last + 5);
  });

  test('empties a host for maintenance, and brings back what was there', async () => {
    const home = client.hostId;
    const query = `filter=${encodeURIComponent(`hostId = "${home}"`)}`;
    const there = async (): Promise<Resource[]> =>
      (await admin.call<{ items: Resource[] }>('GET', `/v1/instances?${query}`)).items;
    const ids = (await there()).map(({ id }) => id).sort();
    const last = await beats();
    await timed('enter maintenance', admin.done('POST', `/v1/hosts/${home}/actions/enterMaintenance`, {}));
    expect((await get('hosts', String(home))).state).toBe('maintenance');
    expect(await there()).toEqual([]);
    expect(hostIn(await look(), home)?.domains).toEqual([]);
    await until('another answer', async () => (await beats()) > last + 5);
    await timed(
      'exit maintenance',
      admin.done('POST', `/v1/hosts/${home}/actions/exitMaintenance`, { moveBack: true }),
    );
    expect((await there()).map(({ id }) => id).sort()).toEqual(ids);
    const after = await beats();
    await until('another answer', async () => (await beats()) > after + 5);
    client = await get('instances', client.id);
    server = await get('instances', server.id);
  });
});

describe('a volume', () => {
  let snapshot: Resource;
  let copy: Resource;
  /** The guest's name of the copy's disk; empty while it is not attached. */
  const device = async (): Promise<string> =>
    (
      await sh(
        client.id,
        `for s in /sys/block/*/serial; do [ "$(cat $s)" = ${copy.id.replaceAll('-', '').slice(0, 20)} ] && basename $(dirname $s); done; true`,
      )
    ).output.trim();
  const attach = async (): Promise<string> => {
    await timed('attach live', act('volumes', copy.id, 'attach', { instanceId: client.id }));
    return until('the disk in the guest', async () => (await device()) || null);
  };
  const onCopy = async (command: string): Promise<string> =>
    (await sh(client.id, `mkdir -p /mnt && mount /dev/${await device()}2 /mnt && { ${command}; sync; umount /mnt; }`))
      .output;

  test('from a frozen snapshot of a running instance holds what the guest had written', async () => {
    await sh(server.id, 'echo precious >/root/proof');
    snapshot = await timed(
      'snapshot',
      make(tenant, 'snapshots', { name: 'nightly', volumeId: server.rootVolumeId, quiesce: true }),
    );
    expect(snapshot.frozen).toBe(true);
    copy = await timed(
      'volume from snapshot',
      make(tenant, 'volumes', {
        name: 'copy',
        zoneId: cloud.zone.id,
        volumeTypeId: cloud.volumeTypes[0]?.id,
        source: { snapshotId: snapshot.id },
      }),
    );
    await attach();
    expect(await onCopy('cat /mnt/root/proof')).toContain('precious');
  });

  test('that is reverted holds what its snapshot held', async () => {
    const before = await make(tenant, 'snapshots', { name: 'before', volumeId: copy.id });
    await onCopy('echo changed >/mnt/root/proof');
    await timed('detach live', act('volumes', copy.id, 'detach'));
    expect(await device()).toBe('');
    await timed('revert', act('volumes', copy.id, 'revert', { snapshotId: before.id }));
    await attach();
    expect(await onCopy('cat /mnt/root/proof')).toContain('precious');
    await remove('snapshots', before.id);
  });

  test('that grows is seen larger in the running guest at once', async () => {
    await timed('grow live', act('volumes', copy.id, 'resize', { sizeGib: 2 }));
    const name = await device();
    expect((await sh(client.id, `cat /sys/block/${name}/size`)).output.trim()).toBe(String((2 * 2 ** 30) / 512));
    await act('volumes', copy.id, 'detach');
    expect(await device()).toBe('');
    await expunge('volumes', copy.id);
    await remove('snapshots', snapshot.id);
  });
});

describe('the life of an instance', () => {
  const stateOf = async (): Promise<Resource> => get('instances', closed.id);
  const stopped = (): Promise<Resource> =>
    until('the record of a stopped guest', async () => {
      const found = await stateOf();
      return found.state === 'stopped' && found;
    });

  test('goes through stop, start, reboot, deletion and recovery with its disk', async () => {
    await timed('stop', act('instances', closed.id, 'stop', { mode: 'soft' }));
    expect(JSON.stringify((await look()).hosts)).not.toContain(closed.id);
    await timed('start', act('instances', closed.id, 'start'));
    await ready(closed.id, 2);
    await timed('reboot', act('instances', closed.id, 'reboot'));
    await ready(closed.id, 3);
    await timed('delete', remove('instances', closed.id));
    expect(JSON.stringify((await look()).hosts)).not.toContain(closed.id);
    await timed('recover', act('instances', closed.id, 'recover'));
    await act('instances', closed.id, 'start');
    await ready(closed.id, 4);
  });

  test('is followed by its record when the guest powers itself off', async () => {
    await sh(closed.id, '(sleep 0.5; poweroff) >/dev/null 2>&1 </dev/null &');
    expect(await timed('power-off recorded', stopped())).toMatchObject({ stateReason: 'guestPowerOff', hostId: null });
    await act('instances', closed.id, 'start');
  });

  test('is followed by its record when QEMU is killed', async () => {
    const { hostId } = await stateOf();
    const killed = await lab.execHost(numberOf(hostId), ['pkill', '-9', '-f', `guest=instance-${closed.id}`]);
    expect(killed.code).toBe(0);
    expect(await timed('crash recorded', stopped())).toMatchObject({ stateReason: 'crashed', hostId: null });
    expect(JSON.stringify((await look()).hosts)).not.toContain(closed.id);
    await expunge('instances', closed.id);
    expect(JSON.stringify(await look())).not.toContain(closed.id);
  });
});

describe('a step that fails after it acted', () => {
  const idle = { startOnCreate: false };
  const deployed = async (name: string, more = {}): Promise<string> =>
    (await make(tenant, 'instances', instanceBody(cloud, name, more))).id;
  const subjects: Subject[] = [
    {
      type: 'instance.create',
      absent: ['images.cache', 'placement.vacate'],
      prepare: async (name) => {
        const requestedId = randomUUID();
        return {
          targetId: requestedId,
          method: 'POST',
          path: '/v1/instances',
          body: instanceBody(cloud, name, { requestedId }),
        };
      },
      clean: (id) => expunge('instances', id),
    },
    {
      type: 'instance.migrate',
      prepare: async () => ({
        targetId: client.id,
        method: 'POST',
        path: `/v1/instances/${client.id}/actions/migrate`,
        body: {},
      }),
      clean: async () => {},
    },
    {
      type: 'instance.expunge',
      absent: ['volumeRecords.keepRoot'],
      prepare: async (name) => {
        const id = await deployed(name, idle);
        await remove('instances', id);
        return { targetId: id, method: 'POST', path: `/v1/instances/${id}/actions/expunge`, body: {} };
      },
      clean: async (id) => {
        const left = await list('instances', `id = "${id}"`);
        if (left.length > 0) await expunge('instances', id);
      },
    },
    {
      type: 'volume.attach',
      prepare: async (name) => {
        const volume = await make(tenant, 'volumes', {
          name,
          zoneId: cloud.zone.id,
          volumeTypeId: cloud.volumeTypes[0]?.id,
          sizeGib: 1,
        });
        const body = { instanceId: client.id };
        return { targetId: volume.id, method: 'POST', path: `/v1/volumes/${volume.id}/actions/attach`, body };
      },
      clean: async (id) => {
        if ((await get('volumes', id)).instanceId) await act('volumes', id, 'detach');
        await expunge('volumes', id);
      },
    },
    {
      type: 'snapshot.create',
      prepare: async (name) => {
        const requestedId = randomUUID();
        const body = { name, volumeId: server.rootVolumeId, quiesce: true, requestedId };
        return { targetId: requestedId, method: 'POST', path: '/v1/snapshots', body };
      },
      clean: async (id) => void (await remove('snapshots', id)),
    },
  ];

  for (const subject of subjects)
    test(`of ${subject.type} is undone without a trace, or the operation goes on to its end`, async () => {
      const verdicts: Verdict[] = [];
      const left = new Set<string>();
      const cases = casesOf(subject.type, subject.absent, ['failAfter']);
      const forward = cases.filter(({ expect: wanted }) => wanted === 'succeeded');
      const undone = cases.filter((one) => !forward.includes(one));
      for (const together of [...undone.map((one) => [one]), ...(forward.length > 0 ? [forward] : [])]) {
        let before: unknown;
        const ended = await runCases({ admin, tenant, databaseUrl }, subject, together, {
          before: async () => {
            before = await picture();
          },
        });
        verdicts.push(...ended);
        for (const { step, targetId, operation } of ended)
          if (operation.state === 'succeeded') left.add(targetId);
          else {
            expect(changes(before, await picture()), `after ${step}`).toEqual([]);
            if (!subject.type.endsWith('.create')) left.add(targetId);
          }
      }
      for (const id of left) await subject.clean(id);
      figures.push(table(subject.type, verdicts));
      expect(verdicts.flatMap(({ step, problem }) => (problem ? [`${step}: ${problem}`] : []))).toEqual([]);
    });
});

suspendedWorkers(() => ({
  admin,
  tenant,
  hosts,
  workerPid: () => findOwnedProcess(join(home, 'stack-of-lab', 'host.pid'))?.pid ?? 0,
  newInstance: (name, requestedId) => instanceBody(cloud, name, { requestedId }),
  async placesOf(instanceId) {
    const found = await look();
    return hosts.flatMap(({ id }) =>
      (hostIn(found, id)?.domains ?? [])
        .filter((domain) => domain.id === instanceId)
        .map(({ state }): [string, string] => [id, state]),
    );
  },
  expunge: (id) => expunge('instances', id),
}));

deadHost(() => ({
  admin,
  tenant,
  lab,
  cloud,
  hosts,
  workerPid: () => findOwnedProcess(join(home, 'stack-of-lab', 'host.pid'))?.pid ?? 0,
  look,
  async vacate(hostId) {
    for (const guest of [server, client])
      if (guest && (await get('instances', guest.id)).hostId === hostId)
        await admin.done('POST', `/v1/instances/${guest.id}/actions/migrate`, {});
  },
  ready,
  sh,
  timed,
  expunge,
}));

describe('a host', () => {
  test('on which instances run is not deleted', async () => {
    const { hostId } = await get('instances', client.id);
    await expect(operator('hosts', String(hostId))).rejects.toThrow(/HAS_DEPENDENTS/);
  });

  test('that is deleted is as it was before it was added', async () => {
    for (const { id } of [server, client]) await expunge('instances', id);
    const host = hosts[2];
    await timed('host deleted', operator('hosts', host?.id ?? ''));
    expect(await hostFiles(lab, 3)).toEqual(untouchedHost);
    const found = await look();
    expect(found.hosts.host3).toBeNull();
    expect(found.chassis).not.toContain(host?.id);
    expect(found.ceph.users).not.toContain(`client.belay-${host?.id}`);
  });

  test('that refuses the key, is another one than expected, or does not answer is not added, and nothing is left', async () => {
    const before = await picture();
    const given = realUnderlay(lab).hosts[2];
    const refused = async (more: Record<string, unknown>): Promise<string> => {
      const body = { clusterId: cloud.cluster.id, ...given, ...more };
      const accepted = await admin.call<OperationView>('POST', '/v1/hosts', body);
      const { state, error } = await timed(`refusal of ${more.name}`, admin.settled(accepted.id));
      expect(state).toBe('failed');
      return String(error?.code);
    };
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    });
    const otherHost = lab.hosts[1];
    expect(await refused({ name: 'another-key', sshPrivateKey: privateKey })).toBe('PRECONDITION_FAILED');
    expect(await refused({ name: 'another-host', sshHostKey: otherHost?.hostKey })).toBe('PRECONDITION_FAILED');
    expect(await refused({ name: 'no-answer', address: '10.232.0.99', underlayAddress: '10.232.1.99' })).toBe(
      'HOST_UNREACHABLE',
    );
    expect(changes(before, await picture())).toEqual([]);
    expect(await hostFiles(lab, 3)).toEqual(untouchedHost);
  });
});

test('no guest could write from two hosts, at any moment of all that these tests have done', async () => {
  const { begun, wrong } = await writers(home);
  expect(wrong).toEqual([]);
  expect(begun).toBeGreaterThan(20);
});

describe('after everything is deleted through the API', () => {
  test('nothing is left on the hosts, in Ceph or in OVN', async () => {
    await tenant.call('DELETE', `/v1/key-pairs/${keyPair.id}`);
    await operator('subnets', cloud.subnet.id);
    await operator('networks', cloud.network.id);
    await operator('security-groups', cloud.securityGroup.id);
    await operator('images', cloud.image.id);
    for (const { id } of cloud.pools) await operator('storage-pools', id);
    await operator('backup-stores', cloud.backupStore.id);
    await operator('storage-clusters', cloud.storageCluster.id);
    for (const { id } of hosts.slice(0, 2)) await operator('hosts', id);
    const found = await inventory.read();
    expect(found.hosts).toEqual({ host1: null, host2: null, host3: null });
    expect(found.ceph).toEqual({ users: [], pools: {} });
    expect(found.chassis).toEqual([]);
    expect(Object.entries(found.ovn).filter(([, rows]) => rows.length > 0)).toEqual([]);
  });
});
