/** The plan of a delete is the delete: accepted or refused alike, and what it names is what is gone. */
import pg from 'pg';
import { afterAll, describe, expect, inject, test } from 'vitest';
import type { DeletePlan } from '../../acceptance/deletePlan.ts';
import type { Api, ApiProblem, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { columnsOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds } from '../../model/kinds.ts';
import { newCertificate } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { maintainUntil } from '../support/maintenance.ts';
import { newOutside, type Outside } from '../support/outside.ts';

const address = inject('cloud');
const { admin, cloud, deploy } = joinCloud(address);
const { tenant } = cloud;
const database = new pg.Client({ connectionString: address.databaseUrl });
const connected = database.connect();
afterAll(() => database.end());

const rootDomain = '00000000-0000-4000-8000-000000000002';
const unique = (): string => crypto.randomUUID();
const plan = (kind: Kind, id: string): Promise<DeletePlan> =>
  admin.call('GET', `/v1/${kind.plural}/${id}/views/deletePlan`);
const zoneId = cloud.zone.id;
const volumeTypeId = cloud.volumeTypes[0]?.id;
const volume = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'volumes', { name: unique(), zoneId, volumeTypeId, sizeGib: 1, ...more });
const snapshot = (volumeId: unknown): Promise<Resource> => make(tenant, 'snapshots', { name: 's', volumeId });
const remove = (plural: string, id: string): Promise<unknown> => tenant.done('DELETE', `/v1/${plural}/${id}`);
const answer = async (api: Api, method: string, path: string, body: unknown = null): Promise<ApiProblem> => {
  const response = await api.raw(method, path, body === null ? null : JSON.stringify(body), {
    'content-type': 'application/json',
  });
  const text = await response.text();
  return text === '' ? ({ status: response.status } as ApiProblem) : (JSON.parse(text) as ApiProblem);
};
const code = async (method: string, path: string, body: unknown = {}): Promise<string> =>
  (await answer(tenant, method, path, method === 'DELETE' ? null : body)).code ?? 'accepted';

const { simulatorUrl, ceph, s3 } = address;
let spareHost = 150;
const account = (): Promise<Resource> => admin.call('POST', '/v1/accounts', { name: unique(), domainId: rootDomain });
const user = async (): Promise<Resource> =>
  admin.call('POST', '/v1/users', { name: 'u', userName: unique(), accountId: (await account()).id });
