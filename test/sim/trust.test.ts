/** Who may do what, and what nobody learns: two tenants side by side, roles, keys, domains, sharing. */
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import type { Api, ApiProblem, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { kindOf } from '../../model/kinds.ts';
import { viewsOf } from '../../model/views.ts';
import { newCertificate } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside, type Outside } from '../support/outside.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const rootDomain = '00000000-0000-4000-8000-000000000002';
const nobody = '11111111-1111-4111-8111-111111111111';
const run = crypto.randomUUID().slice(0, 8);

interface List<Item = Resource> {
  items: Item[];
  count?: number;
}
const list = <Item = Resource>(api: Api, plural: string, filter: string): Promise<List<Item>> =>
  api.call('GET', `/v1/${plural}?count=exact&filter=${encodeURIComponent(filter)}`);

async function answer(api: Api, method: string, path: string, body?: unknown): Promise<ApiProblem> {
  const response = await api.raw(method, path, body === undefined ? null : JSON.stringify(body), {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  });
  const text = await response.text();
  return { status: response.status, ...(text === '' ? {} : (JSON.parse(text) as object)) } as ApiProblem;
}
const code = async (api: Api, method: string, path: string, body?: unknown): Promise<string> => {
  const { status, code: name } = await answer(api, method, path, body);
  return name ? `${status} ${name}` : String(status);
};

const roleIds = new Map<string, string>();
async function roleId(name: string): Promise<string> {
  if (roleIds.size === 0)
    for (const role of (await admin.call<List>('GET', '/v1/roles?pageSize=500')).items) roleIds.set(role.name, role.id);
  return roleIds.get(name) ?? nobody;
}
const bind = async (
  by: Api,
  role: string,
  subject: [kind: string, id: string],
  target: [kind: string, id: string],
): Promise<Resource> =>
  by.call('POST', '/v1/role-bindings', {
    name: role,
    subjectKind: subject[0],
    subjectId: subject[1],
    roleId: await roleId(role),
    targetKind: target[0],
    targetId: target[1],
  });

interface Person {
  user: Resource;
  key: Resource & { token: string };
  api: Api;
}
async function person(name: string, accountId: string, role: string, target: [string, string]): Promise<Person> {
  const user = await admin.call('POST', '/v1/users', { name, userName: `${name}-${crypto.randomUUID()}`, accountId });
  await bind(admin, role, ['user', user.id], target);
  const key = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', { name, userId: user.id });
  return { user, key, api: admin.as(key.token) };
}
async function newAccount(name: string, domainId = rootDomain): Promise<{ account: Resource; project: Resource }> {
  const account = await admin.call('POST', '/v1/accounts', { name: `${name}-${run}`, domainId });
  const [project] = (await list(admin, 'projects', `accountId = "${account.id}"`)).items;
  if (!project) throw new Error('an account has a default project');
  return { account, project };
}

let other: Person;
let otherAccount: Resource;
let otherProject: Resource;
let owner: Person;
/** Of the first tenant, by kind. */
const theirs = new Map<string, string>();

