/** Makes a whole cloud through the public API and nothing else: from an empty installation to a tenant who can deploy. */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import type { Api, Resource } from './api.ts';

export interface PoolSpec {
  pool: string;
  deviceClass: string | null;
  replicas: number;
  failureDomain: 'osd' | 'host';
}

/** What the API is told of the machines below it, real or simulated. */
export interface Underlay {
  hosts: {
    name: string;
    address: string;
    sshPort?: number;
    sshUser?: string;
    sshPrivateKey?: string;
    underlayAddress?: string;
  }[];
  ceph: { monitors: string[]; fsid: string; adminUser: string; adminKey: string };
  s3: { endpoint: string; accessKey: string; secretKey: string; bucket: string; region?: string };
  pools: PoolSpec[];
  /** A disk image as a file, or its bytes. */
  image: { name: string; path?: string; bytes?: Uint8Array };
  instanceType: { vcpus: number; memoryMib: number };
}

export interface Cloud {
  zone: Resource;
  cluster: Resource;
  hosts: Resource[];
  storageCluster: Resource;
  pools: Resource[];
  backupStore: Resource;
  volumeTypes: Resource[];
  instanceType: Resource;
  image: Resource;
  account: Resource;
  project: Resource;
  network: Resource;
  subnet: Resource;
  securityGroup: Resource;
  keyPair: Resource | null;
  tenantToken: string;
  tenant: Api;
}

const rootProject = '00000000-0000-4000-8000-000000000004';
const rootDomain = '00000000-0000-4000-8000-000000000002';

/** Asks for a resource whose making is an operation, and answers it ready. */
export async function make(api: Api, plural: string, body: Record<string, unknown>): Promise<Resource> {
  const { targetId } = await api.done('POST', `/v1/${plural}`, body);
  return api.call('GET', `/v1/${plural}/${targetId}`);
}

async function upload(api: Api, imageId: string, image: Underlay['image']): Promise<void> {
  const body = image.path
    ? (Readable.toWeb(createReadStream(image.path)) as ReadableStream)
    : (image.bytes ?? new Uint8Array());
  const response = await api.raw('PUT', `/v1/images/${imageId}/content`, body, {
    'content-type': 'application/octet-stream',
  });
  const answer = (await response.json()) as { id: string; detail?: string };
  if (response.status !== 202) throw new Error(`the image was refused: ${answer.detail}`);
  const ended = await api.settled(answer.id);
  if (ended.state !== 'succeeded') throw new Error(`the image could not be imported: ${ended.error?.message}`);
}

export type Timed = <T>(what: string, work: () => Promise<T>) => Promise<T>;

/** Runs work and reports how long it took. */
export const timing =
  (report: (what: string, ms: number) => void): Timed =>
  async (what, work) => {
    const started = performance.now();
    const result = await work();
    report(what, performance.now() - started);
    return result;
  };

