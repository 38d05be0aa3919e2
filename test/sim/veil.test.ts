/** What tenants learn of the machines below and of the people who run them: nothing, in any answer of any operation. */
import { beforeAll, expect, inject, test } from 'vitest';
import { wellKnown } from '../../database/wellKnown.ts';
import type { Api, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import { viewsOf } from '../../model/views.ts';
import { newCertificate } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside } from '../support/outside.ts';
import { code, peopleOf, rootDomain } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { bind, list, newAccount, newRole, person } = peopleOf(admin);
const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF veil';
const zoneId = cloud.zone.id;
const types = { zoneId, volumeTypeId: cloud.volumeTypes[0]?.id };

/** All that was answered, with what it answered. */
const heard: { asked: string; text: string }[] = [];
/** The same API; what it answers is kept. */
function listening(api: Api): Api {
  const raw: Api['raw'] = async (method, path, body, headers) => {
    const response = await api.raw(method, path, body, headers);
    const text = await response.clone().text();
    heard.push({ asked: `${method} ${path}`, text });
    return response;
  };
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const headers: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const response = await raw(method, path, body === undefined ? null : JSON.stringify(body), headers);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  };
  const settled: Api['settled'] = async (id) => {
    await api.settled(id);
    return call('GET', `/v1/operations/${id}`);
  };
  const done: Api['done'] = async (method, path, body) => {
    const ended = await settled((await call<{ id: string }>(method, path, body)).id);
    if (ended.state !== 'succeeded') throw new Error(`${ended.type} ${ended.state}: ${JSON.stringify(ended.error)}`);
    return ended;
  };
  return { ...api, raw, call, settled, done, as: (token) => listening(api.as(token)) };
}

/** Every word that a tenant must never read, with what it is. */
async function secrets(): Promise<Map<string, string>> {
  const words = new Map<string, string>();
  const add = (what: string, value: unknown): void =>
    void (typeof value === 'string' && value.length > 3 && words.set(value, what));
  for (const kind of ['host', 'storagePool', 'storageCluster', 'backupStore', 'cluster', 'pod', 'physicalNetwork'])
    for (const row of await list(admin, kindOf(kind).plural, '')) {
      add(`id of a ${kind}`, row.id);
      if (kind === 'host')
        for (const field of ['name', 'address', 'underlayAddress']) add(`${field} of a host`, row[field]);
      if (kind === 'storageCluster')
        for (const field of ['fsid', 'adminUser']) if (row[field] !== 'admin') add(field, row[field]);
      if (kind === 'backupStore') add('endpoint', row.endpoint);
    }
  add('user of the operator', '00000000-0000-4000-8000-000000000005');
  for (const key of await list(admin, 'api-keys', 'userId = "00000000-0000-4000-8000-000000000005"'))
    add('key of the operator', key.id);
  return words;
}

let tenant: Api;
let project: Resource;
let account: Resource;
let domain: Resource;
let done = new Set<string>();
beforeAll(async () => {
  domain = await admin.call('POST', '/v1/domains', { name: `veil-${crypto.randomUUID()}`, parentId: rootDomain });
  ({ account, project } = await newAccount('veil', domain.id));
  const member = await person('member', account.id, 'accountOwner', ['account', account.id]);
  tenant = listening(member.api);
}, 120_000);

/** Asks for an action as the tenant; remembers that it was tried. */
async function act(api: Api, kind: string, id: string, verb: string, body: unknown = {}): Promise<void> {
  const path = `/v1/${kindOf(kind).plural}/${id}`;
  const [method, where] = verb === 'delete' ? ['DELETE', path] : ['POST', `${path}/actions/${verb}`];
  const sent = verb === 'delete' ? undefined : body;
  if (api === tenant) await code(tenant, method, `${where}?dryRun=true`, sent);
  await api.done(method, where, sent);
  done.add(`${kind}.${verb}`);
}
async function create(kind: string, body: Record<string, unknown>): Promise<Resource> {
  const plural = kindOf(kind).plural;
  await code(tenant, 'POST', `/v1/${plural}?dryRun=true`, body);
  const made = await make(tenant, plural, body);
  done.add(`${kind}.create`);
  return made;
}
async function away(kind: string, id: string): Promise<void> {
  const path = `/v1/${kindOf(kind).plural}/${id}?cascade=true&expunge=true`;
  await code(tenant, 'DELETE', `${path}&dryRun=true`);
  await tenant.done('DELETE', path);
  done.add(`${kind}.cascade`);
}