let outside: Outside;
let behindId: string;
beforeAll(async () => {
  const { account, project } = await newAccount('other');
  otherAccount = account;
  otherProject = project;
  other = await person('other', account.id, 'projectMember', ['project', project.id]);
  owner = await person('owner', cloud.account.id, 'accountOwner', ['account', cloud.account.id]);
  const { targetId } = await cloud.tenant.done('POST', '/v1/instances', instanceBody(cloud, 'theirs'));
  const instance = await cloud.tenant.call<Resource & { rootVolumeId: string }>('GET', `/v1/instances/${targetId}`);
  const snapshot = await make(cloud.tenant, 'snapshots', { name: 'theirs', volumeId: instance.rootVolumeId });
  const [nic] = (await list(cloud.tenant, 'network-interfaces', `instanceId = "${targetId}"`)).items;
  const image = await cloud.tenant.call('POST', '/v1/images', { name: 'theirs', zoneId: cloud.zone.id });
  const keyPair = await cloud.tenant.call('POST', '/v1/key-pairs', {
    name: `theirs-${run}`,
    publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF theirs',
  });
  const addresses = await make(cloud.tenant, 'address-groups', { name: 'theirs', family: 4 });
  const certificate = await cloud.tenant.call('POST', '/v1/certificates', {
    name: 'theirs',
    ...(await newCertificate('theirs.example.org')),
  });
  outside = await newOutside(admin, cloud, 'trust');
  const networkId = outside.network.id;
  const vpc = await make(cloud.tenant, 'vpcs', {
    name: 'theirs',
    zoneId: cloud.zone.id,
    cidrs: ['10.0.0.0/16'],
    uplink: { networkId },
  });
  const atRouter = await make(cloud.tenant, 'networks', { name: 'theirs', zoneId: cloud.zone.id, vpcId: vpc.id });
  const inVpc = await make(cloud.tenant, 'subnets', { name: 's', networkId: atRouter.id, cidr: '10.0.1.0/24' });
  const behind = await make(cloud.tenant, 'network-interfaces', { name: 'theirs', subnetId: inVpc.id });
  const held = await cloud.tenant.call('POST', '/v1/floating-ips', { name: 'theirs', networkId });
  const forward = await make(cloud.tenant, 'port-forwards', {
    name: 'theirs',
    floatingIpId: held.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: behind.id,
  });
  behindId = behind.id;
  const targets = await cloud.tenant.call('POST', '/v1/target-groups', {
    name: 'theirs',
    vpcId: vpc.id,
    protocol: 'tcp',
    port: 80,
  });
  const balancer = await make(cloud.tenant, 'load-balancers', {
    name: 'theirs',
    vpcId: vpc.id,
    scheme: 'internal',
    subnetId: inVpc.id,
  });
  const listener = await make(cloud.tenant, 'listeners', {
    name: 'theirs',
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: targets.id,
  });
  const routes = await make(cloud.tenant, 'route-tables', { name: 'theirs', vpcId: vpc.id });
  const policy = await make(cloud.tenant, 'firewall-policies', { name: 'theirs' });
  const schedule = await make(cloud.tenant, 'schedules', {
    name: 'theirs',
    cron: '0 0 1 1 *',
    action: 'instance.stop',
    targets: { filter: 'name = "nobody"' },
  });
  const first = async (plural: string): Promise<string> =>
    (
      await admin.call<List>(
        'GET',
        `/v1/${plural}?pageSize=1&filter=${encodeURIComponent(`projectId = "${cloud.project.id}"`)}`,
      )
    ).items[0]?.id ?? '';
  for (const [kind, id] of Object.entries({
    instance: targetId,
    volume: instance.rootVolumeId,
    snapshot: snapshot.id,
    networkInterface: nic?.id ?? '',
    image: image.id,
    keyPair: keyPair.id,
    schedule: schedule.id,
    vpc: vpc.id,
    routeTable: routes.id,
    floatingIp: held.id,
    portForward: forward.id,
    targetGroup: targets.id,
    loadBalancer: balancer.id,
    listener: listener.id,
    network: cloud.network.id,
    subnet: cloud.subnet.id,
    addressGroup: addresses.id,
    certificate: certificate.id,
    firewallPolicy: policy.id,
    securityGroup: cloud.securityGroup.id,
    project: cloud.project.id,
    account: cloud.account.id,
    user: owner.user.id,
    apiKey: owner.key.id,
    operation: await first('operations'),
    event: await first('events'),
    auditEntry: await first('audit-entries'),
    host: cloud.hosts[0]?.id ?? '',
    storagePool: cloud.pools[0]?.id ?? '',
  }))
    theirs.set(kind, id);
}, 120_000);
afterAll(async () => {
  await cloud.tenant.done('DELETE', `/v1/snapshots/${their('snapshot')}`);
  await cloud.tenant.done('DELETE', `/v1/instances/${their('instance')}`);
  await cloud.tenant.done('POST', `/v1/instances/${their('instance')}/actions/expunge`, {});
  await cloud.tenant.done('DELETE', `/v1/images/${their('image')}`);
  await cloud.tenant.done('DELETE', `/v1/schedules/${their('schedule')}`);
  await cloud.tenant.done('DELETE', `/v1/floating-ips/${their('floatingIp')}?cascade=true`);
  await cloud.tenant.done('DELETE', `/v1/network-interfaces/${behindId}`);
  await cloud.tenant.done('DELETE', `/v1/vpcs/${their('vpc')}?cascade=true`);
  await outside.remove();
  await cloud.tenant.done('DELETE', `/v1/firewall-policies/${their('firewallPolicy')}`);
  await cloud.tenant.done('DELETE', `/v1/address-groups/${their('addressGroup')}`);
});
const their = (kind: string): string => theirs.get(kind) ?? nobody;

/** Two requests that differ in an id only are answered alike. */
async function alike(id: string, ask: (id: string) => Promise<ApiProblem>): Promise<ApiProblem> {
  const [real, random] = await Promise.all(
    [id, nobody].map(async (one) => {
      const { requestId: _, ...problem } = await ask(one);
      return JSON.parse(JSON.stringify(problem).replaceAll(one, 'ID')) as ApiProblem;
    }),
  );
  expect(real).toEqual(random);
  return real as ApiProblem;
}