/** `timed` runs each part, and may tell how long it took. */
export async function provision(admin: Api, underlay: Underlay, timed: Timed = (_, work) => work()): Promise<Cloud> {
  const { zone, cluster } = await timed('zone, pod, cluster', async () => {
    const made = await admin.call('POST', '/v1/zones', { name: 'home', dnsServers: ['9.9.9.9'] });
    const pod = await admin.call('POST', '/v1/pods', { name: 'rack-1', zoneId: made.id });
    return { zone: made, cluster: await admin.call('POST', '/v1/clusters', { name: 'kvm-1', podId: pod.id }) };
  });
  const hosts = await timed(`${underlay.hosts.length} hosts by SSH address and key`, async () => {
    const operations = await inBatches(underlay.hosts, 25, (host) =>
      admin.done('POST', '/v1/hosts', { clusterId: cluster.id, ...host }),
    );
    return Promise.all(operations.map(({ targetId }) => admin.call('GET', `/v1/hosts/${targetId}`)));
  });
  const { storageCluster, pools } = await timed('storage cluster and pools', async () => {
    const made = await make(admin, 'storage-clusters', { name: 'ceph', zoneId: zone.id, ...underlay.ceph });
    const inOrder: Resource[] = [];
    for (const { pool, ...spec } of underlay.pools)
      inOrder.push(
        await make(admin, 'storage-pools', {
          name: pool,
          pool,
          storageClass: pool,
          storageClusterId: made.id,
          clusterIds: [cluster.id],
          overprovision: 100,
          ...spec,
        }),
      );
    return { storageCluster: made, pools: inOrder };
  });
  const backupStore = await timed('backup store', () =>
    make(admin, 'backup-stores', { name: 'rgw', zoneId: zone.id, ...underlay.s3 }),
  );
  const { volumeTypes, instanceType } = await timed('instance and volume types', async () => {
    const types = await Promise.all(
      underlay.pools.map(({ pool }) => admin.call('POST', '/v1/volume-types', { name: pool, storageClass: pool })),
    );
    return {
      volumeTypes: types,
      instanceType: await admin.call('POST', '/v1/instance-types', {
        name: 'tiny',
        ...underlay.instanceType,
        rootVolumeTypeId: types[0]?.id,
      }),
    };
  });
  const image = await timed('image uploaded', async () => {
    const announced = await admin.call('POST', '/v1/images', {
      name: underlay.image.name,
      zoneId: zone.id,
      projectId: rootProject,
      visibility: 'public',
    });
    await upload(admin, announced.id, underlay.image);
    return admin.call('GET', `/v1/images/${announced.id}`);
  });
  const { account, project, tenantToken } = await timed('account, project, API key', async () => {
    const made = await admin.call('POST', '/v1/accounts', { name: 'acme', domainId: rootDomain });
    const { items } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/projects?filter=${encodeURIComponent(`accountId = "${made.id}"`)}`,
    );
    const home = items[0];
    if (!home) throw new Error('the account has no default project');
    const user = await admin.call('POST', '/v1/users', {
      name: 'deploy',
      userName: 'deploy',
      accountId: made.id,
      type: 'service',
    });
    const { items: roles } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/roles?filter=${encodeURIComponent('name = "projectMember"')}`,
    );
    await admin.call('POST', '/v1/role-bindings', {
      name: 'deploy',
      subjectKind: 'user',
      subjectId: user.id,
      roleId: roles[0]?.id,
      targetKind: 'project',
      targetId: home.id,
    });
    const key = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', {
      name: 'deploy',
      userId: user.id,
    });
    return { account: made, project: home, tenantToken: key.token };
  });
  const tenant = admin.as(tenantToken);
  const { network, subnet, securityGroup } = await timed('network, subnet, security group', async () => {
    const net = await make(tenant, 'networks', { name: 'front', zoneId: zone.id });
    const range = await make(tenant, 'subnets', { name: 'front', networkId: net.id, cidr: '10.77.0.0/16' });
    const group = await make(tenant, 'security-groups', {
      name: 'web',
      zoneId: zone.id,
      rules: [
        { direction: 'in', protocol: 'icmp' },
        { direction: 'in', protocol: 'tcp', fromPort: 1, toPort: 65_535 },
      ],
    });
    return { network: net, subnet: range, securityGroup: group };
  });
  return {
    zone,
    cluster,
    hosts,
    storageCluster,
    pools,
    backupStore,
    volumeTypes,
    instanceType,
    image,
    account,
    project,
    network,
    subnet,
    securityGroup,
    keyPair: null,
    tenantToken,
    tenant,
  };
}

/** Runs work over items, at most `size` at a time; answers in the items' order. */
export async function inBatches<I, O>(items: I[], size: number, work: (item: I) => Promise<O>): Promise<O[]> {
  const results: O[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(size, items.length) }, async () => {
      for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as I);
    }),
  );
  return results;
}

/** The body that deploys an instance in this cloud. */
export const instanceBody = (
  cloud: Cloud,
  name: string,
  more: Record<string, unknown> = {},
): Record<string, unknown> => ({
  name,
  zoneId: cloud.zone.id,
  instanceTypeId: cloud.instanceType.id,
  source: { imageId: cloud.image.id },
  networkInterfaces: [{ subnetId: cloud.subnet.id, securityGroupIds: [cloud.securityGroup.id] }],
  ...more,
});