const network = (): Promise<Resource> => make(tenant, 'networks', { name: unique(), zoneId });
const vpc = (): Promise<Resource> => make(tenant, 'vpcs', { name: unique(), zoneId, cidrs: ['10.0.0.0/16'] });
let outside: Promise<Outside> | undefined;
/** To an interface of an instance in a VPC of its own. */
async function portForward(): Promise<Resource> {
  outside ??= newOutside(admin, cloud, 'plan');
  const networkId = (await outside).network.id;
  const home = await make(tenant, 'vpcs', { name: unique(), zoneId, cidrs: ['10.0.0.0/16'], uplink: { networkId } });
  const inside = await make(tenant, 'networks', { name: unique(), zoneId, vpcId: home.id });
  const subnet = await make(tenant, 'subnets', { name: 's', networkId: inside.id, cidr: '10.0.1.0/24' });
  const { id } = await deploy(unique(), { networkInterfaces: [{ subnetId: subnet.id }] });
  const filter = encodeURIComponent(`instanceId = "${id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  const address = await tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId });
  return make(tenant, 'port-forwards', {
    name: unique(),
    floatingIpId: address.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: items[0]?.id,
  });
}
const targetGroup = (vpcId: string): Promise<Resource> =>
  tenant.call('POST', '/v1/target-groups', { name: unique(), vpcId, protocol: 'tcp', port: 80 });
/** In a VPC of its own. */
async function loadBalancer(): Promise<{ balancer: Resource; vpcId: string }> {
  const { id: vpcId } = await vpc();
  const inside = await make(tenant, 'networks', { name: unique(), zoneId, vpcId });
  const subnet = await make(tenant, 'subnets', { name: 's', networkId: inside.id, cidr: '10.0.1.0/24' });
  const body = { name: unique(), vpcId, scheme: 'internal', subnetId: subnet.id };
  return { balancer: await make(tenant, 'load-balancers', body), vpcId };
}
const pod = (): Promise<Resource> => admin.call('POST', '/v1/pods', { name: unique(), zoneId });
const role = (): Promise<Resource> =>
  admin.call('POST', '/v1/roles', { name: unique(), permissions: [{ effect: 'allow', pattern: 'network.get' }] });

/** One of each that nothing hangs on. */
const made: Record<string, () => Promise<{ id: string }>> = {
  zone: () => admin.call('POST', '/v1/zones', { name: unique() }),
  // Processes make themselves known; one that has ended without a word is lost.
  controlNode: async () => {
    await connected;
    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO "controlNode" (id, name, state, role, address, version, "startedAt", "lastHeartbeatAt", load)
       VALUES (gen_random_uuid(), $1, 'lost', 'host', 'nowhere', '0', now() - interval '1 hour', now() - interval '1 hour', 0) RETURNING id`,
      [unique()],
    );
    const [row] = rows;
    if (!row) throw new Error('no row');
    return row;
  },
  pod,
  cluster: async () => admin.call('POST', '/v1/clusters', { name: unique(), podId: (await pod()).id }),
  host: () => {
    const name = `host-${spareHost++}`;
    const simulated = `sim://${new URL(simulatorUrl).host}/${name}`;
    return make(admin, 'hosts', { name, clusterId: cloud.cluster.id, address: simulated });
  },
  storageCluster: () => make(admin, 'storage-clusters', { name: unique(), zoneId, ...ceph }),
  storagePool: () =>
    make(admin, 'storage-pools', {
      name: unique(),
      pool: `plan-${unique()}`,
      storageClass: 'plan',
      replicas: 1,
      failureDomain: 'osd',
      storageClusterId: cloud.storageCluster.id,
      clusterIds: [cloud.cluster.id],
    }),
  backupStore: () => make(admin, 'backup-stores', { name: unique(), zoneId, ...s3, readOnly: true }),
  volumeType: () => admin.call('POST', '/v1/volume-types', { name: unique(), storageClass: 'fast' }),
  instanceType: () => admin.call('POST', '/v1/instance-types', { name: unique(), vcpus: 1, memoryMib: 64 }),
  image: () => tenant.call('POST', '/v1/images', { name: unique(), zoneId }),
  volume,
  snapshot: async () => snapshot((await volume()).id),
  instance: () => deploy(unique(), { dataVolumes: [{ sizeGib: 1 }] }),
  schedule: () =>
    make(tenant, 'schedules', {
      name: unique(),
      cron: '0 0 1 1 *',
      action: 'instance.stop',
      targets: { filter: 'name = "nobody"' },
    }),
  keyPair: () =>
    tenant.call('POST', '/v1/key-pairs', {
      name: unique(),
      publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key',
    }),
  floatingIp: async () => {
    outside ??= newOutside(admin, cloud, 'plan');
    return tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId: (await outside).network.id });
  },
  portForward,
  targetGroup: async () => targetGroup((await vpc()).id),
  loadBalancer: async () => (await loadBalancer()).balancer,
  listener: async () => {
    const { balancer, vpcId } = await loadBalancer();
    return make(tenant, 'listeners', {
      name: unique(),
      loadBalancerId: balancer.id,
      protocol: 'tcp',
      ports: { from: 80 },
      targetGroupId: (await targetGroup(vpcId)).id,
    });
  },
  routerType: () => admin.call('POST', '/v1/router-types', { name: unique() }),
  vpc,
  routeTable: async () => make(tenant, 'route-tables', { name: unique(), vpcId: (await vpc()).id }),
  physicalNetwork: () =>
    make(admin, 'physical-networks', {
      name: unique(),
      zoneId,
      encapsulation: 'geneve',
      clusterIds: [cloud.cluster.id],
    }),
  network,
  subnet: async () => make(tenant, 'subnets', { name: 's', networkId: (await network()).id, cidr: '10.5.0.0/24' }),
  networkInterface: () => make(tenant, 'network-interfaces', { name: unique(), subnetId: cloud.subnet.id }),
  addressGroup: () => make(tenant, 'address-groups', { name: unique(), family: 4 }),
  certificate: async () =>
    tenant.call('POST', '/v1/certificates', { name: unique(), ...(await newCertificate('plan.example.org')) }),
  firewallPolicy: () => make(tenant, 'firewall-policies', { name: unique() }),
  securityGroup: () => make(tenant, 'security-groups', { name: unique(), zoneId, rules: [] }),
  domain: () => admin.call('POST', '/v1/domains', { name: unique(), parentId: rootDomain }),
  account,
  project: async () => admin.call('POST', '/v1/projects', { name: unique(), accountId: (await account()).id }),
  user: async () => {
    const { id } = await user();
    await admin.call('POST', '/v1/api-keys', { name: 'k', userId: id });
    return { id };
  },
  apiKey: async () => admin.call('POST', '/v1/api-keys', { name: 'k', userId: (await user()).id }),
  role,
  roleBinding: async () =>
    admin.call('POST', '/v1/role-bindings', {
      name: 'b',
      subjectKind: 'user',
      subjectId: (await user()).id,
      roleId: (await role()).id,
      targetKind: 'project',
      targetId: cloud.project.id,
    }),
  quota: async () =>
    admin.call('POST', '/v1/quotas', {
      name: 'q',
      scopeKind: 'account',
      scopeId: (await account()).id,
      counter: 'networks',
      limit: 5,
    }),
};