describe("what is another tenant's is not there", () => {
  test('reads, changes, deletions and actions answer as for an id that nobody has', async () => {
    for (const [name, id] of theirs) {
      const kind = kindOf(name);
      const path = (one: string, rest = ''): string => `/v1/${kind.plural}/${one}${rest}`;
      expect((await alike(id, (one) => answer(other.api, 'GET', path(one)))).status, name).toBe(404);
      if (kind.actions.update) await alike(id, (one) => answer(other.api, 'PATCH', path(one), { description: 'mine' }));
      if (kind.actions.delete) await alike(id, (one) => answer(other.api, 'DELETE', path(one)));
      for (const view of Object.keys(viewsOf(kind)))
        expect((await alike(id, (one) => answer(other.api, 'GET', path(one, `/views/${view}`)))).status, view).toBe(
          404,
        );
      if (kind.actions.delete)
        await alike(id, (one) => answer(other.api, 'DELETE', path(one, '?cascade=true&expunge=true')));
      for (const [verb, { on = 'resource' }] of Object.entries(kind.actions))
        if (on === 'resource' && !['create', 'update', 'delete', 'import'].includes(verb))
          await alike(id, (one) => answer(other.api, 'POST', path(one, `/actions/${verb}`), {}));
    }
    await alike(their('image'), (id) => answer(other.api, 'PUT', `/v1/images/${id}/content`));
    for (const [body, verb, kind] of [
      [{ sizeGib: 10 }, 'resize', 'volume'],
      [{ instanceId: nobody }, 'attach', 'volume'],
      [{ entries: [] }, 'setEntries', 'addressGroup'],
      [{ cidrs: ['10.0.0.0/16'] }, 'setCidrs', 'vpc'],
      [{ uplinkId: nobody }, 'detachUplink', 'vpc'],
      [{ routes: [] }, 'setRoutes', 'routeTable'],
      [{ networkInterfaceId: nobody }, 'attach', 'floatingIp'],
      [{ networkInterfaceId: nobody }, 'move', 'floatingIp'],
      [{ networkInterfaceId: nobody }, 'attach', 'portForward'],
      [{ allowedCidrs: [] }, 'setAllowed', 'portForward'],
      [{ targets: [] }, 'setTargets', 'targetGroup'],
      [{ algorithm: 'sourceHash' }, 'setOptions', 'targetGroup'],
      [{ enabled: true }, 'setOptions', 'listener'],
      [{ rules: [] }, 'setRules', 'securityGroup'],
      [{ rules: [] }, 'setRules', 'firewallPolicy'],
    ] as const)
      await alike(their(kind), (id) =>
        answer(other.api, 'POST', `/v1/${kindOf(kind).plural}/${id}/actions/${verb}`, body),
      );
  });

  test('a body that names it is refused as one that names nothing', async () => {
    const mine = await make(other.api, 'networks', { name: 'mine', zoneId: cloud.zone.id });
    const subnet = await make(other.api, 'subnets', { name: 'mine', networkId: mine.id, cidr: '10.1.0.0/24' });
    const volume = await make(other.api, 'volumes', {
      name: 'mine',
      zoneId: cloud.zone.id,
      volumeTypeId: cloud.volumeTypes[0]?.id,
      sizeGib: 1,
    });
    const group = await make(other.api, 'security-groups', { name: 'mine', zoneId: cloud.zone.id });
    const nic = await make(other.api, 'network-interfaces', { name: 'mine', subnetId: subnet.id });
    const networkId = outside.network.id;
    const held = await other.api.call('POST', '/v1/floating-ips', { name: 'mine', networkId });
    const forward = (more: Record<string, unknown>): Record<string, unknown> => ({
      name: 'f',
      floatingIpId: held.id,
      protocol: 'tcp',
      publicPorts: { from: 80 },
      networkInterfaceId: nic.id,
      ...more,
    });
    const own = await make(other.api, 'vpcs', { name: 'mine', zoneId: cloud.zone.id, cidrs: ['10.6.0.0/16'] });
    const targets = await other.api.call('POST', '/v1/target-groups', { name: 'mine', vpcId: own.id, protocol: 'tcp' });
    const listener = (more: Record<string, unknown>): Record<string, unknown> => ({
      name: 'l',
      protocol: 'tcp',
      ports: { from: 80 },
      targetGroupId: targets.id,
      ...more,
    });
    const setTargets = `/v1/target-groups/${targets.id}/actions/setTargets`;
    const web = (more: Record<string, unknown>): Record<string, unknown> =>
      instanceBody(cloud, 'web', { networkInterfaces: [{ subnetId: subnet.id }], ...more });
    const bodies: [kind: string, path: string, body: (id: string) => unknown][] = [
      ['network', '/v1/subnets', (networkId) => ({ name: 's', networkId, cidr: '10.2.0.0/24' })],
      ['subnet', '/v1/network-interfaces', (subnetId) => ({ name: 'nic', subnetId })],
      ['vpc', '/v1/networks', (vpcId) => ({ name: 'n', zoneId: cloud.zone.id, vpcId })],
      ['vpc', '/v1/route-tables', (vpcId) => ({ name: 'r', vpcId })],
      [
        'network',
        '/v1/vpcs',
        (networkId) => ({ name: 'v', zoneId: cloud.zone.id, cidrs: ['10.0.0.0/16'], uplink: { networkId } }),
      ],
      [
        'routeTable',
        '/v1/subnets',
        (routeTableId) => ({ name: 's', networkId: mine.id, cidr: '10.3.0.0/24', routeTableId }),
      ],
      ['floatingIp', '/v1/port-forwards', (floatingIpId) => forward({ floatingIpId })],
      ['networkInterface', '/v1/port-forwards', (networkInterfaceId) => forward({ networkInterfaceId })],
      ['addressGroup', '/v1/port-forwards', (addressGroupId) => forward({ addressGroupId })],
      [
        'networkInterface',
        `/v1/floating-ips/${held.id}/actions/attach`,
        (networkInterfaceId) => ({ networkInterfaceId }),
      ],
      ['vpc', '/v1/target-groups', (vpcId) => ({ name: 't', vpcId, protocol: 'tcp' })],
      ['vpc', '/v1/load-balancers', (vpcId) => ({ name: 'b', vpcId, scheme: 'internal', subnetId: subnet.id })],
      ['subnet', '/v1/load-balancers', (subnetId) => ({ name: 'b', vpcId: own.id, scheme: 'internal', subnetId })],
      [
        'floatingIp',
        '/v1/load-balancers',
        (floatingIpId) => ({ name: 'b', vpcId: own.id, scheme: 'public', floatingIpId }),
      ],
      ['loadBalancer', '/v1/listeners', (loadBalancerId) => listener({ loadBalancerId })],
      ['instance', setTargets, (instanceId) => ({ targets: [{ instanceId }] })],
      ['networkInterface', setTargets, (networkInterfaceId) => ({ targets: [{ networkInterfaceId }] })],
      ['subnet', '/v1/instances', (subnetId) => web({ networkInterfaces: [{ subnetId }] })],
      [
        'securityGroup',
        '/v1/instances',
        (id) => web({ networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [id] }] }),
      ],
      [
        'firewallPolicy',
        `/v1/networks/${mine.id}/actions/setFirewallPolicy`,
        (firewallPolicyId) => ({ firewallPolicyId }),
      ],
      [
        'addressGroup',
        '/v1/firewall-policies',
        (addressGroupId) => ({
          name: 'p',
          rules: [{ priority: 1, direction: 'in', action: 'deny', protocol: 'any', destination: { addressGroupId } }],
        }),
      ],
      [
        'addressGroup',
        '/v1/security-groups',
        (remoteAddressGroupId) => ({
          name: 'g',
          zoneId: cloud.zone.id,
          rules: [{ direction: 'in', protocol: 'any', remoteAddressGroupId }],
        }),
      ],
      [
        'addressGroup',
        `/v1/security-groups/${group.id}/actions/setRules`,
        (remoteAddressGroupId) => ({ rules: [{ direction: 'in', protocol: 'any', remoteAddressGroupId }] }),
      ],
      [
        'securityGroup',
        '/v1/security-groups',
        (remoteSecurityGroupId) => ({
          name: 'g',
          zoneId: cloud.zone.id,
          rules: [{ direction: 'in', protocol: 'any', remoteSecurityGroupId }],
        }),
      ],
      [
        'securityGroup',
        `/v1/security-groups/${group.id}/actions/setRules`,
        (remoteSecurityGroupId) => ({ rules: [{ direction: 'in', protocol: 'any', remoteSecurityGroupId }] }),
      ],
      ['image', '/v1/instances', (imageId) => web({ source: { imageId } })],
      ['snapshot', '/v1/instances', (snapshotId) => web({ source: { snapshotId } })],
      ['keyPair', '/v1/instances', (id) => web({ keyPairIds: [id] })],
      ['project', '/v1/networks', (projectId) => ({ name: 'n', zoneId: cloud.zone.id, projectId })],
      ['volume', '/v1/snapshots', (volumeId) => ({ name: 's', volumeId })],
      [
        'snapshot',
        '/v1/volumes',
        (snapshotId) => ({
          name: 'v',
          zoneId: cloud.zone.id,
          source: { snapshotId },
          volumeTypeId: cloud.volumeTypes[0]?.id,
        }),
      ],
      ['instance', `/v1/volumes/${volume.id}/actions/attach`, (instanceId) => ({ instanceId })],
      ['snapshot', `/v1/volumes/${volume.id}/actions/revert`, (snapshotId) => ({ snapshotId })],
      ['user', '/v1/api-keys', (userId) => ({ name: 'k', userId })],
    ];
    for (const [kind, path, body] of bodies) {
      const problem = await alike(their(kind), (id) => answer(other.api, 'POST', path, body(id)));
      // A member may make keys for itself only, whoever else is named.
      const refused = kind === 'user' ? [403, 'FORBIDDEN'] : [404, 'NOT_FOUND'];
      expect([path, problem.status, problem.code]).toEqual([path, ...refused]);
    }
    await other.api.done('DELETE', `/v1/security-groups/${group.id}`);
    await other.api.done('DELETE', `/v1/volumes/${volume.id}`);
    await other.api.done('DELETE', `/v1/vpcs/${own.id}?cascade=true`);
    await other.api.done('DELETE', `/v1/floating-ips/${held.id}`);
    await other.api.done('DELETE', `/v1/network-interfaces/${nic.id}`);
    await other.api.done('DELETE', `/v1/subnets/${subnet.id}`);
    await other.api.done('DELETE', `/v1/networks/${mine.id}`);
  });

  test('no list, filter, order or count tells of it', async () => {
    for (const [kind, filter] of [
      ['network', `id = "${their('network')}"`],
      ['network', `projectId = "${cloud.project.id}"`],
      ['subnet', 'network.name = "front"'],
      ['instance', `networkInterfaces:(subnetId = "${their('subnet')}")`],
      ['networkInterface', `instance.id = "${their('instance')}"`],
      ['volume', `instance.name = "theirs"`],
      ['image', 'project.name = "platform"'],
      ['image', `volumes:(instanceId = "${their('instance')}")`],
      ['operation', `targetId = "${their('instance')}"`],
      ['event', `resourceId = "${their('instance')}"`],
      ['auditEntry', `resourceId = "${their('instance')}"`],
      ['user', `id = "${their('user')}"`],
      ['apiKey', `id = "${their('apiKey')}"`],
      ['project', `id = "${their('project')}"`],
      ['account', `id = "${their('account')}"`],
      ['roleBinding', `subjectId = "${their('user')}"`],
    ] as const) {
      const response = await answer(
        other.api,
        'GET',
        `/v1/${kindOf(kind).plural}?count=exact&filter=${encodeURIComponent(filter)}`,
      );
      // A relation that does not exist is refused for everybody alike; what is listed is empty.
      if (response.status === 200)
        expect([kind, filter, response.items, response.count]).toEqual([kind, filter, [], 0]);
      else expect([kind, filter, response.status]).toEqual([kind, filter, response.code === 'FORBIDDEN' ? 403 : 400]);
    }
    for (const plural of ['operations', 'events', 'audit-entries', 'instances', 'volumes'])
      for (const item of (await other.api.call<List<{ projectId: string }>>('GET', `/v1/${plural}?pageSize=500`)).items)
        expect(item.projectId).toBe(otherProject.id);
    const { nets } = await other.api.call<Record<string, List>>('POST', '/v1/query', {
      nets: { kind: 'network', count: 'exact' },
    });
    expect(nets?.items.map(({ id }) => id)).not.toContain(their('network'));
    expect(await code(other.api, 'GET', '/v1/hosts')).toBe('403 FORBIDDEN');
  });

  test('its events are in no stream but its own', async () => {
    const end = new AbortController();
    const response = await fetch(`${address.apiUrl}/v1/events?follow=true`, {
      headers: { authorization: `Bearer ${other.api.token}` },
      signal: end.signal,
    });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    await cloud.tenant.call('PATCH', `/v1/networks/${their('network')}`, { description: 'changed' });
    const { id } = await make(other.api, 'networks', { name: `own-${run}`, zoneId: cloud.zone.id });
    let seen = '';
    while (reader && !seen.includes(id)) seen += (await reader.read()).value ?? '';
    end.abort();
    expect(seen).not.toContain(their('network'));
    await other.api.done('DELETE', `/v1/networks/${id}`);
  });
});