test('no answer of any operation tells a tenant of hosts, stores, pools or operators', {
  timeout: 240_000,
}, async () => {
  done = new Set();
  const network = await create('network', { name: 'n', zoneId });
  const subnet = await create('subnet', { name: 's', networkId: network.id, cidr: '10.44.0.0/24' });
  const group = await create('securityGroup', { name: 'g', zoneId });
  const addresses = await create('addressGroup', { name: 'a', family: 4 });
  await act(tenant, 'addressGroup', addresses.id, 'setEntries', { entries: [{ cidr: '10.0.0.0/8' }] });
  const rule = { direction: 'in', protocol: 'icmp', remoteAddressGroupId: addresses.id };
  await act(tenant, 'securityGroup', group.id, 'setRules', { rules: [rule] });
  const [outside, other] = await Promise.all(['veil', 'veil2'].map((name) => newOutside(admin, cloud, name)));
  const cidrs = ['10.70.0.0/16'];
  const vpc = await create('vpc', { name: 'v', zoneId, cidrs, uplink: { networkId: outside?.network.id } });
  await act(tenant, 'vpc', vpc.id, 'setCidrs', { cidrs: [...cidrs, '10.71.0.0/16'] });
  const further = { networkId: other?.network.id, isDefault: false };
  await act(tenant, 'vpc', vpc.id, 'attachUplink', further);
  const { uplinks } = await tenant.call<Resource & { uplinks: { id: string }[] }>('GET', `/v1/vpcs/${vpc.id}`);
  await act(tenant, 'vpc', vpc.id, 'detachUplink', { uplinkId: uplinks[1]?.id });
  const single = await admin.call('POST', '/v1/router-types', { name: 'veiled', redundant: false });
  await act(tenant, 'vpc', vpc.id, 'changeType', { routerTypeId: single.id });
  await act(tenant, 'vpc', vpc.id, 'changeType');
  await admin.call('DELETE', `/v1/router-types/${single.id}`);
  await act(tenant, 'vpc', vpc.id, 'repair');
  const behind = await make(tenant, 'networks', { name: 'b', zoneId, vpcId: vpc.id });
  const inVpc = await make(tenant, 'subnets', { name: 'b', networkId: behind.id, cidr: '10.70.1.0/24' });
  const [first, second] = await Promise.all(
    ['1', '2'].map((name) => make(tenant, 'network-interfaces', { name, subnetId: inVpc.id })),
  );
  const publicAddress = (): Promise<Resource> =>
    tenant.call('POST', '/v1/floating-ips', { name: 'f', networkId: outside?.network.id });
  const ports = { name: 'p', protocol: 'tcp', publicPorts: { from: 80 }, networkInterfaceId: first?.id };
  const held = await publicAddress();
  await act(tenant, 'floatingIp', held.id, 'attach', { networkInterfaceId: first?.id });
  await act(tenant, 'floatingIp', held.id, 'move', { networkInterfaceId: second?.id });
  await act(tenant, 'floatingIp', held.id, 'detach');
  const forward = await create('portForward', { ...ports, floatingIpId: held.id });
  await act(tenant, 'portForward', forward.id, 'setAllowed', { allowedCidrs: ['192.0.2.0/24'] });
  const inPublic = await publicAddress();
  const targets = await tenant.call('POST', '/v1/target-groups', {
    name: 't',
    vpcId: vpc.id,
    protocol: 'tcp',
    port: 80,
    targets: [{ networkInterfaceId: first?.id }],
  });
  const balancer = await create('loadBalancer', {
    name: 'b',
    vpcId: vpc.id,
    scheme: 'public',
    floatingIpId: inPublic.id,
  });
  const listening = { name: 'l', loadBalancerId: balancer.id, protocol: 'tcp', ports: { from: 443 } };
  const listener = await create('listener', { ...listening, targetGroupId: targets.id });
  await act(tenant, 'listener', listener.id, 'setOptions', { enabled: true });
  await act(tenant, 'targetGroup', targets.id, 'setTargets', { targets: [{ networkInterfaceId: second?.id }] });
  await act(tenant, 'targetGroup', targets.id, 'setOptions', { algorithm: 'sourceHash' });
  await act(tenant, 'loadBalancer', balancer.id, 'repair');
  await act(tenant, 'portForward', forward.id, 'detach');
  await act(tenant, 'portForward', forward.id, 'attach', { networkInterfaceId: second?.id });
  await act(tenant, 'vpc', vpc.id, 'repair');
  await act(tenant, 'listener', listener.id, 'delete');
  const another = await make(tenant, 'listeners', { ...listening, targetGroupId: targets.id });
  await away('listener', another.id);
  await act(tenant, 'loadBalancer', balancer.id, 'delete');
  const internal = { name: 'b', vpcId: vpc.id, scheme: 'internal', subnetId: inVpc.id };
  await away('loadBalancer', (await make(tenant, 'load-balancers', internal)).id);
  await act(tenant, 'targetGroup', targets.id, 'delete');
  const empty = await tenant.call('POST', '/v1/target-groups', { name: 't', vpcId: vpc.id, protocol: 'tcp' });
  await away('targetGroup', empty.id);
  await tenant.done('DELETE', `/v1/floating-ips/${inPublic.id}`);
  await act(tenant, 'portForward', forward.id, 'delete');
  const again = await make(tenant, 'port-forwards', { ...ports, floatingIpId: held.id });
  await away('portForward', again.id);
  await act(tenant, 'floatingIp', held.id, 'delete');
  await away('floatingIp', (await publicAddress()).id);
  for (const one of [first, second]) await tenant.done('DELETE', `/v1/network-interfaces/${one?.id}`);
  await tenant.done('DELETE', `/v1/networks/${behind.id}?cascade=true`);
  const routes = await create('routeTable', { name: 'r', vpcId: vpc.id });
  await act(tenant, 'routeTable', routes.id, 'setRoutes', { routes: [{ cidr: '10.99.0.0/16', blackhole: true }] });
  await admin.done('POST', `/v1/vpcs/${vpc.id}/actions/failOverGateway`, {});
  const policy = await create('firewallPolicy', { name: 'p' });
  const deny = {
    priority: 1,
    direction: 'in',
    action: 'deny',
    protocol: 'icmp',
    source: { addressGroupId: addresses.id },
  };
  await act(tenant, 'firewallPolicy', policy.id, 'setRules', {
    rules: [deny],
    defaults: { in: 'allow', out: 'allow' },
  });
  await act(tenant, 'network', network.id, 'setFirewallPolicy', { firewallPolicyId: policy.id });
  await act(tenant, 'firewallPolicy', policy.id, 'repair');
  await act(tenant, 'network', network.id, 'repair');
  await act(tenant, 'securityGroup', group.id, 'repair');
  await act(tenant, 'addressGroup', addresses.id, 'repair');
  const image = await tenant.call('POST', '/v1/images', { name: 'i', zoneId });
  const disk = new Uint8Array(1024 * 1024);
  disk.set([0x55, 0xaa], 510);
  const uploaded = await tenant.raw('PUT', `/v1/images/${image.id}/content`, disk);
  await tenant.settled(((await uploaded.json()) as { id: string }).id);
  done.add('image.import');
  const nic = { networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [group.id] }] };
  const instance = await create('instance', instanceBody(cloud, 'i', nic));
  await act(tenant, 'instance', instance.id, 'reboot', { mode: 'force' });
  await act(tenant, 'instance', instance.id, 'migrate');
  // The operator moves it, too: to a host of its choice.
  const { hostId } = await admin.call('GET', `/v1/instances/${instance.id}`);
  const to = cloud.hosts.find(({ id }) => id !== hostId)?.id;
  await admin.done('POST', `/v1/instances/${instance.id}/actions/migrate`, { hostId: to });
  const own = await create('networkInterface', { name: 'nic', subnetId: subnet.id });
  await act(tenant, 'networkInterface', own.id, 'attach', { instanceId: instance.id });
  await tenant.settled((await tenant.call('PATCH', `/v1/network-interfaces/${own.id}`, { linkUp: false })).id);
  done.add('networkInterface.update');
  await act(tenant, 'networkInterface', own.id, 'setAddresses', { secondaryAddresses: ['10.44.0.99'] });
  await act(tenant, 'networkInterface', own.id, 'repair');
  await act(tenant, 'networkInterface', own.id, 'detach');
  await act(tenant, 'networkInterface', own.id, 'delete');
  await act(tenant, 'subnet', subnet.id, 'setOptions', { ntpServers: ['10.44.0.5'] });
  const volume = await create('volume', { name: 'v', ...types, sizeGib: 1 });
  await act(tenant, 'volume', volume.id, 'attach', { instanceId: instance.id });
  await act(tenant, 'volume', volume.id, 'detach');
  await act(tenant, 'volume', volume.id, 'resize', { sizeGib: 2 });
  const snapshot = await create('snapshot', { name: 's', volumeId: volume.id });
  await act(tenant, 'volume', volume.id, 'revert', { snapshotId: snapshot.id });
  await act(tenant, 'instance', instance.id, 'stop', { mode: 'force' });
  await act(tenant, 'instance', instance.id, 'start');
  const plan = await create('schedule', {
    name: 'p',
    cron: '0 0 1 1 *',
    action: 'volume.update',
    input: { labels: { seen: 'yes' } },
    targets: { ids: [volume.id] },
  });
  await act(tenant, 'schedule', plan.id, 'runNow');
  // From then on it runs as the operator.
  await admin.done('PATCH', `/v1/schedules/${plan.id}`, { maxParallel: 1 });
  await tenant.done('PATCH', `/v1/schedules/${plan.id}`, { description: 'mine' });
  done.add('schedule.update');
  await act(admin, 'schedule', plan.id, 'runNow');

  // What fails: at once, and on the way.
  const big = await admin.call('POST', '/v1/instance-types', {
    name: `big-${crypto.randomUUID()}`,
    vcpus: 512,
    memoryMib: 16_000_000,
    rootVolumeTypeId: cloud.volumeTypes[0]?.id,
  });
  const noRoom = await code(
    tenant,
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'big', { ...nic, instanceTypeId: big.id }),
  );
  expect(noRoom).toBe('409 NO_CAPACITY');
  expect(await code(tenant, 'POST', '/v1/volumes', { name: 'v', ...types, sizeGib: 65_536 })).toMatch(
    /^(202|409 NO_CAPACITY)$/,
  );
  const limit = await admin.call('POST', '/v1/quotas', {
    name: 'q',
    scopeKind: 'domain',
    scopeId: domain.id,
    counter: 'keyPairs',
    limit: 0,
  });
  expect(await code(tenant, 'POST', '/v1/key-pairs', { name: 'k', publicKey })).toBe('403 QUOTA_EXCEEDED');
  const quotaAnswer = heard.at(-1)?.text ?? '';
  expect(quotaAnswer).not.toContain(domain.id);
  expect(JSON.parse(quotaAnswer)).not.toHaveProperty('used');
  await admin.call('DELETE', `/v1/quotas/${limit.id}`);
  await admin.call('DELETE', `/v1/instance-types/${big.id}`);
  const client = await openClient(address.databaseUrl);
  // As a step leaves it that met a host: in the words of the systems below.
  const words = `host ${cloud.hosts[0]?.address}: rbd: pool ${cloud.pools[0]?.id}: ECONNREFUSED`;
  const broken = { code: 'HOST_UNREACHABLE', message: words, step: 'volumes.make', host: cloud.hosts[0]?.id };
  await client.query(
    `UPDATE "operation" SET error = $2, steps = jsonb_build_array(jsonb_build_object('index', 0, 'name', 'volumes.make', 'error', $2::jsonb)), result = $3 WHERE "targetId" = $1 AND type = 'volume.create'`,
    [volume.id, broken, { hostId: cloud.hosts[0]?.id }],
  );
  // And with nothing beside its words that would have to be hidden.
  const { host: _, ...plain } = broken;
  await client.query(`UPDATE "volume" SET fault = $2 WHERE id = $1`, [volume.id, plain]);

  // Everything that can be read, in every way that there is.
  const follow = new AbortController();
  const stream = await fetch(`${address.apiUrl}/v1/events?follow=true`, {
    headers: { authorization: `Bearer ${tenant.token}`, 'Last-Event-ID': '0' },
    signal: follow.signal,
  });
  const { count } = await admin.call<{ count: number }>(
    'GET',
    `/v1/events?count=exact&pageSize=1&filter=${encodeURIComponent(`projectId = "${project.id}"`)}`,
  );
  let streamed = '';
  for await (const chunk of stream.body ?? []) {
    streamed += new TextDecoder().decode(chunk as Uint8Array);
    if (streamed.split('\ndata: ').length > count) break;
  }
  follow.abort();
  heard.push({ asked: 'events', text: streamed });
  const readable: string[] = [];
  for (const kind of allKinds) {
    const listed = await code(tenant, 'GET', `/v1/${kind.plural}?pageSize=500&showDeleted=true`);
    if (listed !== '200') continue;
    readable.push(kind.name);
    await tenant.call('POST', '/v1/query', { hosts: { kind: kind.name, pageSize: 500 } });
    const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/${kind.plural}?pageSize=20`);
    for (const { id } of items) {
      await code(tenant, 'GET', `/v1/${kind.plural}/${id}`);
      for (const view of Object.keys(viewsOf(kind)))
        await code(tenant, 'GET', `/v1/${kind.plural}/${id}/views/${view}`);
    }
  }
  expect(readable).toEqual(expect.arrayContaining(['instance', 'volume', 'operation', 'event', 'auditEntry', 'image']));
  await client.query(`UPDATE "volume" SET fault = NULL WHERE id = $1`, [volume.id]);

  await act(tenant, 'snapshot', snapshot.id, 'delete');
  for (const [kind, id] of [
    ['volume', volume.id],
    ['instance', instance.id],
  ] as const) {
    await act(tenant, kind, id, 'delete');
    await act(tenant, kind, id, 'recover');
    await act(tenant, kind, id, 'delete');
    await act(tenant, kind, id, 'expunge');
  }
  await act(tenant, 'schedule', plan.id, 'delete');
  await act(tenant, 'image', image.id, 'delete');
  await act(tenant, 'securityGroup', group.id, 'delete');
  await act(tenant, 'network', network.id, 'setFirewallPolicy', {});
  await act(tenant, 'firewallPolicy', policy.id, 'delete');
  await act(tenant, 'addressGroup', addresses.id, 'delete');
  await act(tenant, 'routeTable', routes.id, 'delete');
  await act(tenant, 'vpc', vpc.id, 'delete');
  await act(tenant, 'subnet', subnet.id, 'delete');
  await act(tenant, 'network', network.id, 'delete');
  // The same with all that hangs on each, and one action on many.
  const made = async (kind: string, body: Record<string, unknown>): Promise<string> =>
    (await make(tenant, kindOf(kind).plural, { name: 'c', ...body })).id;
  const [networkId, cascadedGroup, rootId] = await Promise.all([
    made('network', { zoneId }),
    made('securityGroup', { zoneId }),
    made('volume', { ...types, sizeGib: 1 }),
  ]);
  const subnetId = await made('subnet', { networkId, cidr: '10.44.1.0/24' });
  const nics = { networkInterfaces: [{ subnetId, securityGroupIds: [cascadedGroup] }] };
  const guest = await make(tenant, 'instances', instanceBody(cloud, 'c', nics));
  await tenant.settled(
    (
      await tenant.call<{ id: string }>('POST', '/v1/operations/actions/runMany', {
        action: 'instance.reboot',
        input: { mode: 'force' },
        targets: { ids: [guest.id] },
      })
    ).id,
  );
  await away('instance', guest.id);
  await away('networkInterface', await made('networkInterface', { subnetId }));
  const idle = { cron: '0 0 1 1 *', action: 'volume.update', targets: { filter: 'name = "nobody"' } };
  await away('schedule', await made('schedule', idle));
  await away('snapshot', await made('snapshot', { volumeId: rootId }));
  await made('snapshot', { volumeId: rootId });
  await away('volume', rootId);
  await away('securityGroup', cascadedGroup);
  await away('firewallPolicy', await made('firewallPolicy', {}));
  await away('addressGroup', await made('addressGroup', { family: 4 }));
  await away('subnet', subnetId);
  await made('subnet', { networkId, cidr: '10.44.2.0/24' });
  await away('network', networkId);
  const cascaded = await made('vpc', { zoneId, cidrs });
  await away('routeTable', await made('routeTable', { vpcId: cascaded }));
  await away('vpc', cascaded);
  const shown = await tenant.call('POST', '/v1/certificates', {
    name: 'c',
    ...(await newCertificate('c.example.org')),
  });
  await away('certificate', shown.id);
  await away('keyPair', (await tenant.call('POST', '/v1/key-pairs', { name: 'c', publicKey })).id);
  await away('image', (await tenant.call('POST', '/v1/images', { name: 'c', zoneId })).id);
  await tenant.call('GET', '/v1/operations?pageSize=500');
  await client.end();

  const tenantsOperations = allKinds
    .filter(({ scope, name }) => scope === 'project' && name !== 'operation')
    .flatMap(({ name, actions }) =>
      Object.entries(actions).flatMap(([verb, { mode, operatorOnly }]) =>
        mode === 'operation' && !operatorOnly ? [`${name}.${verb}`] : [],
      ),
    );
  expect([...done].sort()).toEqual(tenantsOperations.sort());
  const never = await secrets();
  const leaks = heard.flatMap(({ asked, text }) =>
    [...never].flatMap(([word, what]) => (text.includes(word) ? [`${asked}: ${what} ${word}`] : [])),
  );
  expect(leaks).toEqual([]);
  expect(heard.length).toBeGreaterThan(100);
});

test('no filter asks about what is not told', async () => {
  const id = await make(tenant, 'networks', { name: 'f', zoneId });
  const subnet = await make(tenant, 'subnets', { name: 'f', networkId: id.id, cidr: '10.45.0.0/24' });
  const { targetId } = await tenant.done(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'f', { networkInterfaces: [{ subnetId: subnet.id }] }),
  );
  const { hostId } = await admin.call('GET', `/v1/instances/${targetId}`);
  const admins = '00000000-0000-4000-8000-000000000005';
  await admin.done('POST', `/v1/instances/${targetId}/actions/reboot`, { mode: 'force' });
  const client = await openClient(address.databaseUrl);
  const words = { code: 'HOST_UNREACHABLE', message: `host ${hostId} is away` };
  await client.query(`UPDATE "instance" SET fault = $2 WHERE id = $1`, [targetId, words]);
  await client.query(
    `UPDATE "operation" SET error = $2, steps = jsonb_build_array(jsonb_build_object('error', $2::jsonb)) WHERE "targetId" = $1 AND type = 'instance.reboot'`,
    [targetId, words],
  );
  for (const [plural, filter] of [
    ['instances', `fault.message = "host*"`],
    ['operations', `error.message = "host*"`],
    ['operations', `steps:(error.message = "host*")`],
    ['instances', `hostId = "${hostId}"`],
    ['instances', 'hostId != null'],
    ['instances', `host.id = "${hostId}"`],
    ['volumes', 'poolId:*'],
    ['operations', `actorUserId = "${admins}"`],
    ['operations', `result.hostId = "${hostId}"`],
    ['audit-entries', `actorUserId = "${admins}"`],
    ['events', `payload.hostId = "${hostId}"`],
  ] as const)
    expect([filter, await list(tenant, plural, filter)]).toEqual([filter, []]);
  expect(await list(tenant, 'instances', 'fault.code = "HOST_UNREACHABLE"')).toHaveLength(1);
  expect(await list(admin, 'instances', 'fault.message = "host*"')).toHaveLength(1);
  await client.query(`UPDATE "instance" SET fault = NULL WHERE id = $1`, [targetId]);
  await client.end();
  expect(await list(admin, 'instances', `hostId = "${hostId}" AND id = "${targetId}"`)).toHaveLength(1);
  const [mine] = await list(tenant, 'operations', `targetId = "${targetId}" AND type = "instance.create"`);
  expect(mine?.actorUserId).toEqual(expect.any(String));
  const [theirs] = await list(tenant, 'operations', `targetId = "${targetId}" AND type = "instance.reboot"`);
  expect([theirs?.actorUserId, theirs?.actorApiKeyId]).toEqual([null, null]);
  await tenant.done('DELETE', `/v1/instances/${targetId}`);
  await tenant.done('POST', `/v1/instances/${targetId}/actions/expunge`, {});
});

test('tenants do not cancel what operators do with their resources', async () => {
  const network = await make(tenant, 'networks', { name: 'c', zoneId });
  const client = await openClient(address.databaseUrl);
  // Both wait in line behind an operation that never begins.
  const behind = crypto.randomUUID();
  await client.query(
    `INSERT INTO "operationLock" ("operationId", "resourceKind", "resourceId", mode, entered) VALUES ($1, 'network', $2, 'X', false)`,
    [behind, network.id],
  );
  const ask = (by: Api): Promise<{ id: string }> => by.call('POST', `/v1/networks/${network.id}/actions/repair`, {});
  const [operators, own] = [await ask(admin), await ask(tenant)];
  const cancel = (id: string): Promise<string> => code(tenant, 'POST', `/v1/operations/${id}/actions/cancel`, {});
  expect(await cancel(operators.id)).toBe('403 FORBIDDEN');
  // Whom somebody invites into a project does not act for it.
  const inviting = await person('inviting', cloud.account.id, 'projectAdmin', ['project', project.id]);
  const { state } = await bind(inviting.api, 'projectReader', ['user', wellKnown.admin], ['project', project.id]);
  expect(state).toBe('pending');
  expect(await code(inviting.api, 'POST', `/v1/operations/${operators.id}/actions/cancel`, {})).toBe('403 FORBIDDEN');
  expect(await cancel(own.id)).toBe('200');
  const guest = await person('guest', cloud.account.id, 'projectMember', ['project', project.id]);
  const guests = await ask(guest.api);
  expect(await cancel(guests.id)).toBe('200');
  expect(await code(tenant, 'POST', `/v1/operations/${own.id}/actions/skipStep`, { reason: 'why not' })).toBe(
    '403 FORBIDDEN',
  );
  await bind(admin, await newRole(['operation.skipStep']), ['account', account.id], ['project', project.id]);
  expect(await code(tenant, 'POST', `/v1/operations/${own.id}/actions/skipStep`, { reason: 'why not' })).toBe(
    '403 FORBIDDEN',
  );
  await client.query('DELETE FROM "operationLock" WHERE "operationId" = $1', [behind]);
  await client.query(`SELECT pg_notify('belay_queue', '')`);
  await client.end();
  for (const { id } of [operators, own, guests]) await admin.settled(id);
  await tenant.done('DELETE', `/v1/networks/${network.id}`);
});