const deletable = allKinds.filter(({ actions }) => actions.delete);

/** Ids of all that lives, by kind. */
async function living(): Promise<Set<string>> {
  await connected;
  const told = allKinds
    .filter((kind) => !kind.readOnly || kind.name === 'networkInterface')
    .map(({ name }) => `SELECT '${name} ' || id AS one FROM "${name}" WHERE "deletedAt" IS NULL`);
  const { rows } = await database.query<{ one: string }>(told.join(' UNION ALL '));
  return new Set(rows.map(({ one }) => one));
}

describe('of a resource that nothing hangs on', () => {
  test.each(deletable.map((kind) => [kind.name, kind] as const))(
    '%s: what the plan takes is what is gone',
    async (name, kind) => {
      const make = made[name];
      if (!make) throw new Error(`say here how a ${name} is made`);
      const { id } = await make();
      const { deletable: may, refusal, takes } = await plan(kind, id);
      expect([may, refusal]).toEqual([true, null]);
      const before = await living();
      const api = kind.scope === 'project' ? tenant : admin;
      if (kind.actions.delete?.mode === 'sync')
        expect((await answer(api, 'DELETE', `/v1/${kind.plural}/${id}`)).status).toBe(204);
      else await api.done('DELETE', `/v1/${kind.plural}/${id}`);
      // What can be recovered is gone when that is over.
      if (kind.actions.expunge) await api.done('POST', `/v1/${kind.plural}/${id}/actions/expunge`, {});
      const after = await living();
      const gone = [...before].filter((one) => !after.has(one)).sort();
      const along = takes.flatMap((one) => (one.by === 'own' || one.by === 'target' ? [`${one.kind} ${one.id}`] : []));
      expect(gone).toEqual(along.sort());
    },
  );
});

