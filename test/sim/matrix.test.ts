/**
 * Every operation × every ready-made role × whose it is. What is expected is derived from the model and the roles alone, by the few rules that
 * `docs/api.md` tells; nothing here asks the code that decides.
 */
import { beforeAll, expect, inject, test } from 'vitest';
import type { Api, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import { builtInRoles } from '../../model/tenancy/builtInRoles.ts';
import { viewsOf } from '../../model/views.ts';
import { newCertificate } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { openFinding } from '../support/findings.ts';
import { newOutside, type Outside } from '../support/outside.ts';
import { answer, type Person, peopleOf, rootDomain } from '../support/people.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { bind, list, newAccount, newRole, person } = peopleOf(admin);
const zoneId = cloud.zone.id;
const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF matrix';

const shown = await newCertificate('matrix.example.org');

/** A schedule that is never due, of an action that whoever makes schedules of tenants may do. */
const plan = { cron: '0 0 1 1 *', action: 'snapshot.create', targets: { filter: 'name = "nobody"' } };

/** What the role is bound at; what was shared one by one, to be read; what is nothing of theirs. */
type Side = 'own' | 'shared' | 'foreign';
type RoleName = keyof typeof builtInRoles;

/** One resource of each kind on each side. */
const things = new Map<Side, Map<string, string>>();
const thing = (side: Side, kind: string): string => things.get(side)?.get(kind) ?? '';
/** Infrastructure and catalogues are nobody's: there is one side of them, and nothing to share. */
const isNobodys = ({ scope, name }: Kind): boolean =>
  scope === 'platform' && name !== 'quota' && name !== 'roleBinding';

let outside: Outside;

async function furnish(side: Side): Promise<void> {
  const domain = await admin.call('POST', '/v1/domains', {
    name: `${side}-${crypto.randomUUID()}`,
    parentId: rootDomain,
  });
  const { account, project } = await newAccount(side, domain.id);
  const { api, user, key } = await person(side, account.id, 'projectMember', ['project', project.id]);
  const uplink = { networkId: outside.network.id };
  const vpc = await make(api, 'vpcs', { name: side, zoneId, cidrs: ['10.60.0.0/16'], uplink });
  const routes = await make(api, 'route-tables', { name: side, vpcId: vpc.id });
  const network = await make(api, 'networks', { name: side, zoneId });
  const subnet = await make(api, 'subnets', { name: side, networkId: network.id, cidr: '10.60.0.0/24' });
  const atRouter = await make(api, 'networks', { name: side, zoneId, vpcId: vpc.id });
  const inVpc = await make(api, 'subnets', { name: side, networkId: atRouter.id, cidr: '10.60.9.0/24' });
  const behind = await make(api, 'network-interfaces', { name: side, subnetId: inVpc.id });
  const held = await api.call('POST', '/v1/floating-ips', { name: side, networkId: outside.network.id });
  const forward = await make(api, 'port-forwards', {
    name: side,
    floatingIpId: held.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: behind.id,
  });
  const targets = await api.call('POST', '/v1/target-groups', { name: side, vpcId: vpc.id, protocol: 'tcp', port: 80 });
  const balancer = await make(api, 'load-balancers', {
    name: side,
    vpcId: vpc.id,
    scheme: 'internal',
    subnetId: inVpc.id,
  });
  const listener = await make(api, 'listeners', {
    name: side,
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: targets.id,
  });
  const addresses = await make(api, 'address-groups', { name: side, family: 4 });
  const policy = await make(api, 'firewall-policies', { name: side });
  const group = await make(api, 'security-groups', { name: side, zoneId });
  const body = instanceBody(cloud, side, { networkInterfaces: [{ subnetId: subnet.id }], startOnCreate: false });
  const instance = await make(api, 'instances', body);
  const volumeTypeId = cloud.volumeTypes[0]?.id;
  const volume = await make(api, 'volumes', { name: side, zoneId, volumeTypeId, sizeGib: 1 });
  const snapshot = await make(api, 'snapshots', { name: side, volumeId: volume.id });
  const image = await api.call('POST', '/v1/images', { name: side, zoneId });
  const disk = new Uint8Array(1024 * 1024);
  disk.set([0x55, 0xaa], 510);
  const taken = await api.raw('PUT', `/v1/images/${image.id}/content`, disk);
  await api.settled(((await taken.json()) as { id: string }).id);
  const keyPair = await api.call('POST', '/v1/key-pairs', { name: side, publicKey });
  const certificate = await api.call('POST', '/v1/certificates', { name: side, ...shown });
  const scope = { scopeKind: 'project', scopeId: project.id };
  const schedule = await make(api, 'schedules', { ...plan, name: side, projectId: project.id });
  const quota = await admin.call('POST', '/v1/quotas', { name: side, ...scope, counter: 'images', limit: 1000 });
  const [binding] = await list(admin, 'role-bindings', `targetId = "${project.id}" AND subjectId = "${user.id}"`);
  const newest = async (plural: string): Promise<string> =>
    (await list(admin, plural, `projectId = "${project.id}"`))[0]?.id ?? '';
  const [nic] = await list(api, 'network-interfaces', `instanceId = "${instance.id}"`);
  things.set(
    side,
    new Map(
      Object.entries({
        domain: domain.id,
        account: account.id,
        project: project.id,
        user: user.id,
        apiKey: key.id,
        roleBinding: binding?.id ?? '',
        quota: quota.id,
        vpc: vpc.id,
        routeTable: routes.id,
        floatingIp: held.id,
        portForward: forward.id,
        targetGroup: targets.id,
        loadBalancer: balancer.id,
        listener: listener.id,
        inVpc: inVpc.id,
        behind: behind.id,
        network: network.id,
        subnet: subnet.id,
        addressGroup: addresses.id,
        certificate: certificate.id,
        securityGroup: group.id,
        firewallPolicy: policy.id,
        instance: instance.id,
        networkInterface: nic?.id ?? '',
        volume: volume.id,
        snapshot: snapshot.id,
        image: image.id,
        keyPair: keyPair.id,
        schedule: schedule.id,
        operation: await newest('operations'),
        event: await newest('events'),
        auditEntry: await newest('audit-entries'),
      }),
    ),
  );
}

const people = new Map<RoleName, Person>();
let emptyRole: string;

beforeAll(async () => {
  outside = await newOutside(admin, cloud, 'matrix');
  await Promise.all((['own', 'shared', 'foreign'] as const).map(furnish));
  emptyRole = await newRole([]);
  await admin.call('POST', '/v1/router-types', { name: `m-${crypto.randomUUID()}` });
  await make(admin, 'physical-networks', { name: `m-${crypto.randomUUID()}`, zoneId, encapsulation: 'geneve' });
  const nobodys = new Map<string, string>();
  await openFinding(address.databaseUrl, {
    action: 'securityGroup.repair',
    targetId: thing('own', 'securityGroup'),
    input: {},
  });
  for (const kind of allKinds.filter(isNobodys))
    nobodys.set(kind.name, (await list(admin, kind.plural, ''))[0]?.id ?? '');
  for (const side of things.values()) for (const [kind, id] of nobodys) side.set(kind, id);
  // Everybody is of one account that owns nothing here; what is shared is shared with all of it.
  const { account } = await newAccount('callers');
  const at = {
    platform: ['platform', null],
    domain: ['domain', thing('own', 'domain')],
    account: ['account', thing('own', 'account')],
    project: ['project', thing('own', 'project')],
  } as const;
  const resource = { imageUser: 'image', networkUser: 'network', offeringUser: 'instanceType' } as Record<
    string,
    string
  >;
  for (const [name, { boundAt }] of Object.entries(builtInRoles)) {
    const kind = resource[name] ?? '';
    const [targetKind, targetId] = boundAt === 'resource' ? [kind, thing('own', kind)] : at[boundAt];
    people.set(name, await person(name, account.id, name, [targetKind, targetId]));
  }
  for (const kind of allKinds.filter((one) => !isNobodys(one)))
    await bind(
      admin,
      await newRole([`${kind.name}.get`, `${kind.name}.list`]),
      ['account', account.id],
      [kind.name, thing('shared', kind.name)],
    );
}, 240_000);

// --------------------------------------------------------------------------------------------- what is expected

const levels = ['platform', 'domain', 'account', 'project'] as const;
type Level = (typeof levels)[number];
/** The narrowest binding that reaches a resource of the kind. */
const levelOf = ({ name, scope }: Kind): Level => {
  if (name === 'domain' || name === 'account' || name === 'project') return name;
  if (name === 'quota' || name === 'roleBinding') return 'project';
  return scope;
};
const catalogues = ['zone', 'instanceType', 'volumeType', 'routerType', 'role', 'operationType'];

/** By the words of the role: `kind.verb`, with `*` for any; what is denied is denied. */
function says(role: RoleName, permission: string): boolean {
  const [kind, verb] = permission.split('.');
  const fits = (pattern: string): boolean => {
    const [k, v] = pattern.split('.');
    return (k === '*' || k === kind) && (v === '*' || v === verb);
  };
  const rules = builtInRoles[role]?.permissions ?? [];
  return (
    rules.some(({ effect, pattern }) => effect === 'allow' && fits(pattern)) &&
    !rules.some(({ effect, pattern }) => effect === 'deny' && fits(pattern))
  );
}

const boundResource: Record<string, string> = {
  imageUser: 'image',
  networkUser: 'network',
  offeringUser: 'instanceType',
};

/** Whether a role gives a permission on the thing of this kind on this side. */
function holds(role: RoleName, kind: Kind, verb: string, side: Side): boolean {
  if (!says(role, `${kind.name}.${verb}`)) return false;
  const boundAt = builtInRoles[role]?.boundAt;
  if (boundAt === 'platform') return true;
  if (boundAt === 'resource') return (side === 'own' || isNobodys(kind)) && boundResource[role] === kind.name;
  return !isNobodys(kind) && side === 'own' && levels.indexOf(boundAt as Level) <= levels.indexOf(levelOf(kind));
}

function sees(role: RoleName, kind: Kind, side: Side): boolean {
  if (holds(role, kind, 'get', side)) return true;
  if (side === 'shared' && !isNobodys(kind)) return true;
  return catalogues.includes(kind.name) && says(role, `${kind.name}.get`);
}

type Expected = 'done' | 403 | 404;

/** On a thing: done, or refused; told apart only to whom may see it. */
function expectedOn(role: RoleName, kind: Kind, verb: string, side: Side, operatorOnly = false): Expected {
  const allowed = holds(role, kind, verb, side) && (!operatorOnly || builtInRoles[role]?.boundAt === 'platform');
  return allowed ? 'done' : sees(role, kind, side) ? 403 : 404;
}

/** Where a new one would be. */
const homeOf: Record<string, string> = { account: 'domain', domain: 'domain', user: 'account', apiKey: 'account' };

function expectedOfCreate(role: RoleName, kind: Kind, side: Side, operatorOnly = false): Expected {
  const home = kindOf(homeOf[kind.name] ?? (kind.name === 'project' ? 'account' : 'project'));
  const boundAt = builtInRoles[role]?.boundAt as Level | 'resource';
  const reaches = isNobodys(kind)
    ? boundAt === 'platform'
    : boundAt === 'platform' ||
      (boundAt !== 'resource' && side === 'own' && levels.indexOf(boundAt) <= levels.indexOf(levelOf(home)));
  if (says(role, `${kind.name}.create`) && reaches && (!operatorOnly || boundAt === 'platform'))
    // Who makes a schedule needs the permission of what it does, too.
    return kind.name !== 'schedule' || says(role, plan.action) ? 'done' : 403;
  if (kind.scope !== 'project') return 403;
  return sees(role, kind.livesWith ? kindOf(kind.fields[kind.livesWith]?.ref ?? '') : home, side) ? 403 : 404;
}

// ------------------------------------------------------------------------------------------------- what is asked

/** A create that is right but for who asks it. */
function bodyOf(kind: Kind, side: Side): Record<string, unknown> | null {
  const id = (name: string): string => thing(side, name);
  const inProject = { name: 'm', projectId: id('project') };
  const volumeTypeId = cloud.volumeTypes[0]?.id;
  const bodies: Record<string, Record<string, unknown>> = {
    domain: { name: `m-${crypto.randomUUID()}`, parentId: id('domain') },
    account: { name: `m-${crypto.randomUUID()}`, domainId: id('domain') },
    project: { name: `m-${crypto.randomUUID()}`, accountId: id('account') },
    user: { name: 'm', userName: crypto.randomUUID(), accountId: id('account') },
    apiKey: { name: 'm', userId: id('user'), permissions: [] },
    roleBinding: {
      name: 'm',
      subjectKind: 'user',
      subjectId: id('user'),
      roleId: emptyRole,
      targetKind: 'project',
      targetId: id('project'),
    },
    quota: { name: 'm', scopeKind: 'project', scopeId: id('project'), counter: 'keyPairs', limit: 1000 },
    vpc: { ...inProject, zoneId, cidrs: ['10.0.0.0/16'] },
    routeTable: { name: 'm', vpcId: id('vpc') },
    floatingIp: { ...inProject, networkId: outside.network.id },
    portForward: {
      name: 'm',
      floatingIpId: id('floatingIp'),
      protocol: 'tcp',
      publicPorts: { from: 81 },
      networkInterfaceId: id('behind'),
    },
    targetGroup: { ...inProject, vpcId: id('vpc'), protocol: 'tcp' },
    loadBalancer: { ...inProject, vpcId: id('vpc'), scheme: 'internal', subnetId: id('inVpc') },
    listener: {
      name: 'm',
      loadBalancerId: id('loadBalancer'),
      protocol: 'tcp',
      ports: { from: 81 },
      targetGroupId: id('targetGroup'),
    },
    routerType: { name: `m-${crypto.randomUUID()}` },
    network: { ...inProject, zoneId },
    subnet: { name: 'm', networkId: id('network'), cidr: '10.61.0.0/24' },
    networkInterface: { ...inProject, subnetId: id('subnet') },
    addressGroup: { ...inProject, family: 4 },
    certificate: { ...inProject, ...shown },
    securityGroup: { ...inProject, zoneId },
    firewallPolicy: { ...inProject },
    instance: { ...instanceBody(cloud, 'm', { networkInterfaces: [{ subnetId: id('subnet') }] }), ...inProject },
    volume: { ...inProject, zoneId, volumeTypeId, sizeGib: 1 },
    snapshot: { name: 'm', volumeId: id('volume') },
    image: { ...inProject, zoneId },
    keyPair: { ...inProject, publicKey },
    schedule: { ...inProject, ...plan },
    role: { name: `m-${crypto.randomUUID()}`, permissions: [] },
    zone: { name: `m-${crypto.randomUUID()}` },
    physicalNetwork: { name: `m-${crypto.randomUUID()}`, zoneId, encapsulation: 'geneve' },
    pod: { name: 'm', zoneId },
    cluster: { name: 'm', podId: id('pod') },
    volumeType: { name: 'm', storageClass: 'matrix' },
    instanceType: { name: 'm', vcpus: 1, memoryMib: 64 },
  };
  return bodies[kind.name] ?? null;
}

/** Bodies of actions that need one. */
const actionBody = (kind: string, verb: string, side: Side): unknown => {
  const bodies: Record<string, unknown> = {
    'volume.attach': { instanceId: thing(side, 'instance') },
    'volume.resize': { sizeGib: 2 },
    'subnet.setOptions': { leaseSeconds: 600 },
    'networkInterface.attach': { instanceId: thing(side, 'instance') },
    'networkInterface.setAddresses': { secondaryAddresses: [] },
    'volume.revert': { snapshotId: thing(side, 'snapshot') },
    'physicalNetwork.attachCluster': { clusterId: cloud.cluster.id },
    'physicalNetwork.detachCluster': { clusterId: cloud.cluster.id },
    'vpc.setCidrs': { cidrs: ['10.60.0.0/16'] },
    'vpc.attachUplink': { networkId: thing(side, 'network') },
    'vpc.detachUplink': { uplinkId: crypto.randomUUID() },
    'routeTable.setRoutes': { routes: [] },
    'floatingIp.attach': { networkInterfaceId: thing(side, 'behind') },
    'floatingIp.move': { networkInterfaceId: thing(side, 'behind') },
    'portForward.attach': { networkInterfaceId: thing(side, 'behind') },
    'portForward.setAllowed': { allowedCidrs: [] },
    'targetGroup.setTargets': { targets: [] },
    'targetGroup.setOptions': { algorithm: 'sourceHash' },
    'listener.setOptions': { enabled: true },
    'addressGroup.setEntries': { entries: [] },
    'securityGroup.setRules': { rules: [] },
    'firewallPolicy.setRules': { rules: [] },
    'operation.skipStep': { reason: 'matrix' },
    'finding.ignore': { until: '2100-01-01T00:00:00Z', reason: 'matrix' },
    'network.removeStray': { kind: 'network', id: crypto.randomUUID() },
    'host.power': { command: 'on' },
    'host.removeStray': { instanceId: crypto.randomUUID() },
    'storagePool.trashStray': { volumeId: crypto.randomUUID() },
  };
  return bodies[`${kind}.${verb}`] ?? {};
};

/** Parameters of views that need some. */
const viewQuery: Readonly<Record<string, string>> = {
  'networkInterface.allowedTraffic': '?direction=in&protocol=tcp&port=22&address=10.0.0.7',
};

/** A change of what each of its kind has. */
const patchOf = ({ readOnly, fields }: Kind): unknown =>
  readOnly ? ('note' in fields ? { note: 'm' } : { value: 1 }) : { description: 'm' };

interface Case {
  role: RoleName;
  what: string;
  method: string;
  path: string;
  body?: unknown;
  expected: Expected;
}

function casesOf(role: RoleName, side: Side): Case[] {
  const cases: Case[] = [];
  for (const kind of allKinds) {
    if (isNobodys(kind) && side !== 'own') continue;
    const path = `/v1/${kind.plural}/${thing(side, kind.name)}`;
    const add = (verb: string, method: string, where: string, expected: Expected, body?: unknown): void => {
      cases.push({ role, what: `${role} ${side} ${kind.name}.${verb}`, method, path: where, body, expected });
    };
    add('get', 'GET', path, sees(role, kind, side) ? 'done' : 404);
    for (const view of Object.keys(viewsOf(kind)))
      add(
        view,
        'GET',
        `${path}/views/${view}${viewQuery[`${kind.name}.${view}`] ?? ''}`,
        expectedOn(role, kind, view, side),
      );
    for (const [verb, { operatorOnly, on = 'resource' }] of Object.entries(kind.actions)) {
      const dry = kind.name === 'operation' ? '' : '?dryRun=true';
      if (verb === 'import') continue;
      if (on === 'collection' && operatorOnly) {
        // It has no target whose existence could be told.
        const allowed = says(role, `${kind.name}.${verb}`) && builtInRoles[role]?.boundAt === 'platform';
        const where = `/v1/${kind.plural}/actions/${verb}?dryRun=true`;
        add(verb, 'POST', where, allowed ? 'done' : 403, actionBody(kind.name, verb, side));
        continue;
      }
      if (on === 'collection') {
        // What is done to each of many is asked of each.
        const body = { action: 'keyPair.update', input: {}, targets: { ids: [thing(side, 'keyPair')] } };
        const seen = sees(role, kindOf('keyPair'), side);
        const allowed = seen && holds(role, kind, verb, side);
        add(verb, 'POST', `/v1/${kind.plural}/actions/${verb}?dryRun=true`, allowed ? 'done' : seen ? 403 : 404, body);
        continue;
      }
      // Whom an invitation is for decides, not a role; it has a test of its own.
      if (kind.name === 'roleBinding' && (verb === 'accept' || verb === 'decline')) continue;
      if (verb === 'create') {
        const body = bodyOf(kind, side);
        if (body) add(verb, 'POST', `/v1/${kind.plural}${dry}`, expectedOfCreate(role, kind, side, operatorOnly), body);
        continue;
      }
      const expected = expectedOn(role, kind, verb, side, operatorOnly);
      if (verb === 'update') add(verb, 'PATCH', `${path}${dry}`, expected, patchOf(kind));
      else if (verb === 'delete') add(verb, 'DELETE', `${path}${dry}`, expected);
      else if (on === 'delete') {
        const { operatorOnly: forOperators } = kind.actions.delete ?? {};
        const whole = expectedOn(role, kind, 'delete', side, forOperators);
        add(verb, 'DELETE', `${path}?dryRun=true&cascade=true&expunge=true`, whole);
      } else add(verb, 'POST', `${path}/actions/${verb}${dry}`, expected, actionBody(kind.name, verb, side));
    }
  }
  return cases;
}

const isRefusal = (status: number, code: unknown): boolean =>
  status === 401 || code === 'FORBIDDEN' || code === 'NOT_FOUND';

test('every operation is answered to every role as the model says, own, shared and foreign', {
  timeout: 600_000,
}, async () => {
  const roles = [...people.keys()];
  const cases = roles.flatMap((role) => (['own', 'shared', 'foreign'] as const).flatMap((side) => casesOf(role, side)));
  const wrong: string[] = [];
  let leaks = 0;
  let next = 0;
  const ask = async (): Promise<void> => {
    for (let one = cases[next++]; one; one = cases[next++]) {
      const { api } = people.get(one.role) as Person;
      const got = await answer(api, one.method, one.path, one.body);
      const said: Expected | number = isRefusal(got.status, got.code) ? got.status : 'done';
      if (said === one.expected) continue;
      if (one.expected === 404) leaks += 1;
      wrong.push(
        `${one.what}: ${one.method} ${one.path} is ${got.status} ${String(got.code ?? '')}, expected ${one.expected}: ${String(got.detail ?? '')}`,
      );
    }
  };
  await Promise.all(Array.from({ length: 6 }, ask));
  expect({ leaks, wrong }).toEqual({ leaks: 0, wrong: [] });
  expect(cases.length).toBeGreaterThan(3000);
  console.info(`${cases.length} cases, ${leaks} leaks`);
});

test('no list tells a role more than it may read one by one', async () => {
  const wrong: string[] = [];
  let cases = 0;
  const look = async (api: Api, role: RoleName, kind: Kind): Promise<void> => {
    cases += 1;
    const ids = (['own', 'shared', 'foreign'] as const).map((side) => thing(side, kind.name));
    const filter = encodeURIComponent(ids.map((id) => `id = "${id}"`).join(' OR '));
    const found = await answer(api, 'GET', `/v1/${kind.plural}?filter=${filter}`);
    const listed = new Set(((found.items ?? []) as Resource[]).map(({ id }) => id));
    for (const side of ['own', 'shared', 'foreign'] as const) {
      const mayList =
        holds(role, kind, 'list', side) ||
        (side === 'shared' && !isNobodys(kind)) ||
        (catalogues.includes(kind.name) && says(role, `${kind.name}.list`));
      if (listed.has(thing(side, kind.name)) !== mayList)
        wrong.push(`${role} ${side} ${kind.name}.list: ${found.status}, expected ${mayList}`);
    }
  };
  for (const [role, { api }] of people) await Promise.all(allKinds.map((kind) => look(api, role, kind)));
  expect(wrong).toEqual([]);
  expect(cases).toBe(people.size * allKinds.length);
});
