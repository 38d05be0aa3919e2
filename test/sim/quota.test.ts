/** Limits: every counter that can be limited is refused above its limit, at every scope, however many ask at once. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import { ApiError, type ApiProblem, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import type { counters } from '../../model/tenancy/quota.ts';
import { newCertificate } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside, type Outside } from '../support/outside.ts';
import { records, withoutRuns } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const rootDomain = '00000000-0000-4000-8000-000000000002';

type Counter = (typeof counters)[number];
type Scope = [kind: 'domain' | 'account' | 'project', id: string];

const limits: string[] = [];
async function limit(counter: Counter, [scopeKind, scopeId]: Scope, most: number): Promise<void> {
  const { id } = await admin.call('POST', '/v1/quotas', { name: counter, scopeKind, scopeId, counter, limit: most });
  limits.push(id);
}
async function lift(): Promise<void> {
  for (const id of limits.splice(0)) await admin.call('DELETE', `/v1/quotas/${id}`);
}
afterEach(lift);

const refusal = async (asked: Promise<unknown>): Promise<ApiProblem | 'accepted'> =>
  asked.then(
    () => 'accepted' as const,
    (error: unknown) => {
      if (error instanceof ApiError) return error.problem;
      throw error;
    },
  );

const unique = (): string => crypto.randomUUID();
const volume = (): Record<string, unknown> => ({
  name: unique(),
  zoneId: cloud.zone.id,
  volumeTypeId: cloud.volumeTypes[0]?.id,
  sizeGib: 1,
});
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key';

async function newAccount(domainId = rootDomain): Promise<Resource> {
  return admin.call('POST', '/v1/accounts', { name: unique(), domainId });
}
const newUser = (accountId: string): Promise<Resource> =>
  admin.call('POST', '/v1/users', { name: 'u', userName: unique(), accountId });
const newProject = (accountId: string): Promise<Resource> =>
  admin.call('POST', '/v1/projects', { name: unique(), accountId });
const newKey = (userId: string): Promise<Resource> => admin.call('POST', '/v1/api-keys', { name: 'k', userId });

const askedByAdministrator = new Set<Counter>(['projects', 'users', 'apiKeys']);

/** What counts one more of each; the type asks for a line as soon as there is a counter more. */
const asks: Record<Counter, () => Promise<unknown>> = {
  instances: () => tenant.call('POST', '/v1/instances', instanceBody(cloud, 'over')),
  vcpus: () => tenant.call('POST', '/v1/instances', instanceBody(cloud, 'over')),
  memoryMib: () => tenant.call('POST', '/v1/instances', instanceBody(cloud, 'over')),
  volumes: () => tenant.call('POST', '/v1/volumes', volume()),
  volumeGib: () => tenant.call('POST', '/v1/volumes', volume()),
  snapshots: async () => {
    const { id } = await make(tenant, 'volumes', volume());
    return tenant.call('POST', '/v1/snapshots', { name: 's', volumeId: id });
  },
  images: () => tenant.call('POST', '/v1/images', { name: 'i', zoneId: cloud.zone.id }),
  floatingIps: async () => {
    const { id: networkId } = await lent();
    return tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId });
  },
  // That it is one too many is told before where it leads.
  portForwards: () => forwardOver(),
  targetGroups: async () => groupIn((await vpcWith()).vpcId),
  loadBalancers: async () => tenant.call('POST', '/v1/load-balancers', balancerIn(await vpcWith())),
  listeners: () => listenerOver(),
  vpcs: () => tenant.call('POST', '/v1/vpcs', { name: unique(), zoneId: cloud.zone.id, cidrs: ['10.0.0.0/16'] }),
  // The main one of a VPC counts.
  routeTables: () => tenant.call('POST', '/v1/vpcs', { name: unique(), zoneId: cloud.zone.id, cidrs: ['10.0.0.0/16'] }),
  networks: () => tenant.call('POST', '/v1/networks', { name: 'n', zoneId: cloud.zone.id }),
  subnets: async () => {
    const { id } = await make(tenant, 'networks', { name: unique(), zoneId: cloud.zone.id });
    return tenant.call('POST', '/v1/subnets', { name: 's', networkId: id, cidr: '10.3.0.0/24' });
  },
  networkInterfaces: () => tenant.call('POST', '/v1/instances', instanceBody(cloud, 'over')),
  firewallPolicies: () => tenant.call('POST', '/v1/firewall-policies', { name: unique() }),
  addressGroups: () => tenant.call('POST', '/v1/address-groups', { name: unique(), family: 4 }),
  certificates: async () =>
    tenant.call('POST', '/v1/certificates', { name: unique(), ...(await newCertificate('quota.example.org')) }),
  securityGroups: () =>
    tenant.call('POST', '/v1/security-groups', { name: unique(), zoneId: cloud.zone.id, rules: [] }),
  keyPairs: () => tenant.call('POST', '/v1/key-pairs', { name: unique(), publicKey: key }),
  schedules: () =>
    tenant.call('POST', '/v1/schedules', {
      name: unique(),
      cron: '0 0 1 1 *',
      action: 'instance.stop',
      targets: { filter: 'name = "nobody"' },
    }),
  projects: () => newProject(cloud.account.id),
  users: () => newUser(cloud.account.id),
  apiKeys: async () => newKey((await newUser(cloud.account.id)).id),
};