describe('of a resource that can not be deleted', () => {
  test('of any kind: the delete is refused as the plan says', async () => {
    // What a walk must find more than one level down, and what no walk finds.
    const { id: instanceId } = await deploy(unique(), { dataVolumes: [{ sizeGib: 1 }] });
    const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${instanceId}`);
    await snapshot(rootVolumeId);
    const { id: guarded } = await deploy(unique());
    const { rootVolumeId: root } = await tenant.call('GET', `/v1/instances/${guarded}`);
    await tenant.call('PATCH', `/v1/volumes/${root}`, { deleteProtection: true });
    await snapshot((await volume()).id);
    let refused = 0;
    for (const kind of deletable) {
      const filter = columnsOf(kind).some(({ name }) => name === 'state') ? '&orderBy=createdAt desc' : '';
      const { items } = await admin.call<{ items: Resource[] }>('GET', `/v1/${kind.plural}?pageSize=6${filter}`);
      for (const { id } of items) {
        const { deletable: may, refusal, blockers, takes } = await plan(kind, id);
        if (may) continue;
        const problem = await answer(admin, 'DELETE', `/v1/${kind.plural}/${id}`);
        expect([kind.name, id, problem.code]).toEqual([kind.name, id, refusal?.code]);
        const named = ((problem.blockers ?? []) as { id: string }[]).map((one) => one.id);
        // What a cascade would take is in the way of a plain delete, also where it would go as a part of something else, such as a root volume.
        const inTheWay = [...blockers, ...takes.filter(({ by }) => by === 'cascade' || by === 'own')];
        expect(inTheWay.map((one) => one.id)).toEqual(expect.arrayContaining(named));
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(15);
    // Tenants are told in words why, the same as by the delete.
    for (const id of [instanceId, guarded]) {
      const { refusal } = await tenant.call<DeletePlan>('GET', `/v1/instances/${id}/views/deletePlan`);
      const { detail } = await answer(tenant, 'DELETE', `/v1/instances/${id}`);
      expect(refusal?.message).toBe(detail);
      expect(detail).toContain(' ');
    }
    expect(await code('DELETE', `/v1/instances/${instanceId}`)).toBe('HAS_DEPENDENTS');
    expect(await code('DELETE', `/v1/instances/${guarded}`)).toBe('PROTECTED');
    await tenant.call('PATCH', `/v1/volumes/${root}`, { deleteProtection: false });
    expect(await code('DELETE', `/v1/instances/${guarded}`)).toBe('accepted');
  });
});

describe('what is destroyed', () => {
  const setting = async (value: number): Promise<void> => {
    const { items } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/settings?filter=${encodeURIComponent('name = "instance.recoveryWindowSeconds"')}`,
    );
    await admin.call('PATCH', `/v1/settings/${items[0]?.id}`, { value });
  };
  const destroyed = async (): Promise<{ id: string; root: string }> => {
    const { id } = await deploy(unique());
    const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${id}`);
    await remove('instances', id);
    return { id, root: String(rootVolumeId) };
  };
  const lives = async (plural: string, id: string): Promise<boolean> =>
    (await answer(tenant, 'GET', `/v1/${plural}/${id}`)).status !== 404;
  const gone = (plural: string, id: string, meanwhile: () => Promise<unknown> = async () => {}): Promise<void> =>
    maintainUntil(address.temporalAddress, 'endRecoveryWindows', async () => {
      await meanwhile();
      return !(await lives(plural, id));
    });

  test('keeps its root volume: that is neither expunged nor recovered alone, and the instance can be recovered', async () => {
    const { id, root } = await destroyed();
    expect(await code('POST', `/v1/volumes/${root}/actions/expunge`)).toBe('NOT_SUPPORTED');
    expect(await code('POST', `/v1/volumes/${root}/actions/recover`)).toBe('NOT_SUPPORTED');
    await tenant.done('POST', `/v1/instances/${id}/actions/recover`);
    await tenant.done('POST', `/v1/instances/${id}/actions/start`);
    await remove('instances', id);
  });

  test('tells since when, however often it is changed, and that it is not any more', async () => {
    const { id, root } = await destroyed();
    const { destroyedAt } = await tenant.call('GET', `/v1/instances/${id}`);
    expect(destroyedAt).toEqual(expect.any(String));
    expect((await tenant.call('GET', `/v1/volumes/${root}`)).destroyedAt).toEqual(expect.any(String));
    await tenant.call('PATCH', `/v1/instances/${id}`, { labels: { touched: 'yes' } });
    expect((await tenant.call('GET', `/v1/instances/${id}`)).destroyedAt).toBe(destroyedAt);
    await tenant.done('POST', `/v1/instances/${id}/actions/recover`);
    expect((await tenant.call('GET', `/v1/instances/${id}`)).destroyedAt).toBeNull();
    expect((await tenant.call('GET', `/v1/volumes/${root}`)).destroyedAt).toBeNull();
    await remove('instances', id);
  });

  test('is not expunged while it, or what goes with it, is protected: by a caller, or at the end of the recovery window', async () => {
    const byItself = await destroyed();
    await tenant.call('PATCH', `/v1/instances/${byItself.id}`, { deleteProtection: true });
    const byRoot = await destroyed();
    await tenant.call('PATCH', `/v1/volumes/${byRoot.root}`, { deleteProtection: true });
    const alone = await volume();
    await remove('volumes', alone.id);
    await tenant.call('PATCH', `/v1/volumes/${alone.id}`, { deleteProtection: true });
    for (const [plural, id] of [
      ['instances', byItself.id],
      ['instances', byRoot.id],
      ['volumes', alone.id],
    ] as const)
      expect(await code('POST', `/v1/${plural}/${id}/actions/expunge`)).toBe('PROTECTED');
    await setting(0);
    try {
      // The last in the order in which they are looked at: when they are gone, the others have been looked at.
      const requestedId = unique().replace(/^.{8}/, 'ffffffff');
      await deploy(unique(), { requestedId });
      await remove('instances', requestedId);
      const data = await volume({ requestedId: unique().replace(/^.{8}/, 'ffffffff') });
      await remove('volumes', data.id);
      // A change must not lengthen its time.
      const touch = (): Promise<unknown> =>
        answer(tenant, 'PATCH', `/v1/instances/${requestedId}`, { labels: { at: unique() } });
      await gone('instances', requestedId, touch);
      await gone('volumes', data.id);
    } finally {
      await setting(86_400);
    }
    expect(
      await Promise.all([lives('instances', byItself.id), lives('instances', byRoot.id), lives('volumes', alone.id)]),
    ).toEqual([true, true, true]);
    await tenant.call('PATCH', `/v1/instances/${byItself.id}`, { deleteProtection: false });
    await tenant.done('POST', `/v1/instances/${byItself.id}/actions/expunge`, {});
    await tenant.call('PATCH', `/v1/volumes/${byRoot.root}`, { deleteProtection: false });
    await tenant.done('POST', `/v1/instances/${byRoot.id}/actions/expunge`, {});
    await tenant.call('PATCH', `/v1/volumes/${alone.id}`, { deleteProtection: false });
    await tenant.done('POST', `/v1/volumes/${alone.id}/actions/expunge`, {});
  });
});