describe('roles', () => {
  test('a reader sees everything and changes nothing', async () => {
    const reader = await person('reader', cloud.account.id, 'projectReader', ['project', cloud.project.id]);
    expect(await code(reader.api, 'GET', `/v1/instances/${their('instance')}`)).toBe('200');
    for (const [method, path, body] of [
      ['POST', '/v1/networks', { name: 'n', zoneId: cloud.zone.id, projectId: cloud.project.id }],
      ['PATCH', `/v1/instances/${their('instance')}`, { description: 'x' }],
      ['DELETE', `/v1/instances/${their('instance')}`, undefined],
      ['POST', `/v1/instances/${their('instance')}/actions/stop`, {}],
      ['POST', `/v1/operations/${their('operation')}/actions/cancel`, {}],
      ['POST', '/v1/api-keys', { name: 'k', userId: reader.user.id }],
      ['GET', `/v1/instances/${their('instance')}/views/serialLog`, undefined],
    ] as const)
      expect(`${method} ${path} ${await code(reader.api, method, path, body)}`).toBe(`${method} ${path} 403 FORBIDDEN`);
  });

  test('nobody grants what they do not hold', async () => {
    const member = cloud.tenant;
    const projectAdmin = await person('admin', cloud.account.id, 'projectAdmin', ['project', cloud.project.id]);
    const grant = async (by: Api, role: string, target: [string, string] | ['platform']): Promise<string> =>
      code(by, 'POST', '/v1/role-bindings', {
        name: 'g',
        subjectKind: 'user',
        subjectId: owner.user.id,
        roleId: await roleId(role),
        targetKind: target[0],
        ...(target[1] ? { targetId: target[1] } : {}),
      });
    const project: [string, string] = ['project', cloud.project.id];
    expect(await grant(member, 'projectReader', project)).toBe('403 FORBIDDEN');
    expect(await grant(projectAdmin.api, 'projectReader', project)).toBe('201');
    expect(await grant(projectAdmin.api, 'accountOwner', project)).toBe('403 FORBIDDEN');
    expect(await grant(projectAdmin.api, 'rootAdmin', project)).toBe('403 FORBIDDEN');
    expect(await grant(projectAdmin.api, 'projectReader', ['account', cloud.account.id])).toBe('403 FORBIDDEN');
    expect(await grant(projectAdmin.api, 'projectReader', ['project', otherProject.id])).toBe('403 FORBIDDEN');
    expect(await grant(projectAdmin.api, 'projectReader', ['project', nobody])).toBe('403 FORBIDDEN');
    expect(await grant(owner.api, 'rootAdmin', ['account', cloud.account.id])).toBe('403 FORBIDDEN');
    expect(await grant(owner.api, 'projectReader', ['platform'])).toBe('403 FORBIDDEN');
    expect(await grant(owner.api, 'projectMember', project)).toBe('201');
  });

  test('a role that denies something is not enough to grant it', async () => {
    const domain = await admin.call('POST', '/v1/domains', { name: `denied-${run}`, parentId: rootDomain });
    const { account } = await newAccount('denied', domain.id);
    const domainAdmin = await person('da', account.id, 'domainAdmin', ['domain', domain.id]);
    const wider = await admin.call('POST', '/v1/roles', {
      name: `wider-${run}`,
      permissions: [{ effect: 'allow', pattern: 'domain.*' }],
    });
    const body = {
      name: 'g',
      subjectKind: 'user',
      subjectId: domainAdmin.user.id,
      targetKind: 'domain',
      targetId: domain.id,
    };
    expect(await code(domainAdmin.api, 'POST', '/v1/role-bindings', { ...body, roleId: wider.id })).toBe(
      '403 FORBIDDEN',
    );
    expect(await code(domainAdmin.api, 'DELETE', `/v1/domains/${domain.id}`)).toBe('403 FORBIDDEN');
    await admin.call('DELETE', `/v1/roles/${wider.id}`);
    // Nor is a pattern that meets what is denied, though neither holds all of the other.
    const role = async (name: string, ...permissions: { effect: string; pattern: string }[]): Promise<string> => {
      const made = await admin.call('POST', '/v1/roles', { name: `${name}-${run}`, permissions });
      roleIds.set(made.name, made.id);
      return made.id;
    };
    const allow = (pattern: string) => ({ effect: 'allow', pattern });
    await role('barred', allow('*.*'), { effect: 'deny', pattern: 'instance.*' });
    const barred = await person('barred', account.id, `barred-${run}`, ['domain', domain.id]);
    const give = (roleId: string) => code(barred.api, 'POST', '/v1/role-bindings', { ...body, roleId });
    expect(await give(await role('crossing', allow('*.delete')))).toBe('403 FORBIDDEN');
    expect(await give(await role('beside', allow('volume.*')))).toBe('201');
    // Who runs the account gets no key of somebody who may more.
    const accountOwner = await person('ao', account.id, 'accountOwner', ['account', account.id]);
    const key = { name: 'k', userId: domainAdmin.user.id };
    expect(await code(accountOwner.api, 'POST', '/v1/api-keys', key)).toBe('403 FORBIDDEN');
    expect(await code(domainAdmin.api, 'POST', '/v1/api-keys', { name: 'k', userId: accountOwner.user.id })).toBe(
      '201',
    );
  });

  test('a domain administrator has its branch of the tree and nothing else', async () => {
    const domain = await admin.call('POST', '/v1/domains', { name: `branch-${run}`, parentId: rootDomain });
    const below = await admin.call('POST', '/v1/domains', { name: `twig-${run}`, parentId: domain.id });
    const { account, project } = await newAccount('leaf', below.id);
    const leaf = await person('leaf', account.id, 'projectMember', ['project', project.id]);
    const net = await make(leaf.api, 'networks', { name: 'leaf', zoneId: cloud.zone.id });
    const { api } = await person('branch', account.id, 'domainAdmin', ['domain', domain.id]);
    const names = async (plural: string): Promise<string[]> =>
      (await api.call<List>('GET', `/v1/${plural}?pageSize=500`)).items.map(({ id }) => id);
    expect((await names('domains')).sort()).toEqual([domain.id, below.id].sort());
    expect(await names('accounts')).toEqual([account.id]);
    expect(await names('projects')).toEqual([project.id]);
    const { items } = await api.call<List>('GET', '/v1/networks?pageSize=500');
    expect(items.flatMap(({ id, visibility }) => (visibility === 'public' ? [] : [id]))).toEqual([net.id]);
    expect(await code(api, 'GET', `/v1/networks/${their('network')}`)).toBe('404 NOT_FOUND');
    expect(await code(api, 'GET', `/v1/accounts/${cloud.account.id}`)).toBe('404 NOT_FOUND');
    expect(await code(api, 'POST', '/v1/accounts', { name: 'up', domainId: rootDomain })).not.toBe('201');
    expect(await code(api, 'POST', '/v1/accounts', { name: `in-${run}`, domainId: below.id })).toBe('201');
    expect(await code(api, 'PATCH', `/v1/networks/${net.id}`, { description: 'seen' })).toBe('200');
    expect(await code(api, 'GET', '/v1/hosts')).toBe('403 FORBIDDEN');
    await leaf.api.done('DELETE', `/v1/networks/${net.id}`);
  });
});

