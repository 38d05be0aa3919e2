/** Networks on the provider's wire, as what is outside sees them: real hosts, and packets counted on the wire itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { wellKnown } from '../../database/wellKnown.ts';
import { openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab, type RunResult } from '../../lab/real/lab.ts';
import { hostNumbers, namespaces, outside, providerBridge, switchPorts } from '../../lab/real/layout.ts';
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
/** Away with it in the opposite order. */
afterEach(async () => {
  for (const [plural, id] of made.splice(0).reverse())
    await admin.done('DELETE', `/v1/${plural}/${id}${plural === 'instances' ? '?expunge=true' : ''}`);
});
async function keep(plural: string, making: Promise<Resource>): Promise<Resource> {
  const one = await making;
  made.push([plural, one.id]);
  return one;
}
/** Waits for what follows by itself. */
async function until(what: string, probe: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await setTimeout(200)) if (await probe()) return;
  throw new Error(`${what} did not happen within ${timeoutMs / 1000} s`);
}
const outsideRun = (argv: string[]): Promise<RunResult> => run([...inside(namespaces.outside), ...argv]);

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

/** A server outside that tells who has asked. */
async function whoAsks(port: number): Promise<ChildProcess> {
  const script = `require('node:http').createServer((q, a) => a.end('you are ' + q.socket.remoteAddress)).listen(${port}, '${outside.address}', () => console.log('up'))`;
  const [command = '', ...args] = [...inside(namespaces.outside), process.execPath, '-e', script];
  const server = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(server.stdout, 'data');
  return server;
}