let outside: Outside | undefined;
/** A network that leads outside, made when it is first asked for. */
async function lent(): Promise<Resource> {
  outside ??= await newOutside(admin, cloud, 'quota');
  return outside.network;
}
/** A port forward to an interface in a VPC: limits are told before what is wrong with it, and all is right with it. */
async function forwardOver(): Promise<unknown> {
  const zoneId = cloud.zone.id;
  const { id: networkId } = await lent();
  const vpc = await make(tenant, 'vpcs', { name: unique(), zoneId, cidrs: ['10.4.0.0/16'], uplink: { networkId } });
  const network = await make(tenant, 'networks', { name: unique(), zoneId, vpcId: vpc.id });
  const subnet = await make(tenant, 'subnets', { name: 's', networkId: network.id, cidr: '10.4.1.0/24' });
  const nics = { networkInterfaces: [{ subnetId: subnet.id }], startOnCreate: false };
  const instance = await make(tenant, 'instances', instanceBody(cloud, unique(), nics));
  const filter = encodeURIComponent(`instanceId = "${instance.id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  const address = await tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId });
  return tenant.call('POST', '/v1/port-forwards', {
    name: unique(),
    floatingIpId: address.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: items[0]?.id,
  });
}

async function vpcWith(): Promise<{ vpcId: string; subnetId: string }> {
  const zoneId = cloud.zone.id;
  const { id: vpcId } = await make(tenant, 'vpcs', { name: unique(), zoneId, cidrs: ['10.4.0.0/16'] });
  const network = await make(tenant, 'networks', { name: unique(), zoneId, vpcId });
  const { id } = await make(tenant, 'subnets', { name: 's', networkId: network.id, cidr: '10.4.1.0/24' });
  return { vpcId, subnetId: id };
}
const groupIn = (vpcId: string): Promise<Resource> =>
  tenant.call('POST', '/v1/target-groups', { name: unique(), vpcId, protocol: 'tcp' });
const balancerIn = (where: { vpcId: string; subnetId: string }): Record<string, unknown> => ({
  name: unique(),
  scheme: 'internal',
  ...where,
});
async function listenerOver(): Promise<unknown> {
  const where = await vpcWith();
  const balancer = await make(tenant, 'load-balancers', balancerIn(where));
  return tenant.call('POST', '/v1/listeners', {
    name: unique(),
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: (await groupIn(where.vpcId)).id,
  });
}

describe('a full quota', () => {
  test.each(Object.entries(asks))(
    'of %s refuses one more, at the account and at the domain above',
    async (name, ask) => {
      const counter = name as Counter;
      for (const scope of [
        ['account', cloud.account.id],
        ['domain', rootDomain],
      ] satisfies Scope[]) {
        await limit(counter, scope, 0);
        const problem = await refusal(ask());
        expect(problem).toMatchObject({ status: 403, code: 'QUOTA_EXCEEDED', counter });
        // How much others hold there is told to those alone who may read the limits of that place.
        if (askedByAdministrator.has(counter))
          expect(problem).toMatchObject({ limit: 0, scope: { kind: scope[0], id: scope[1] } });
        else for (const name of ['limit', 'used', 'scope']) expect(problem).not.toHaveProperty(name);
        await lift();
      }
    },
  );

  test('leaves no record behind', async () => {
    const { id } = await newUser(cloud.account.id);
    for (const counter of ['projects', 'users', 'apiKeys'] as const)
      await limit(counter, ['account', cloud.account.id], 0);
    const before = withoutRuns(await records(address.databaseUrl));
    for (const ask of [asks.projects, asks.users, () => newKey(id)])
      expect(await refusal(ask())).toMatchObject({ code: 'QUOTA_EXCEEDED' });
    expect(withoutRuns(await records(address.databaseUrl))).toEqual(before);
  });

  test('counts what lives in the account alone, and no more once it is gone', async () => {
    const [mine, other] = await Promise.all([newAccount(), newAccount()]);
    await limit('users', ['account', mine.id], 1);
    await newUser(other.id);
    const user = await newUser(mine.id);
    expect(await refusal(newUser(mine.id))).toMatchObject({ code: 'QUOTA_EXCEEDED', used: 1, asked: 1 });
    await limit('apiKeys', ['account', mine.id], 1);
    await newKey(user.id);
    expect(await refusal(newKey(user.id))).toMatchObject({ code: 'QUOTA_EXCEEDED', used: 1, asked: 1 });
    // Its keys go with the user.
    await admin.call('DELETE', `/v1/users/${user.id}`);
    await newKey((await newUser(mine.id)).id);
  });

  test('of a domain counts its whole branch, the project that comes with an account too', async () => {
    const domain = await admin.call('POST', '/v1/domains', { name: unique(), parentId: rootDomain });
    const below = await admin.call('POST', '/v1/domains', { name: unique(), parentId: domain.id });
    await limit('projects', ['domain', domain.id], 2);
    const { id } = await newAccount(below.id);
    await newProject(id);
    const scope = { kind: 'domain', id: domain.id };
    expect(await refusal(newProject(id))).toMatchObject({ code: 'QUOTA_EXCEEDED', scope, used: 2 });
    expect(await refusal(newAccount(domain.id))).toMatchObject({ code: 'QUOTA_EXCEEDED', scope, used: 2 });
  });

  test('lets exactly as many through as are left, of all that ask at once', async () => {
    const { id } = await newAccount();
    await limit('users', ['account', id], 3);
    const answers = await Promise.all(Array.from({ length: 12 }, () => refusal(newUser(id))));
    expect(answers.filter((answer) => answer === 'accepted')).toHaveLength(3);
    expect(answers.filter((answer) => answer !== 'accepted').map(({ code }) => code)).toEqual(
      Array(9).fill('QUOTA_EXCEEDED'),
    );
  });

  test('tells in the plan of a dry run what would be counted', async () => {
    const body = { name: 'u', userName: unique(), accountId: cloud.account.id };
    const { quotaDelta } = await admin.call<Resource & { quotaDelta: object }>('POST', '/v1/users?dryRun=true', body);
    expect(quotaDelta).toEqual({ users: 1 });
  });
});

test('what an account holds has no limit at a project', async () => {
  for (const counter of ['projects', 'users', 'apiKeys'] as const)
    expect(await refusal(limit(counter, ['project', cloud.project.id], 5))).toMatchObject({
      status: 422,
      code: 'INVALID_ARGUMENT',
      violations: [{ field: 'scopeKind' }],
    });
});

describe('the account', () => {
  const account: Scope = ['account', cloud.account.id];
  /** How much a counter holds right now, as a limit of nothing says. */
  async function used(counter: Counter): Promise<number> {
    await limit(counter, ['project', cloud.project.id], 0);
    const problem = await refusal(asks[counter]());
    await lift();
    return problem === 'accepted' ? Number.NaN : Number(problem.used);
  }

  test.each(['vcpus', 'memoryMib'] as const)('gets its %s back when an instance is destroyed', async (counter) => {
    const { id } = await deploy(unique());
    const size = Number((await tenant.call('GET', `/v1/instances/${id}`))[counter]);
    const before = await used(counter);
    await tenant.done('DELETE', `/v1/instances/${id}`);
    expect(await used(counter)).toBe(before - size);
    // Somebody else has taken the room: nothing is left to recover into.
    await limit(counter, account, before - 1);
    const recover = (): Promise<Resource> => tenant.call('POST', `/v1/instances/${id}/actions/recover`);
    expect(await refusal(recover())).toMatchObject({ code: 'QUOTA_EXCEEDED', counter, asked: size });
    await lift();
    await limit(counter, account, before);
    await tenant.done('POST', `/v1/instances/${id}/actions/recover`);
    await lift();
    expect(await used(counter)).toBe(before);
    await removeInstance(id);
  });

  test('has its limit of GiB kept by volumes that grow at the same time', async () => {
    const volumes = await Promise.all([1, 2].map(() => make(tenant, 'volumes', volume())));
    await limit('volumeGib', account, (await used('volumeGib')) + 1);
    const grow = ({ id }: Resource): Promise<Resource> =>
      tenant.call('POST', `/v1/volumes/${id}/actions/resize`, { sizeGib: 2 });
    const answers = await Promise.all(volumes.map((grown) => refusal(grow(grown))));
    expect(answers.filter((answer) => answer === 'accepted')).toHaveLength(1);
    expect(answers.find((answer) => answer !== 'accepted')).toMatchObject({ code: 'QUOTA_EXCEEDED', asked: 1 });
    for (const { id } of volumes) await tenant.done('DELETE', `/v1/volumes/${id}`);
  });
});