test('an account goes with its default project, once both are empty', async () => {
  const { account, project } = await newAccount('goes');
  const path = `/v1/accounts/${account.id}`;
  const second = await admin.call('POST', '/v1/projects', { name: 'second', accountId: account.id });
  expect(await code(admin, 'DELETE', path)).toBe('409 HAS_DEPENDENTS');
  await admin.call('DELETE', `/v1/projects/${second.id}`);
  const image = await admin.call('POST', '/v1/images', { name: 'i', zoneId: cloud.zone.id, projectId: project.id });
  expect(await code(admin, 'DELETE', path)).toBe('409 HAS_DEPENDENTS');
  await admin.done('DELETE', `/v1/images/${image.id}`);
  expect(await code(admin, 'DELETE', path)).toBe('204');
  expect(await code(admin, 'GET', `/v1/projects/${project.id}`)).toBe('404 NOT_FOUND');
});

test('the administrator that the installation came with, and its role, stay', async () => {
  const [user] = (await list(admin, 'users', 'userName = "admin"')).items;
  const [binding] = (await list(admin, 'role-bindings', `subjectId = "${user?.id}" AND targetKind = "platform"`)).items;
  for (const [method, path, body] of [
    ['DELETE', `/v1/users/${user?.id}`, undefined],
    ['POST', `/v1/users/${user?.id}/actions/disable`, {}],
    ['DELETE', `/v1/role-bindings/${binding?.id}`, undefined],
    ['PATCH', `/v1/role-bindings/${binding?.id}`, { expiresAt: '2100-01-01T00:00:00Z' }],
  ] as const)
    expect(`${method} ${path} ${await code(admin, method, path, body)}`).toBe(`${method} ${path} 409 PROTECTED`);
});