describe('VPCs', () => {
  let server: ChildProcess;
  beforeAll(async () => {
    server = await whoAsks(8080);
  });
  afterAll(() => void server?.kill());

  /** A network that leads to the provider's wire, and the range of public addresses there. */
  async function leadOutside(): Promise<Resource> {
    const wire = await keep(
      'physical-networks',
      make(admin, 'physical-networks', {
        name: 'internet',
        zoneId: zone.id,
        encapsulation: 'flat',
        bridge: providerBridge,
        clusterIds: [cluster.id],
      }),
    );
    const network = await keep(
      'networks',
      make(admin, 'networks', {
        name: 'internet',
        zoneId: zone.id,
        projectId: wellKnown.rootProject,
        type: 'flat',
        physicalNetworkId: wire.id,
        external: true,
        visibility: 'public',
      }),
    );
    await keep(
      'subnets',
      make(admin, 'subnets', {
        name: 'public',
        networkId: network.id,
        cidr: outside.network,
        gateway: outside.address,
        allocationRanges: [{ from: '198.51.100.10', to: '198.51.100.50' }],
      }),
    );
    return network;
  }
  const newVpc = (name: string, networkId: string): Promise<Resource> =>
    keep('vpcs', make(tenant, 'vpcs', { name, zoneId: zone.id, cidrs: ['10.1.0.0/16'], uplink: { networkId } }));
  async function subnetIn(vpcId: string, cidr: string): Promise<string> {
    const network = await keep('networks', make(tenant, 'networks', { name: cidr, zoneId: zone.id, vpcId }));
    return (await keep('subnets', make(tenant, 'subnets', { name: cidr, networkId: network.id, cidr }))).id;
  }
  async function guest(name: string, subnetId: string): Promise<string> {
    const id = await deploy(name, subnetId);
    made.push(['instances', id]);
    return id;
  }
  const asks = async (id: string): Promise<string> =>
    (await sh(id, `hget http://${outside.address}:8080/`)).output.trim();
  const pings = async (id: string, address: string): Promise<boolean> =>
    / 0% packet loss/.test((await sh(id, `ping -c 2 -W 1 ${address}`)).output);

  test('with the same addresses reach the outside by their own, each other not at all, and from outside nobody comes in', async () => {
    const internet = await leadOutside();
    const [one, other] = [await newVpc('one', internet.id), await newVpc('other', internet.id)];
    const web = await guest('web', await subnetIn(one.id, '10.1.1.0/24'));
    const app = await guest('app', await subnetIn(one.id, '10.1.2.0/24'));
    const twin = await guest('twin', await subnetIn(other.id, '10.1.1.0/24'));
    expect(await addressOf(twin)).toBe(await addressOf(web));
    await until('an answer to the first', async () => (await asks(web)).endsWith(String(one.publicAddress)));
    await until('an answer to the other', async () => (await asks(twin)).endsWith(String(other.publicAddress)));
    await until('a tier to reach the other', async () => pings(web, await addressOf(app)));
    expect(await pings(twin, await addressOf(app))).toBe(false);
    // Who is outside, and knows the way, does not come in by it: not to what every rule lets in.
    const addresses = [await addressOf(web), await addressOf(app)];
    await outsideRun(['ip', 'route', 'replace', '10.1.0.0/16', 'via', String(one.publicAddress)]);
    for (const address of addresses)
      expect((await outsideRun(['ping', '-c', '3', '-W', '1', address])).stdout).toContain('100% packet loss');
    expect((await outsideRun(['ping', '-c', '2', '-W', '2', String(one.publicAddress)])).stdout).toContain(
      ' 0% packet loss',
    );
    await outsideRun(['ip', 'route', 'del', '10.1.0.0/16']);

    const ping = sh(web, `ping -c 40 -i 0.2 -W 1 ${outside.address}`);
    const before = (await get('vpcs', one.id)).gatewayHostIds as string[];
    await admin.done('POST', `/v1/vpcs/${one.id}/actions/failOverGateway`, {});
    expect((await get('vpcs', one.id)).gatewayHostIds).toEqual([...before].reverse());
    const lost = Number(/(\d+)% packet loss/.exec((await ping).output)?.[1]);
    console.log(`failover on purpose: ${lost} % of 40 pings lost`);
    expect(await asks(web)).toContain(String(one.publicAddress));
  });

  test('guests in two tiers make addresses of IPv6 as their router tells them, and reach each other by them', async () => {
    const vpc = await keep('vpcs', make(tenant, 'vpcs', { name: 'six', zoneId: zone.id, cidrs: ['10.1.0.0/16'] }));
    const echoes = [{ direction: 'in', protocol: 'icmpv6' }];
    const group = await keep(
      'security-groups',
      make(tenant, 'security-groups', { name: 'six', zoneId: zone.id, rules: echoes }),
    );
    const tiers: { id: string; address6: string }[] = [];
    for (const tier of [1, 2]) {
      const name = `tier ${tier}`;
      const network = await keep('networks', make(tenant, 'networks', { name, zoneId: zone.id, vpcId: vpc.id }));
      const newSubnet = (cidr: string): Promise<Resource> =>
        keep('subnets', make(tenant, 'subnets', { name: cidr, networkId: network.id, cidr }));
      const [four, six] = [await newSubnet(`10.1.${tier}.0/24`), await newSubnet(`fd10:0:0:${tier}::/64`)];
      const nic = { subnetId: four.id, subnet6Id: six.id, securityGroupIds: [group.id] };
      const { id } = await make(tenant, 'instances', instanceBody(cloud, name, { networkInterfaces: [nic] }));
      made.push(['instances', id]);
      await serialUntil(tenant, id, /READY .* boots=1 .*(?=\r?\n)/, 180_000);
      const filter = encodeURIComponent(`instanceId = "${id}"`);
      const { items } = await admin.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
      tiers.push({ id, address6: String(items[0]?.address6) });
    }
    // What its kernel has set up of IPv6 is flushed by the script of its DHCP client; a link that comes up begins anew.
    for (const { id } of tiers) await sh(id, 'ip link set eth0 down; ip link set eth0 up');
    for (const { id, address6 } of tiers)
      await until(`address ${address6}`, async () =>
        (await sh(id, 'ip -6 addr show eth0 scope global')).output.includes(address6),
      );
    const [web, app] = tiers;
    const reaches = async (size: number): Promise<boolean> =>
      / 0% packet loss/.test((await sh(web?.id ?? '', `ping -6 -c 2 -W 1 -s ${size} ${app?.address6}`)).output);
    await until('an echo from the other tier', () => reaches(56));
    // The whole size of a packet.
    expect(await reaches(1452)).toBe(true);
  });

  test('a floating IP leads in whole, a port forward by its ports to whom it lets in, and nothing answers once they are gone', async () => {
    const internet = await leadOutside();
    const vpc = await newVpc('shop', internet.id);
    const web = await guest('web', await subnetIn(vpc.id, '10.1.1.0/24'));
    const filter = encodeURIComponent(`instanceId = "${web}"`);
    const [nic] = (await admin.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`)).items;
    const networkInterfaceId = nic?.id;
    const page = `web ${nic?.address}`;
    const held = await keep(
      'floating-ips',
      tenant.call<Resource>('POST', '/v1/floating-ips', { name: 'shop', networkId: internet.id }),
    );
    const address = String(held.address);
    const act = (plural: string, id: string, verb: string, input: unknown = {}): Promise<unknown> =>
      tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, input);
    const pinged = async (): Promise<string> =>
      /\d+% packet loss/.exec((await outsideRun(['ping', '-c', '3', '-i', '0.2', '-W', '1', address])).stdout)?.[0] ??
      '';
    const script = `fetch(process.argv[1], { signal: AbortSignal.timeout(2000) }).then((a) => a.text()).then(console.log, () => console.log('no answer'))`;
    const fetched = async (port = 80): Promise<string> =>
      (await outsideRun([process.execPath, '-e', script, `http://${address}:${port}/`])).stdout.trim();

    expect(await pinged()).toBe('100% packet loss');
    await act('floating-ips', held.id, 'attach', { networkInterfaceId });
    await until('an answer to a ping', async () => (await pinged()) === '0% packet loss');
    expect(await fetched()).toContain(page);
    // What goes out from there comes from it.
    expect(await asks(web)).toBe(`you are ${address}`);
    await act('floating-ips', held.id, 'detach');
    await until('the way out by the address of the VPC', async () =>
      (await asks(web)).endsWith(` ${String(vpc.publicAddress)}`),
    );
    expect([await pinged(), await fetched()]).toEqual(['100% packet loss', 'no answer']);

    const forward = await make(tenant, 'port-forwards', {
      name: 'http',
      floatingIpId: held.id,
      protocol: 'tcp',
      publicPorts: { from: 8080 },
      targetPorts: { from: 80 },
      networkInterfaceId,
      allowedCidrs: [`${outside.address}/32`],
    });
    await until('an answer at the port', async () => (await fetched(8080)).includes(page));
    expect(await fetched()).toBe('no answer');
    await act('port-forwards', forward.id, 'setAllowed', { allowedCidrs: ['192.0.2.0/24'] });
    await until('the port to be closed', async () => (await fetched(8080)) === 'no answer');
    await act('port-forwards', forward.id, 'setAllowed', { allowedCidrs: [] });
    await until('the port to be open', async () => (await fetched(8080)).includes(page));
    await tenant.done('DELETE', `/v1/port-forwards/${forward.id}`);
    await until('nothing to answer', async () => (await fetched(8080)) === 'no answer');

    // Whose instance goes leads nowhere, and then to another one.
    await act('floating-ips', held.id, 'attach', { networkInterfaceId });
    await until('an answer again', async () => (await fetched()).includes(page));
    await tenant.done('DELETE', `/v1/instances/${web}`);
    expect([await pinged(), await fetched()]).toEqual(['100% packet loss', 'no answer']);
    expect((await get('floating-ips', held.id)).networkInterfaceId).toBeNull();
    await tenant.done('POST', `/v1/instances/${web}/actions/recover`, {});
    await act('floating-ips', held.id, 'attach', { networkInterfaceId });
    await tenant.done('POST', `/v1/instances/${web}/actions/start`, {});
    await until('an answer from the recovered one', async () => (await fetched()).includes(page), 180_000);
  });

  test('a load balancer sends to each of two guests, to one alone once the other has stopped, and is asked from inside, too', async () => {
    const internet = await leadOutside();
    const vpc = await newVpc('balanced', internet.id);
    const tier = await subnetIn(vpc.id, '10.1.1.0/24');
    const [one, two] = [await guest('one', tier), await guest('two', tier)];
    const app = await guest('app', await subnetIn(vpc.id, '10.1.2.0/24'));
    const pages = [`one ${await addressOf(one)} `, `two ${await addressOf(two)} `];
    const group = await keep(
      'target-groups',
      tenant.call<Resource>('POST', '/v1/target-groups', {
        name: 'web',
        vpcId: vpc.id,
        protocol: 'tcp',
        port: 80,
        healthCheck: { intervalSeconds: 1, timeoutSeconds: 1 },
        targets: [{ instanceId: one }, { instanceId: two }],
      }),
    );
    const held = await keep(
      'floating-ips',
      tenant.call<Resource>('POST', '/v1/floating-ips', { name: 'balanced', networkId: internet.id }),
    );
    const balancer = (where: Record<string, unknown>): Promise<Resource> =>
      keep('load-balancers', make(tenant, 'load-balancers', { name: 'web', vpcId: vpc.id, ...where }));
    const listen = (at: Resource): Promise<Resource> =>
      keep(
        'listeners',
        make(tenant, 'listeners', {
          name: 'http',
          loadBalancerId: at.id,
          protocol: 'tcp',
          ports: { from: 8000 },
          targetGroupId: group.id,
        }),
      );
    const open = await balancer({ scheme: 'public', floatingIpId: held.id });
    const inner = await balancer({ scheme: 'internal', subnetId: tier });
    const [listener] = [await listen(open), await listen(inner)];
    // Each by a connection of its own.
    const script = `const ask = () => new Promise((done) => require('node:http').get({ host: process.argv[1], port: 8000, agent: false, timeout: 3000 }, (a) => {
      let text = ''; a.on('data', (part) => (text += part)).on('end', () => done(text.trim())); }).on('timeout', function () { this.destroy(); }).on('error', () => done('no answer')));
      (async () => { for (let n = 0; n < process.argv[2]; n++) console.log(await ask()); })()`;
    const answers = async (count: number, at: Resource = open): Promise<string[]> =>
      (await outsideRun([process.execPath, '-e', script, String(at.address), String(count)])).stdout.trim().split('\n');
    type Health = { items: { health: string }[] };
    const health = async (): Promise<string> =>
      (await tenant.call<Health>('GET', `/v1/target-groups/${group.id}/views/health`)).items
        .map((item) => item.health)
        .join();
    const who = (all: string[]): string[] =>
      [...new Set(all.map((text) => pages.find((page) => text.includes(page)) ?? text))].sort();
    await until('both to be well', async () => (await health()) === 'healthy,healthy');
    await until('both to answer outside', async () => who(await answers(20)).join() === pages.join());
    const asked = async (id: string, at: Resource): Promise<string> =>
      (await sh(id, `for n in 1 2 3 4 5 6 7 8 9 10 11 12; do hget http://${String(at.address)}:8000/; done`)).output;
    const both = async (id: string, at = inner): Promise<boolean> => {
      const heard = await asked(id, at);
      return pages.every((page) => heard.includes(page));
    };
    await until('both to answer in another tier', () => both(app));
    await until('both to answer one of them', () => both(one));
    await until('both to answer inside at the public address', () => both(app, open));
    // Who is outside, and knows the way, is answered by what is open, and not by what is not.
    await outsideRun(['ip', 'route', 'replace', '10.1.0.0/16', 'via', String(vpc.publicAddress)]);
    expect(who(await answers(3, inner))).toEqual(['no answer']);
    await outsideRun(['ip', 'route', 'del', '10.1.0.0/16']);

    await tenant.done('POST', `/v1/instances/${two}/actions/stop`, {});
    await until('the stopped one to be told', async () => (await health()) === 'healthy,unhealthy');
    await until('one alone to answer', async () => who(await answers(20)).length === 1);
    expect(who(await answers(100))).toEqual([pages[0]]);
    await tenant.done('POST', `/v1/instances/${two}/actions/start`, {});
    await until('both to answer again', async () => who(await answers(20)).join() === pages.join(), 180_000);

    // Connections that are open when a target is drained come to their end there.
    const waiting = `const net = require('node:net'); let open = 0;
      const all = Array.from({ length: 20 }, () => net.connect(8000, process.argv[1], () => ++open === 20 && console.log('open')));
      process.stdin.once('data', async () => {
        for (const one of all) await new Promise((done) => {
          let text = ''; one.on('data', (part) => (text += part)).on('close', () => done(console.log(text.trim().split('\\n').at(-1) || 'no answer'))).on('error', () => {});
          one.setTimeout(5000, () => one.destroy()).write('GET / HTTP/1.0\\r\\n\\r\\n'); });
        process.exit(); })`;
    const [command = '', ...args] = [
      ...inside(namespaces.outside),
      process.execPath,
      '-e',
      waiting,
      String(open.address),
    ];
    const connected = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    let heard = '';
    connected.stdout.on('data', (part) => {
      heard += part;
    });
    await until('connections to be open', async () => heard.startsWith('open'));
    await tenant.done('POST', `/v1/target-groups/${group.id}/actions/setTargets`, {
      targets: [{ instanceId: one, enabled: false }, { instanceId: two }],
    });
    connected.stdin.write('ask');
    await once(connected, 'exit');
    const ended = heard.trim().split('\n').slice(1);
    expect([ended.length, who(ended).join()]).toEqual([20, pages.join()]);
    await until('the other alone to answer', async () => who(await answers(20)).length === 1);
    expect(who(await answers(50))).toEqual([pages[1]]);
    await tenant.done('POST', `/v1/listeners/${listener?.id}/actions/setOptions`, { enabled: false });
    await until('nobody to answer', async () => who(await answers(3)).join() === 'no answer');
  });
});