describe('keys', () => {
  const key = (more: Record<string, unknown>, by: Api = admin): Promise<Resource & { token: string }> =>
    by.call('POST', '/v1/api-keys', { name: 'k', userId: other.user.id, ...more });
  const reads = (token: string): Promise<string> => code(admin.as(token), 'GET', '/v1/networks');

  test('members make, switch off and revoke their own', async () => {
    const own = await key({}, other.api);
    expect(await reads(own.token)).toBe('200');
    await other.api.call('PATCH', `/v1/api-keys/${own.id}`, { enabled: false });
    expect(await reads(own.token)).toBe('401 UNAUTHENTICATED');
    await other.api.call('PATCH', `/v1/api-keys/${own.id}`, { enabled: true });
    expect(await reads(own.token)).toBe('200');
    await other.api.call('DELETE', `/v1/api-keys/${own.id}`);
    expect(await reads(own.token)).toBe('401 UNAUTHENTICATED');
  });

  test('an expired, a made-up and a foreign-addressed key do not open', async () => {
    const brief = await key({ expiresAt: new Date(Date.now() + 1_000).toISOString() });
    await vi.waitUntil(async () => (await reads(brief.token)) === '401 UNAUTHENTICATED', { timeout: 30_000 });
    expect(await reads(`belay_${'0'.repeat(20)}_${'A'.repeat(43)}`)).toBe('401 UNAUTHENTICATED');
    expect(await reads('belay')).toBe('401 UNAUTHENTICATED');
    expect(await reads((await key({ allowedCidrs: ['10.0.0.0/8'] })).token)).toBe('401 UNAUTHENTICATED');
    expect(await reads((await key({ allowedCidrs: ['10.0.0.0/8', '127.0.0.0/8'] })).token)).toBe('200');
  });

  test('a narrowed key does what it names and makes none that is wider', async () => {
    const narrow = await key({ permissions: ['network.list', 'apiKey.*'] });
    const api = admin.as(narrow.token);
    expect(await reads(narrow.token)).toBe('200');
    expect(await code(api, 'GET', '/v1/instances')).toBe('403 FORBIDDEN');
    expect(await code(api, 'POST', '/v1/networks', { name: 'n', zoneId: cloud.zone.id })).not.toBe('202');
    const body = { name: 'k', userId: other.user.id };
    expect(await code(api, 'POST', '/v1/api-keys', body)).toBe('403 FORBIDDEN');
    expect(await code(api, 'POST', '/v1/api-keys', { ...body, permissions: ['instance.get'] })).toBe('403 FORBIDDEN');
    expect(await code(api, 'POST', '/v1/api-keys', { ...body, permissions: ['network.list'] })).toBe('201');
  });

  test('a token is told once, and is nowhere afterwards', async () => {
    const headers = { 'Idempotency-Key': crypto.randomUUID() };
    const body = { name: 'once', userId: other.user.id };
    const made = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', body, headers);
    const again = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', body, headers);
    expect(again.token).toBe(made.token);
    expect(JSON.stringify(await admin.call('GET', `/v1/api-keys/${made.id}`))).not.toContain('token');
    const { default: pg } = await import('pg');
    const client = new pg.Client({ connectionString: address.databaseUrl });
    await client.connect();
    // A secret may have underscores of its own.
    const secret = made.token.split('_').slice(2).join('_');
    for (const table of ['idempotencyKey', 'apiKey', 'auditEntry', 'event', 'operation']) {
      const { rows } = await client.query(`SELECT 1 FROM "${table}" t WHERE position($1 in t::text) > 0`, [secret]);
      expect([table, rows.length]).toEqual([table, 0]);
    }
    await client.end();
  });
});

describe('sharing', () => {
  test('one image is shared with an account, and taken back', async () => {
    const { items: before } = await list(other.api, 'images', 'visibility = "private"');
    expect(before).toEqual([]);
    const image = await admin.call('GET', `/v1/images/${their('image')}`);
    const path = `/v1/images/${image.id}`;
    expect(await code(other.api, 'GET', path)).toBe('404 NOT_FOUND');
    const disk = new Uint8Array(1024 * 1024);
    disk.set([0x55, 0xaa], 510);
    const response = await cloud.tenant.raw('PUT', `${path}/content`, disk, {
      'content-type': 'application/octet-stream',
    });
    expect((await cloud.tenant.settled(((await response.json()) as { id: string }).id)).state).toBe('succeeded');
    const share = await bind(owner.api, 'imageUser', ['account', otherAccount.id], ['image', image.id]);
    expect(await code(other.api, 'GET', path)).toBe('404 NOT_FOUND');
    await admin.call('POST', `/v1/role-bindings/${share.id}/actions/accept`, {});
    expect(await code(other.api, 'GET', path)).toBe('200');
    expect((await list(other.api, 'images', 'visibility = "private"')).items.map(({ id }) => id)).toEqual([image.id]);
    const net = await make(other.api, 'networks', { name: 'use', zoneId: cloud.zone.id });
    const subnet = await make(other.api, 'subnets', { name: 'use', networkId: net.id, cidr: '10.3.0.0/24' });
    const body = instanceBody(cloud, 'use', {
      source: { imageId: image.id },
      networkInterfaces: [{ subnetId: subnet.id }],
    });
    expect(await code(other.api, 'POST', '/v1/instances?dryRun=true', body)).toBe('200');
    expect(await code(other.api, 'PATCH', path, { description: 'mine' })).toBe('403 FORBIDDEN');
    expect(await code(other.api, 'DELETE', path)).toBe('403 FORBIDDEN');
    expect((await list(owner.api, 'role-bindings', `id = "${share.id}"`)).items).toHaveLength(1);
    expect(await code(other.api, 'DELETE', `/v1/role-bindings/${share.id}`)).not.toBe('204');
    expect(await code(owner.api, 'DELETE', `/v1/role-bindings/${share.id}`)).toBe('204');
    expect(await code(other.api, 'GET', path)).toBe('404 NOT_FOUND');
    expect(await code(other.api, 'POST', '/v1/instances?dryRun=true', body)).toBe('404 NOT_FOUND');
    await other.api.done('DELETE', `/v1/subnets/${subnet.id}`);
    await other.api.done('DELETE', `/v1/networks/${net.id}`);
  });

  test('who owns a shared network does not learn what hangs on it', async () => {
    const net = await make(cloud.tenant, 'networks', { name: 'shared', zoneId: cloud.zone.id });
    const subnet = await make(cloud.tenant, 'subnets', { name: 'shared', networkId: net.id, cidr: '10.4.0.0/24' });
    for (const target of [['network', net.id] as [string, string], ['subnet', subnet.id] as [string, string]]) {
      const share = await bind(owner.api, 'networkUser', ['account', otherAccount.id], target);
      await admin.call('POST', `/v1/role-bindings/${share.id}/actions/accept`, {});
    }
    const body = instanceBody(cloud, 'guest', { startOnCreate: false, networkInterfaces: [{ subnetId: subnet.id }] });
    const { targetId } = await other.api.done('POST', '/v1/instances', body);
    const problem = await answer(cloud.tenant, 'DELETE', `/v1/subnets/${subnet.id}`);
    expect([problem.status, problem.code, problem.blockers]).toEqual([409, 'HAS_DEPENDENTS', []]);
    expect(problem.detail).not.toContain('guest');
    const plan = await cloud.tenant.call('GET', `/v1/subnets/${subnet.id}/views/deletePlan`);
    expect(plan).toMatchObject({ deletable: false, blockers: [], complete: false });
    expect(JSON.stringify(plan)).not.toContain(targetId);
    await other.api.done('DELETE', `/v1/instances/${targetId}`);
    await other.api.done('POST', `/v1/instances/${targetId}/actions/expunge`, {});
    await cloud.tenant.done('DELETE', `/v1/subnets/${subnet.id}`);
    await cloud.tenant.done('DELETE', `/v1/networks/${net.id}`);
  });
});

test('a locked account keeps and makes nothing new; a disabled user is refused at once', async () => {
  const { account, project } = await newAccount('locked');
  const someone = await person('someone', account.id, 'projectMember', ['project', project.id]);
  await admin.call('POST', `/v1/accounts/${account.id}/actions/lock`, {});
  const body = { name: 'n', zoneId: cloud.zone.id };
  expect(await code(someone.api, 'POST', '/v1/networks', body)).toBe('403 ACCOUNT_SUSPENDED');
  expect(await code(someone.api, 'GET', '/v1/networks')).toBe('200');
  await admin.call('POST', `/v1/accounts/${account.id}/actions/unlock`, {});
  expect(await code(someone.api, 'POST', '/v1/networks?dryRun=true', body)).toBe('200');
  await admin.call('POST', `/v1/users/${someone.user.id}/actions/disable`, {});
  expect(await code(someone.api, 'GET', '/v1/networks')).toBe('401 UNAUTHENTICATED');
});
