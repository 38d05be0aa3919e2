import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { inBatches, instanceBody, make } from '../../lab/provision.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { allKinds } from '../../model/kinds.ts';
import { type MaintenanceName, maintenanceId } from '../../model/platform/maintenance.ts';
import { workflowName } from '../../temporal/run.ts';
import { joinCloud } from '../support/cloud.ts';
import { type FailingHost, failing, failingHost } from '../support/failing.ts';
import { openFinding } from '../support/findings.ts';
import { recordedSteps, recordFirst } from '../support/history.ts';
import { withTemporal } from '../support/maintenance.ts';
import { newOutside, type Outside } from '../support/outside.ts';
import { bmcOf, setPower } from '../support/power.ts';

import {
  casesOf,
  declaredSteps,
  runCases,
  type Subject,
  table,
  takenSteps,
  type Verdict,
} from '../support/rollback.ts';
import { byHand } from '../support/simulated.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy: instance, removeInstance } = joinCloud(address);
const { tenant } = cloud;

async function removeVolume(id: string): Promise<void> {
  const { state } = await tenant.call('GET', `/v1/volumes/${id}`);
  if (state !== 'destroyed') await tenant.done('DELETE', `/v1/volumes/${id}`);
  await tenant.done('POST', `/v1/volumes/${id}/actions/expunge`, {});
}

/** Of which type a volume is: in a pool of Ceph, or in one of files. */
type VolumeType = () => string | undefined;
const inCeph: VolumeType = () => cloud.volumeTypes[1]?.id;

const volume = (name: string, type = inCeph): Promise<{ id: string }> =>
  make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: type(), sizeGib: 2 });

/** A create whose target's id is chosen here, so that a fault can be laid for it beforehand. */
const creation =
  (plural: string, body: (name: string) => Promise<Record<string, unknown>> | Record<string, unknown>) =>
  async (name: string) => {
    const requestedId = crypto.randomUUID();
    return {
      targetId: requestedId,
      method: 'POST',
      path: `/v1/${plural}`,
      body: { ...(await body(name)), requestedId },
    };
  };

/** An action on an instance made for it. */
const onInstance =
  (
    verb: string,
    body: Record<string, unknown> = {},
    before: (id: string) => Promise<unknown> = async () => {},
    more: Record<string, unknown> = {},
  ) =>
  async (name: string) => {
    const { id } = await instance(name, more);
    await before(id);
    return verb === 'delete'
      ? { targetId: id, method: 'DELETE', path: `/v1/instances/${id}` }
      : { targetId: id, method: 'POST', path: `/v1/instances/${id}/actions/${verb}`, body };
  };

const onVolume =
  (
    verb: string,
    body: (id: string) => Promise<Record<string, unknown>> = async () => ({}),
    before: (id: string) => Promise<unknown> = async () => {},
    type = inCeph,
  ) =>
  async (name: string) => {
    const { id } = await volume(name, type);
    await before(id);
    const input = await body(id);
    return verb === 'delete'
      ? { targetId: id, method: 'DELETE', path: `/v1/volumes/${id}` }
      : { targetId: id, method: 'POST', path: `/v1/volumes/${id}/actions/${verb}`, body: input };
  };

const gone = async (): Promise<void> => {};
const startAgain = (id: string): Promise<unknown> => tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
/** What succeeds leaves its target as it was prepared. */
const asItWas = gone;
const forceOff = (id: string): Promise<unknown> =>
  tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
const volumesOf = async (instanceId: string): Promise<string[]> =>
  (
    await tenant.call<{ items: { id: string }[] }>(
      'GET',
      `/v1/volumes?filter=${encodeURIComponent(`instanceId = "${instanceId}" AND role = "data"`)}`,
    )
  ).items.map(({ id }) => id);
const attach = async (volumeId: string): Promise<unknown> =>
  tenant.done('POST', `/v1/volumes/${volumeId}/actions/attach`, { instanceId: (await instance('detach')).id });

async function detachAndRemove(id: string): Promise<void> {
  const { instanceId } = await tenant.call<{ instanceId: string | null; id: string }>('GET', `/v1/volumes/${id}`);
  if (instanceId) {
    await tenant.done('POST', `/v1/volumes/${id}/actions/detach`, {});
    await removeInstance(instanceId);
  }
  await removeVolume(id);
}

async function removeInstanceAndData(id: string): Promise<void> {
  const data = await volumesOf(id);
  await removeInstance(id);
  for (const volumeId of data) await removeVolume(volumeId);
}

async function removeWithSnapshots(id: string): Promise<void> {
  const { items } = await tenant.call<{ items: { id: string }[] }>(
    'GET',
    `/v1/snapshots?filter=${encodeURIComponent(`volumeId = "${id}"`)}`,
  );
  for (const snapshot of items) await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
  await removeVolume(id);
}

let common: Promise<{ id: string }> | undefined;
const sharedVolume = (): Promise<{ id: string }> => {
  common ??= volume('snapshots');
  return common;
};

const remove = (plural: string) => async (id: string) => void (await tenant.done('DELETE', `/v1/${plural}/${id}`));

const snapshotOf = (volumeId: string): Promise<{ id: string }> =>
  make(tenant, 'snapshots', { name: 'before', volumeId });
const rules = [{ direction: 'in', protocol: 'tcp', fromPort: 22 }];
const policyRules = [
  { priority: 10, direction: 'in', action: 'allow', protocol: 'tcp', fromPort: 443 },
  { priority: 20, direction: 'in', action: 'reject', protocol: 'tcp', source: { cidr: '10.0.0.0/8' }, log: true },
];
/** What stands around each network that was put under a policy: an instance, a subnet, policies. */
const underPolicies = new Map<string, string[]>();
const entries = [{ cidr: '10.0.0.0/8' }, { cidr: '192.168.7.7/32' }];

const nic = (name: string, more: Record<string, unknown> = {}): Promise<{ id: string }> =>
  make(tenant, 'network-interfaces', { name, subnetId: cloud.subnet.id, ...more });
/** An action on an interface that a running instance has. */
const onAttached =
  (verb: string, body: Record<string, unknown> = {}) =>
  async (name: string) => {
    const { id } = await nic(name);
    await tenant.done('POST', `/v1/network-interfaces/${id}/actions/attach`, { instanceId: (await instance(name)).id });
    const path = `/v1/network-interfaces/${id}`;
    return verb === 'update'
      ? { targetId: id, method: 'PATCH', path, body }
      : { targetId: id, method: 'POST', path: `${path}/actions/${verb}`, body };
  };
const aloneOf = new Map<string, string>();
async function removeNic(id: string): Promise<void> {
  const { instanceId } = await tenant.call<{ instanceId: string | null; id: string }>(
    'GET',
    `/v1/network-interfaces/${id}`,
  );
  if (instanceId) await tenant.done('POST', `/v1/network-interfaces/${id}/actions/detach`, {});
  const owner = instanceId ?? aloneOf.get(id);
  if (owner) await removeInstance(owner);
  await tenant.done('DELETE', `/v1/network-interfaces/${id}`);
}

let spare = 8;
const simulated = new URL(address.simulatorUrl);
/** A simulated host that belongs to nobody yet, under the name by which the simulator knows it. */
function addHost(): Record<string, unknown> {
  const name = `host-${spare++}`;
  return { name, clusterId: cloud.cluster.id, address: `sim://${simulated.host}/${name}` };
}
/** The same with a BMC. */
const addPowered = async (): Promise<Record<string, unknown>> => {
  const body = addHost();
  return { ...body, ...(await bmcOf(address.simulatorUrl, String(body.name))) };
};
const host = (): Promise<{ id: string }> => make(admin, 'hosts', addHost());
const powered = async (): Promise<FailingHost> => {
  const body = await addPowered();
  return failingHost(address, { admin, cloud }, { id: (await make(admin, 'hosts', body)).id, name: String(body.name) });
};
const onHost =
  (verb: string, body: Record<string, unknown> = {}, before: (id: string) => Promise<unknown> = async () => {}) =>
  async () => {
    const { id } = await host();
    await before(id);
    return { targetId: id, method: 'POST', path: `/v1/hosts/${id}/actions/${verb}`, body };
  };
/** One that has failed, and whether it was shut out. */
const newHost = failing(address, { admin, cloud });
const knownHost = async (id: string) => {
  const { name } = await admin.call<{ name: string; id: string }>('GET', `/v1/hosts/${id}`);
  return failingHost(address, { admin, cloud }, { id, name });
};
const failed = (verb: string, before: (id: string) => Promise<unknown>) => async () => {
  const { id } = await newHost(spare++);
  await before(id);
  return { targetId: id, method: 'POST', path: `/v1/hosts/${id}/actions/${verb}`, body: {} };
};
const fail = async (id: string): Promise<void> => (await knownHost(id)).fail();
async function shutOut(id: string): Promise<void> {
  const one = await knownHost(id);
  await one.fail();
  await one.done('failover');
  await one.suffer('heal');
}
async function returned(id: string): Promise<void> {
  const one = await knownHost(id);
  await one.suffer('heal');
  if ((await one.now()).state === 'fenced') await one.done('reinstate');
}
async function removeHost(id: string): Promise<void> {
  await returned(id);
  await (await knownHost(id)).remove();
}
const requireFence = (requireFence: boolean): Promise<unknown> =>
  admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, { ha: { enabled: true, requireFence } });
/** The host of an instance fails, and the instance is lost there: nobody can be shut out of its disk. */
async function strand(instanceId: string): Promise<void> {
  await requireFence(true);
  const { hostId } = await admin.call('GET', `/v1/instances/${instanceId}`);
  const one = await knownHost(String(hostId));
  await one.fail();
  await one.done('failover');
}
/** Whether the platform does something by itself; not while that is looked at. */
const doesByItself = (name: MaintenanceName, does: boolean): Promise<void> =>
  withTemporal(address.temporalAddress, async ({ schedule }) => {
    const handle = schedule.getHandle(maintenanceId(name));
    await (does ? handle.unpause() : handle.pause());
  });
const restartsLost = (does: boolean): Promise<void> => doesByItself('restartLost', does);
/** By instance, the host that fails under it. */
const homes = new Map<string, string>();
/** The instance runs on that host again. */
async function goHome(id: string): Promise<void> {
  const home = String(homes.get(id));
  const now = (): Promise<{ state: string; hostId: string; id: string }> =>
    admin.call('GET', `/v1/instances/${id}`) as never;
  await returned(home);
  if ((await now()).state !== 'running') await admin.done('POST', `/v1/instances/${id}/actions/restartElsewhere`, {});
  const one = await knownHost(home);
  await one.connected();
  if ((await now()).hostId !== home) await admin.done('POST', `/v1/instances/${id}/actions/migrate`, { hostId: home });
}
async function strandAgain(id: string): Promise<void> {
  await goHome(id);
  await strand(id);
}
async function leaveHome(id: string): Promise<void> {
  const home = String(homes.get(id));
  await returned(home);
  await (await knownHost(home)).connected();
  await removeInstance(id);
  await removeHost(home);
  homes.delete(id);
  if (homes.size > 0) return;
  await requireFence(true);
  await restartsLost(true);
}
const intoMaintenance = (id: string): Promise<unknown> =>
  admin.done('POST', `/v1/hosts/${id}/actions/enterMaintenance`, {});
/** A cluster of its own, in the zone of the others. */
async function clusterOf(count: number): Promise<{ id: string; hostIds: string[] }> {
  const name = `own-${spare}`;
  const pod = await admin.call('POST', '/v1/pods', { name, zoneId: cloud.zone.id });
  const { id } = await admin.call('POST', '/v1/clusters', { name, podId: pod.id });
  const hostIds: string[] = [];
  for (let n = 0; n < count; n++) hostIds.push((await make(admin, 'hosts', { ...addHost(), clusterId: id })).id);
  return { id, hostIds };
}
async function removeCluster(id: string): Promise<void> {
  const { podId } = await admin.call<{ podId: string; id: string }>('GET', `/v1/clusters/${id}`);
  const { items } = await admin.call<{ items: { id: string }[] }>(
    'GET',
    `/v1/hosts?filter=${encodeURIComponent(`clusterId = "${id}"`)}`,
  );
  for (const one of items) await admin.done('DELETE', `/v1/hosts/${one.id}`);
  await admin.call('DELETE', `/v1/clusters/${id}`);
  await admin.call('DELETE', `/v1/pods/${podId}`);
}
const onCluster = (verb: string, hosts: number, body: Record<string, unknown>) => async () => {
  const { id } = await clusterOf(hosts);
  return { targetId: id, method: 'POST', path: `/v1/clusters/${id}/actions/${verb}`, body };
};
/** Asks for it, and says that what it waits for is done as soon as it waits. */
async function maintainAndGoOn(hostId: string): Promise<OperationView> {
  const asked = await admin.call<OperationView>('POST', `/v1/hosts/${hostId}/actions/maintain`, { hook: 'wait' });
  void (async () => {
    for (;;) {
      const now = await admin.call<OperationView & { waitsFor: string | null }>('GET', `/v1/operations/${asked.id}`);
      if (now.endedAt) return;
      // It may have gone on, or failed, since this looked.
      if (now.waitsFor) await admin.call('POST', `/v1/operations/${asked.id}/actions/continue`).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  return asked;
}
const pool = (name: string): Record<string, unknown> => ({
  name,
  pool: `p${spare++}`,
  storageClass: 'spare',
  replicas: 1,
  failureDomain: 'osd',
  storageClusterId: cloud.storageCluster.id,
  clusterIds: [cloud.cluster.id],
});
const rootProject = '00000000-0000-4000-8000-000000000004';
let wires = 0;
const wire = (name: string): Record<string, unknown> => ({
  name,
  zoneId: cloud.zone.id,
  encapsulation: 'vlan',
  bridge: `br-phy${++wires}`,
  segmentRanges: [{ from: 100, to: 200 }],
  clusterIds: [cloud.cluster.id],
});
const onWire =
  (verb: string, more: Record<string, unknown> = {}, body: Record<string, unknown> = {}) =>
  async (name: string) => {
    const { id } = await make(admin, 'physical-networks', { ...wire(name), ...more });
    return { targetId: id, method: 'POST', path: `/v1/physical-networks/${id}/actions/${verb}`, body };
  };
/** What leads outside: of the first every VPC here has its uplink. */
let outside: Outside | undefined;
let further: Outside | undefined;
const newVpc = (name: string): Record<string, unknown> => ({
  name,
  zoneId: cloud.zone.id,
  cidrs: ['10.7.0.0/16'],
  uplink: { networkId: outside?.network.id },
});
type Vpc = Resource & { uplinks: { id: string }[] };
const onVpc =
  (
    verb: string,
    body: (vpc: Vpc) => Record<string, unknown>,
    before: (vpc: Vpc & { name: string }) => Promise<unknown> = async () => {},
  ) =>
  async (name: string) => {
    const vpc = (await make(tenant, 'vpcs', newVpc(name))) as Vpc;
    await before({ ...vpc, name });
    return { targetId: vpc.id, method: 'POST', path: `/v1/vpcs/${vpc.id}/actions/${verb}`, body: body(vpc) };
  };
let plainType: Promise<Resource> | undefined;
let commonVpc: Promise<Resource> | undefined;
const sharedVpc = (): Promise<Resource> => {
  commonVpc ??= make(tenant, 'vpcs', newVpc('route tables'));
  return commonVpc;
};
const routes = [{ cidr: '10.98.0.0/16', blackhole: true }];
let commonSubnet: Promise<Resource> | undefined;
const sharedSubnet = (): Promise<Resource> => {
  commonSubnet ??= (async () => {
    const network = await make(tenant, 'networks', {
      name: 'shared',
      zoneId: cloud.zone.id,
      vpcId: (await sharedVpc()).id,
    });
    return make(tenant, 'subnets', { name: 'shared', networkId: network.id, cidr: '10.7.8.0/24' });
  })();
  return commonSubnet;
};
/** An interface in the shared VPC, of an instance of its own. */
async function nicInVpc(name: string, subnetId?: string): Promise<string> {
  const nic = { networkInterfaces: [{ subnetId: subnetId ?? (await sharedSubnet()).id }], startOnCreate: false };
  const { id } = await instance(name, nic);
  const filter = encodeURIComponent(`instanceId = "${id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  return String(items[0]?.id);
}
const publicAddress = (name: string): Promise<Resource> =>
  tenant.call('POST', '/v1/floating-ips', { name, networkId: outside?.network.id });
const onAddress =
  (verb: 'attach' | 'move' | 'detach') =>
  async (name: string): Promise<{ targetId: string; method: string; path: string; body?: unknown }> => {
    const { id } = await publicAddress(name);
    const attach = async (): Promise<Record<string, unknown>> => ({ networkInterfaceId: await nicInVpc(name) });
    if (verb !== 'attach') await tenant.done('POST', `/v1/floating-ips/${id}/actions/attach`, await attach());
    const body = verb === 'detach' ? {} : await attach();
    return { targetId: id, method: 'POST', path: `/v1/floating-ips/${id}/actions/${verb}`, body };
  };
const portForward = async (name: string, subnetId?: string): Promise<Record<string, unknown>> => ({
  name,
  floatingIpId: (await publicAddress(name)).id,
  protocol: 'tcp',
  publicPorts: { from: 8080 },
  networkInterfaceId: await nicInVpc(name, subnetId),
  allowedCidrs: ['192.0.2.0/24'],
});
const targetGroup = async (name: string): Promise<Resource> =>
  tenant.call('POST', '/v1/target-groups', {
    name,
    vpcId: (await sharedVpc()).id,
    protocol: 'tcp',
    port: 80,
    targets: [{ networkInterfaceId: await nicInVpc(name) }],
  });
/** Internal, in the shared VPC. */
const loadBalancer = async (name: string): Promise<Record<string, unknown>> => ({
  name,
  vpcId: (await sharedVpc()).id,
  scheme: 'internal',
  subnetId: (await sharedSubnet()).id,
});
const listener = async (name: string): Promise<Record<string, unknown>> => ({
  name,
  loadBalancerId: (await make(tenant, 'load-balancers', await loadBalancer(name))).id,
  protocol: 'tcp',
  ports: { from: 80 },
  targetGroupId: (await targetGroup(name)).id,
});
/** A group with a listener that sends to it. */
const onTargets = (verb: string, body: (name: string) => Promise<unknown>) => async (name: string) => {
  const { targetGroupId } = await make(tenant, 'listeners', await listener(name));
  const targetId = String(targetGroupId);
  const path = `/v1/target-groups/${targetId}/actions/${verb}`;
  return { targetId, method: 'POST', path, body: await body(name) };
};
/** A floating IP, and a port forward of another one. */
async function leadTo(name: string, networkInterfaceId: string): Promise<void> {
  const { id } = await publicAddress(name);
  await tenant.done('POST', `/v1/floating-ips/${id}/actions/attach`, { networkInterfaceId });
  await make(tenant, 'port-forwards', {
    name,
    floatingIpId: (await publicAddress(name)).id,
    protocol: 'tcp',
    publicPorts: { from: 8080 },
    networkInterfaceId,
    allowedCidrs: ['192.0.2.0/24'],
  });
}
const waySteps = ['waysIn.find', 'waysIn.close', 'waysIn.forget'];
const ofCluster = { clusterId: cloud.cluster.id };
const poolOfFiles = (name: string): Record<string, unknown> => ({
  name,
  type: 'sharedMount',
  storageClass: 'files',
  source: { path: `/srv/${name.replace(/\W+/g, '-')}` },
  clusterIds: [cloud.cluster.id],
});
let filesTypeId: string | undefined;
const inFiles: VolumeType = () => filesTypeId;
/** With the copy of an image that nothing lives on any more. */
async function poolWithCopy(name: string): Promise<{ id: string }> {
  const storageClass = `copy${spare++}`;
  const made = await make(admin, 'storage-pools', { ...pool(name), storageClass });
  const { id: volumeTypeId } = await admin.call('POST', '/v1/volume-types', { name: storageClass, storageClass });
  const source = { imageId: cloud.image.id };
  await removeVolume((await make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId, source })).id);
  return made;
}
/** Never due, and of what is not there. */
const plan = (name: string): Record<string, unknown> => ({
  name,
  cron: '0 0 1 1 *',
  action: 'snapshot.create',
  targets: { filter: 'name = "nobody"' },
  retention: { keepLast: 1 },
});
/** By the pool in which they lie. */
const strays = new Map<string, string>();
async function placeIn(poolId: string, volumeId: string): Promise<Record<string, unknown>> {
  const { pool: name } = await admin.call<{ pool: string }>('GET', `/v1/storage-pools/${poolId}`);
  return { storageClusterId: cloud.storageCluster.id, pool: name, image: `volume-${volumeId}` };
}
/** The disk of a volume that nobody knows of. */
async function strayIn(poolId: string): Promise<string> {
  const id = crypto.randomUUID();
  strays.set(poolId, id);
  const tags = { id, kind: 'volume', operation: crypto.randomUUID(), revision: 1 };
  await byHand(address.simulatorUrl, 'host-0', 'rbd.ensureImage', { ...(await placeIn(poolId, id)), sizeGib: 1, tags });
  return id;
}
const { ceph, s3 } = address;
const announce = (name: string): Promise<{ id: string }> =>
  tenant.call('POST', '/v1/images', { name, zoneId: cloud.zone.id });
/** As soon as there is a place for it: a key has so many uploads open, and no more. */
async function uploaded(id: string): Promise<OperationView> {
  for (;;) {
    const response = await tenant.raw('PUT', `/v1/images/${id}/content`, smallRawDisk(), {
      'content-type': 'application/octet-stream',
    });
    if (response.status !== 429) return (await response.json()) as OperationView;
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
/** The deletion of something made for it. */
const deletion = (plural: string, made: (name: string) => Promise<{ id: string }>) => async (name: string) => {
  const { id } = await made(name);
  return { targetId: id, method: 'DELETE', path: `/v1/${plural}/${id}` };
};
const removeByOperator = (plural: string) => async (id: string) =>
  void (await admin.done('DELETE', `/v1/${plural}/${id}`));

/** After a deletion under faults: what was undone is still there. */
const removeIfThere = (plural: string) => async (id: string) => {
  const { items } = await admin.call<{ items: unknown[] }>(
    'GET',
    `/v1/${plural}?filter=${encodeURIComponent(`id = "${id}"`)}`,
  );
  if (items.length > 0) await admin.done('DELETE', `/v1/${plural}/${id}`);
};

const subjects: Subject[] = [
  { type: 'host.create', operator: true, prepare: creation('hosts', addPowered), clean: removeByOperator('hosts') },
  {
    type: 'host.connect',
    operator: true,
    prepare: onHost('connect'),
    again: asItWas,
    clean: removeByOperator('hosts'),
  },
  {
    // Instances that leave, and that come back, are operations of their own: hostMaintenance.test.ts.
    type: 'host.enterMaintenance',
    operator: true,
    prepare: onHost('enterMaintenance'),
    again: (id) => admin.done('POST', `/v1/hosts/${id}/actions/exitMaintenance`, {}),
    clean: removeByOperator('hosts'),
    absent: ['leave'],
  },
  {
    type: 'host.exitMaintenance',
    operator: true,
    prepare: onHost('exitMaintenance', { moveBack: true }, intoMaintenance),
    again: intoMaintenance,
    clean: removeByOperator('hosts'),
    absent: ['return'],
  },
  {
    // What empties it and takes it back into use are operations of their own, proven above.
    type: 'host.maintain',
    operator: true,
    prepare: onHost('maintain', { hook: 'reboot' }),
    again: asItWas,
    clean: removeByOperator('hosts'),
    absent: ['enter', 'connect', 'people.wait', 'power', 'exit'],
  },
  {
    // Those of single hosts are operations of their own: rolling.test.ts.
    type: 'cluster.rollingMaintenance',
    operator: true,
    prepare: onCluster('rollingMaintenance', 1, {}),
    again: asItWas,
    clean: removeCluster,
    absent: ['maintain'],
  },
  {
    // Moves are operations of their own: rolling.test.ts.
    type: 'cluster.rebalance',
    operator: true,
    prepare: onCluster('rebalance', 2, {}),
    again: asItWas,
    clean: removeCluster,
    absent: ['move'],
  },
  {
    type: 'zone.reportCapacity',
    operator: true,
    async prepare(name) {
      const { id } = await admin.call('POST', '/v1/zones', { name });
      return { targetId: id, method: 'POST', path: `/v1/zones/${id}/actions/reportCapacity`, body: {} };
    },
    again: asItWas,
    clean: async (id) => void (await admin.call('DELETE', `/v1/zones/${id}`)),
  },
  {
    // Instances of the host are operations of their own: failover.test.ts.
    type: 'host.failover',
    operator: true,
    prepare: failed('failover', fail),
    async again(id) {
      await returned(id);
      const one = await knownHost(id);
      await one.connected();
      await one.fail();
    },
    clean: removeHost,
    absent: ['restart'],
  },
  {
    type: 'host.reinstate',
    operator: true,
    prepare: failed('reinstate', shutOut),
    again: shutOut,
    clean: removeHost,
    absent: ['hosts.wake'],
  },
  {
    type: 'host.rotateCredentials',
    operator: true,
    async prepare() {
      // Who asks the BMC between two passwords is not let in, and its power is unknown then.
      await doesByItself('watchPower', false);
      const { id } = await powered();
      return { targetId: id, method: 'POST', path: `/v1/hosts/${id}/actions/rotateCredentials`, body: {} };
    },
    again: asItWas,
    async clean(id) {
      await doesByItself('watchPower', true);
      await removeByOperator('hosts')(id);
    },
  },
  {
    type: 'host.collectDiagnostics',
    operator: true,
    prepare: onHost('collectDiagnostics'),
    again: asItWas,
    clean: removeByOperator('hosts'),
  },
  {
    type: 'host.power',
    operator: true,
    async prepare() {
      const { id } = await powered();
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/hosts/${id}/actions/power`,
        body: { command: 'cycle', force: true },
      };
    },
    again: async (id) => (await knownHost(id)).connected(),
    clean: async (id) => (await knownHost(id)).remove(),
  },
  {
    type: 'host.delete',
    operator: true,
    prepare: deletion('hosts', host),
    clean: removeIfThere('hosts'),
    absent: ['hosts.declareDead', 'hosts.freeGuests'],
  },
  {
    type: 'storageCluster.create',
    operator: true,
    prepare: creation('storage-clusters', (name) => ({ name, zoneId: cloud.zone.id, ...ceph })),
    clean: removeByOperator('storage-clusters'),
  },
  {
    type: 'storageCluster.delete',
    operator: true,
    prepare: deletion('storage-clusters', (name) =>
      make(admin, 'storage-clusters', { name, zoneId: cloud.zone.id, ...ceph }),
    ),
    clean: removeIfThere('storage-clusters'),
  },
  {
    type: 'storagePool.create',
    operator: true,
    prepare: creation('storage-pools', pool),
    clean: removeByOperator('storage-pools'),
  },
  {
    type: 'storagePool.cleanCache',
    operator: true,
    async prepare(name) {
      const { id } = await poolWithCopy(name);
      const body = { unusedForSeconds: 0 };
      return { targetId: id, method: 'POST', path: `/v1/storage-pools/${id}/actions/cleanCache`, body };
    },
    clean: removeIfThere('storage-pools'),
  },
  {
    type: 'storagePool.delete',
    operator: true,
    prepare: deletion('storage-pools', (name) => make(admin, 'storage-pools', pool(name))),
    clean: removeIfThere('storage-pools'),
  },
  {
    type: 'backupStore.create',
    operator: true,
    prepare: creation('backup-stores', (name) => ({ name, zoneId: cloud.zone.id, ...s3, readOnly: true })),
    clean: removeByOperator('backup-stores'),
  },
  {
    type: 'backupStore.delete',
    operator: true,
    prepare: deletion('backup-stores', (name) =>
      make(admin, 'backup-stores', { name, zoneId: cloud.zone.id, ...s3, readOnly: true }),
    ),
    clean: removeIfThere('backup-stores'),
  },
  {
    type: 'image.import',
    prepare: async (name) => {
      const { id } = await announce(name);
      return { targetId: id, method: 'PUT', path: '', ask: () => uploaded(id) };
    },
    clean: remove('images'),
    keeps: true,
  },
  {
    type: 'image.delete',
    prepare: deletion('images', async (name) => {
      const { id } = await announce(name);
      await tenant.settled((await uploaded(id)).id);
      return { id };
    }),
    clean: removeIfThere('images'),
  },
  {
    type: 'subnet.delete',
    prepare: deletion('subnets', async (name) =>
      make(tenant, 'subnets', {
        name,
        networkId: (await make(tenant, 'networks', { name, zoneId: cloud.zone.id })).id,
        cidr: '10.2.0.0/24',
      }),
    ),
    clean: removeIfThere('subnets'),
  },
  {
    type: 'securityGroup.repair',
    prepare: async (name) => {
      const { id } = await make(tenant, 'security-groups', { name, zoneId: cloud.zone.id, rules });
      return { targetId: id, method: 'POST', path: `/v1/security-groups/${id}/actions/repair`, body: {} };
    },
    again: asItWas,
    clean: remove('security-groups'),
  },
  {
    type: 'addressGroup.repair',
    prepare: async (name) => {
      const { id } = await make(tenant, 'address-groups', { name, family: 4, entries });
      return { targetId: id, method: 'POST', path: `/v1/address-groups/${id}/actions/repair`, body: {} };
    },
    again: asItWas,
    clean: remove('address-groups'),
  },
  {
    type: 'firewallPolicy.repair',
    prepare: async (name) => {
      const { id } = await make(tenant, 'firewall-policies', { name, rules: policyRules });
      return { targetId: id, method: 'POST', path: `/v1/firewall-policies/${id}/actions/repair`, body: {} };
    },
    again: asItWas,
    clean: remove('firewall-policies'),
  },
  {
    // What mends it is an operation of its own: audit.test.ts.
    type: 'finding.repair',
    operator: true,
    prepare: async (name) => {
      const { id: targetId } = await make(tenant, 'security-groups', { name, zoneId: cloud.zone.id, rules });
      const id = await openFinding(address.databaseUrl, { action: 'securityGroup.repair', targetId, input: {} });
      return { targetId: id, method: 'POST', path: `/v1/findings/${id}/actions/repair`, body: {} };
    },
    clean: gone,
    absent: ['mend'],
  },
  {
    type: 'host.removeStray',
    operator: true,
    prepare: onHost('removeStray', { instanceId: crypto.randomUUID() }),
    again: asItWas,
    clean: removeByOperator('hosts'),
  },
  {
    type: 'storagePool.trashStray',
    operator: true,
    prepare: async (name) => {
      const { id } = await make(admin, 'storage-pools', pool(name));
      const body = { volumeId: await strayIn(id) };
      return { targetId: id, method: 'POST', path: `/v1/storage-pools/${id}/actions/trashStray`, body };
    },
    onPurpose: /volume-.* has no record$/,
    async clean(id) {
      const place = await placeIn(id, strays.get(id) ?? '');
      await byHand(address.simulatorUrl, 'host-0', 'rbd.ensureExpunged', place);
      await admin.done('DELETE', `/v1/storage-pools/${id}`);
    },
  },
  {
    type: 'network.repair',
    prepare: async (name) => {
      const { id } = await make(tenant, 'networks', { name, zoneId: cloud.zone.id });
      const subnet = await make(tenant, 'subnets', { name, networkId: id, cidr: '10.3.0.0/24' });
      await instance(name, {
        networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [cloud.securityGroup.id] }],
      });
      await nic(name, { subnetId: subnet.id });
      return { targetId: id, method: 'POST', path: `/v1/networks/${id}/actions/repair`, body: {} };
    },
    again: asItWas,
    clean: gone,
  },
  {
    type: 'securityGroup.delete',
    prepare: deletion('security-groups', (name) =>
      make(tenant, 'security-groups', { name, zoneId: cloud.zone.id, rules }),
    ),
    clean: removeIfThere('security-groups'),
  },
  {
    type: 'firewallPolicy.delete',
    prepare: deletion('firewall-policies', (name) => make(tenant, 'firewall-policies', { name, rules: policyRules })),
    clean: removeIfThere('firewall-policies'),
  },
  {
    type: 'addressGroup.delete',
    prepare: deletion('address-groups', (name) => make(tenant, 'address-groups', { name, family: 4, entries })),
    clean: removeIfThere('address-groups'),
  },
  {
    type: 'instance.create',
    prepare: creation('instances', (name) => instanceBody(cloud, name, { dataVolumes: [{ sizeGib: 1 }] })),
    clean: removeInstanceAndData,
    absent: ['images.cache', 'placement.vacate'],
  },
  {
    type: 'instance.start',
    prepare: onInstance('start', {}, forceOff),
    again: forceOff,
    clean: removeInstance,
  },
  {
    type: 'instance.stop',
    prepare: onInstance('stop', { timeoutSeconds: 5 }),
    again: startAgain,
    clean: removeInstance,
  },
  {
    type: 'instance.settle',
    operator: true,
    prepare: onInstance('settle'),
    again: asItWas,
    clean: removeInstance,
    absent: [
      'instances.becomeLost',
      'hypervisor.turnOff',
      'networkInterfaces.unbind',
      'placement.release',
      'instances.becomeStopped',
    ],
  },
  {
    type: 'instance.restartElsewhere',
    operator: true,
    async prepare(name) {
      await restartsLost(false);
      const one = await newHost(spare++);
      const id = await one.deploy(name, rootInFiles());
      homes.set(id, one.id);
      await strand(id);
      const path = `/v1/instances/${id}/actions/restartElsewhere`;
      const ask = async (): Promise<OperationView> => {
        await requireFence(false);
        return admin.call('POST', path, {});
      };
      return { targetId: id, method: 'POST', path, ask };
    },
    // What is undone stays lost: its place on the host that failed is not given back to it.
    movesOn: strandAgain,
    again: strandAgain,
    clean: leaveHome,
  },
  { type: 'instance.reboot', prepare: onInstance('reboot', { mode: 'force' }), again: asItWas, clean: removeInstance },
  { type: 'instance.migrate', prepare: onInstance('migrate'), again: asItWas, clean: removeInstance },
  {
    type: 'instance.delete',
    prepare: onInstance('delete', {}, async () => {}, { dataVolumes: [{ sizeGib: 1 }] }),
    clean: removeInstanceAndData,
    absent: ['networkInterfaces.unbindOne', 'networkInterfaceRecords.freeSlot', 'waysIn.close', 'waysIn.forget'],
  },
  {
    type: 'instance.recover',
    prepare: onInstance('recover', {}, (id) => tenant.done('DELETE', `/v1/instances/${id}`)),
    again: (id) => tenant.done('DELETE', `/v1/instances/${id}`),
    clean: removeInstance,
  },
  {
    type: 'instance.expunge',
    prepare: onInstance('expunge', {}, (id) => tenant.done('DELETE', `/v1/instances/${id}`)),
    clean: gone,
    absent: ['volumeRecords.keepRoot'],
  },
  {
    type: 'volume.create',
    prepare: creation('volumes', (name) => ({
      name,
      zoneId: cloud.zone.id,
      volumeTypeId: cloud.volumeTypes[2]?.id,
      sizeGib: 3,
    })),
    clean: removeVolume,
    absent: ['images.cache', 'volumeRecords.locate'],
  },
  {
    type: 'volume.attach',
    prepare: onVolume('attach', async () => ({ instanceId: (await instance('attach')).id })),
    clean: detachAndRemove,
  },
  { type: 'volume.detach', prepare: onVolume('detach', undefined, attach), clean: detachAndRemove },
  {
    type: 'volume.resize',
    prepare: onVolume('resize', async () => ({ sizeGib: 4 })),
    clean: removeVolume,
    absent: ['volumes.growLive'],
  },
  {
    type: 'volume.revert',
    prepare: onVolume('revert', async (id) => ({ snapshotId: (await snapshotOf(id)).id })),
    again: asItWas,
    clean: removeWithSnapshots,
  },
  { type: 'volume.delete', prepare: onVolume('delete'), clean: removeVolume },
  {
    type: 'volume.recover',
    prepare: onVolume('recover', undefined, (id) => tenant.done('DELETE', `/v1/volumes/${id}`)),
    clean: removeVolume,
  },
  {
    type: 'volume.expunge',
    prepare: onVolume('expunge', undefined, (id) => tenant.done('DELETE', `/v1/volumes/${id}`)),
    clean: gone,
  },
  {
    type: 'snapshot.create',
    prepare: creation('snapshots', async (name) => ({ name, volumeId: (await sharedVolume()).id })),
    clean: remove('snapshots'),
  },
  {
    type: 'snapshot.delete',
    prepare: async () => {
      const { id } = await snapshotOf((await volume('snapshots')).id);
      return { targetId: id, method: 'DELETE', path: `/v1/snapshots/${id}` };
    },
    clean: gone,
  },
  {
    type: 'network.create',
    prepare: creation('networks', (name) => ({ name, zoneId: cloud.zone.id })),
    clean: remove('networks'),
  },
  {
    type: 'network.delete',
    prepare: async (name) => {
      const { id } = await make(tenant, 'networks', { name, zoneId: cloud.zone.id });
      return { targetId: id, method: 'DELETE', path: `/v1/networks/${id}` };
    },
    clean: gone,
  },
  {
    type: 'subnet.create',
    prepare: creation('subnets', async (name) => ({
      name,
      networkId: (await make(tenant, 'networks', { name, zoneId: cloud.zone.id })).id,
      cidr: '10.1.0.0/24',
    })),
    clean: remove('subnets'),
    keeps: true,
  },
  { type: 'schedule.create', prepare: creation('schedules', plan), clean: remove('schedules') },
  {
    type: 'schedule.update',
    prepare: async (name) => {
      const { id } = await make(tenant, 'schedules', plan(name));
      const body = { cron: '1 1 1 1 *', enabled: false, retention: { keepDaily: 3 } };
      return { targetId: id, method: 'PATCH', path: `/v1/schedules/${id}`, body };
    },
    clean: remove('schedules'),
  },
  {
    type: 'schedule.delete',
    prepare: deletion('schedules', (name) => make(tenant, 'schedules', plan(name))),
    clean: removeIfThere('schedules'),
  },
  {
    type: 'schedule.runNow',
    prepare: async (name) => {
      const { id } = await make(tenant, 'schedules', plan(name));
      return { targetId: id, method: 'POST', path: `/v1/schedules/${id}/actions/runNow`, body: {} };
    },
    again: asItWas,
    clean: remove('schedules'),
    // Those that are operations are faulted in schedules.test.ts.
    absent: ['action', 'delete'],
  },
  { type: 'floatingIp.attach', prepare: onAddress('attach'), clean: remove('floating-ips') },
  { type: 'floatingIp.move', prepare: onAddress('move'), clean: remove('floating-ips') },
  { type: 'floatingIp.detach', prepare: onAddress('detach'), clean: remove('floating-ips') },
  {
    type: 'floatingIp.delete',
    prepare: deletion('floating-ips', publicAddress),
    clean: removeIfThere('floating-ips'),
  },
  {
    type: 'portForward.create',
    prepare: creation('port-forwards', portForward),
    clean: remove('port-forwards'),
    keeps: true,
  },
  {
    type: 'portForward.attach',
    prepare: async (name) => {
      const { networkInterfaceId, ...nowhere } = await portForward(name);
      const { id } = await make(tenant, 'port-forwards', nowhere);
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/port-forwards/${id}/actions/attach`,
        body: { networkInterfaceId },
      };
    },
    clean: remove('port-forwards'),
  },
  {
    type: 'portForward.detach',
    prepare: async (name) => {
      const { id } = await make(tenant, 'port-forwards', await portForward(name));
      return { targetId: id, method: 'POST', path: `/v1/port-forwards/${id}/actions/detach`, body: {} };
    },
    clean: remove('port-forwards'),
  },
  {
    type: 'portForward.setAllowed',
    prepare: async (name) => {
      const { id } = await make(tenant, 'port-forwards', await portForward(name));
      const path = `/v1/port-forwards/${id}/actions/setAllowed`;
      return { targetId: id, method: 'POST', path, body: { allowedCidrs: [] } };
    },
    clean: remove('port-forwards'),
  },
  {
    type: 'portForward.delete',
    prepare: deletion('port-forwards', async (name) => make(tenant, 'port-forwards', await portForward(name))),
    clean: removeIfThere('port-forwards'),
  },
  {
    type: 'loadBalancer.create',
    prepare: creation('load-balancers', loadBalancer),
    clean: remove('load-balancers'),
    keeps: true,
  },
  {
    type: 'loadBalancer.repair',
    prepare: async (name) => {
      const { loadBalancerId } = await make(tenant, 'listeners', await listener(name));
      const id = String(loadBalancerId);
      return { targetId: id, method: 'POST', path: `/v1/load-balancers/${id}/actions/repair`, body: {} };
    },
    again: asItWas,
    clean: async (id) => void (await tenant.done('DELETE', `/v1/load-balancers/${id}?cascade=true`)),
  },
  {
    type: 'loadBalancer.delete',
    prepare: deletion('load-balancers', async (name) => make(tenant, 'load-balancers', await loadBalancer(name))),
    clean: removeIfThere('load-balancers'),
  },
  {
    type: 'listener.create',
    prepare: creation('listeners', listener),
    clean: remove('listeners'),
    keeps: true,
  },
  {
    type: 'listener.setOptions',
    prepare: async (name) => {
      const { id } = await make(tenant, 'listeners', await listener(name));
      const body = { targetGroupId: (await targetGroup(`${name} other`)).id, enabled: false };
      return { targetId: id, method: 'POST', path: `/v1/listeners/${id}/actions/setOptions`, body };
    },
    clean: remove('listeners'),
  },
  {
    type: 'listener.delete',
    prepare: deletion('listeners', async (name) => make(tenant, 'listeners', await listener(name))),
    clean: removeIfThere('listeners'),
  },
  {
    type: 'targetGroup.setTargets',
    prepare: onTargets('setTargets', async (name) => ({
      targets: [{ networkInterfaceId: await nicInVpc(`${name} other`) }],
    })),
    clean: gone,
  },
  {
    type: 'targetGroup.setOptions',
    prepare: onTargets('setOptions', async () => ({ algorithm: 'sourceHash', healthCheck: { intervalSeconds: 9 } })),
    clean: gone,
  },
  {
    type: 'targetGroup.delete',
    prepare: deletion('target-groups', targetGroup),
    clean: removeIfThere('target-groups'),
  },
  {
    type: 'vpc.create',
    prepare: creation('vpcs', newVpc),
    clean: remove('vpcs'),
  },
  { type: 'vpc.setCidrs', prepare: onVpc('setCidrs', () => ({ cidrs: ['10.0.0.0/8'] })), clean: remove('vpcs') },
  {
    type: 'vpc.attachUplink',
    prepare: onVpc('attachUplink', () => ({ networkId: further?.network.id, isDefault: false })),
    clean: remove('vpcs'),
  },
  {
    type: 'vpc.detachUplink',
    prepare: onVpc('detachUplink', ({ uplinks }) => ({ uplinkId: uplinks[0]?.id })),
    clean: remove('vpcs'),
  },
  {
    type: 'vpc.changeType',
    prepare: async (name) => {
      plainType ??= admin.call('POST', '/v1/router-types', { name: 'plain', redundant: false });
      const { id: routerTypeId } = await plainType;
      return onVpc('changeType', () => ({ routerTypeId }))(name);
    },
    clean: remove('vpcs'),
  },
  {
    type: 'vpc.failOverGateway',
    operator: true,
    prepare: onVpc('failOverGateway', () => ({})),
    again: asItWas,
    clean: remove('vpcs'),
  },
  {
    type: 'vpc.repair',
    prepare: onVpc(
      'repair',
      () => ({}),
      async ({ id, name }) => {
        const network = await make(tenant, 'networks', { name, zoneId: cloud.zone.id, vpcId: id });
        const { id: subnetId } = await make(tenant, 'subnets', { name, networkId: network.id, cidr: '10.7.1.0/24' });
        const forward = await portForward(name, subnetId);
        await make(tenant, 'port-forwards', forward);
        const { networkInterfaceId } = forward;
        const { id: addressId } = await publicAddress(name);
        await tenant.done('POST', `/v1/floating-ips/${addressId}/actions/attach`, { networkInterfaceId });
        const balancer = await make(tenant, 'load-balancers', { name, vpcId: id, scheme: 'internal', subnetId });
        const targets = [{ networkInterfaceId }];
        const group = { name, vpcId: id, protocol: 'tcp', port: 80, targets };
        await make(tenant, 'listeners', {
          name,
          loadBalancerId: balancer.id,
          protocol: 'tcp',
          ports: { from: 80 },
          targetGroupId: (await tenant.call('POST', '/v1/target-groups', group)).id,
        });
      },
    ),
    again: asItWas,
    clean: gone,
  },
  {
    type: 'vpc.delete',
    prepare: deletion('vpcs', async (name) => make(tenant, 'vpcs', newVpc(name))),
    clean: removeIfThere('vpcs'),
  },
  {
    type: 'routeTable.create',
    prepare: creation('route-tables', async (name) => ({ name, vpcId: (await sharedVpc()).id, routes })),
    clean: remove('route-tables'),
    keeps: true,
  },
  {
    type: 'routeTable.setRoutes',
    prepare: async (name) => {
      const { id } = await make(tenant, 'route-tables', { name, vpcId: (await sharedVpc()).id, routes });
      const body = { routes: [{ cidr: '10.99.0.0/16', blackhole: true }] };
      return { targetId: id, method: 'POST', path: `/v1/route-tables/${id}/actions/setRoutes`, body };
    },
    clean: remove('route-tables'),
  },
  {
    type: 'routeTable.delete',
    prepare: deletion('route-tables', async (name) =>
      make(tenant, 'route-tables', { name, vpcId: (await sharedVpc()).id, routes }),
    ),
    clean: removeIfThere('route-tables'),
  },
  {
    type: 'physicalNetwork.create',
    operator: true,
    prepare: creation('physical-networks', wire),
    clean: removeByOperator('physical-networks'),
  },
  {
    type: 'physicalNetwork.attachCluster',
    operator: true,
    prepare: onWire('attachCluster', { clusterIds: [] }, ofCluster),
    clean: removeByOperator('physical-networks'),
  },
  {
    type: 'physicalNetwork.detachCluster',
    operator: true,
    prepare: onWire('detachCluster', {}, ofCluster),
    clean: removeByOperator('physical-networks'),
  },
  {
    type: 'physicalNetwork.repair',
    operator: true,
    prepare: onWire('repair'),
    again: asItWas,
    clean: removeByOperator('physical-networks'),
  },
  {
    type: 'physicalNetwork.delete',
    operator: true,
    prepare: deletion('physical-networks', (name) => make(admin, 'physical-networks', wire(name))),
    clean: removeIfThere('physical-networks'),
  },
  {
    type: 'subnet.setOptions',
    prepare: async (name) => {
      const { id: networkId } = await make(tenant, 'networks', { name, zoneId: cloud.zone.id });
      const { id } = await make(tenant, 'subnets', { name, networkId, cidr: '10.4.0.0/24' });
      const body = { dnsServers: ['10.4.0.53'], hostRoutes: [{ cidr: '10.5.0.0/16', nextHop: '10.4.0.7' }] };
      return { targetId: id, method: 'POST', path: `/v1/subnets/${id}/actions/setOptions`, body };
    },
    clean: remove('subnets'),
  },
  {
    type: 'networkInterface.create',
    prepare: creation('network-interfaces', (name) => ({ name, subnetId: cloud.subnet.id })),
    clean: remove('network-interfaces'),
  },
  {
    type: 'networkInterface.update',
    prepare: onAttached('update', {
      linkUp: false,
      securityGroupIds: [],
      allowedPairs: [{ cidr: '10.9.0.0/16' }],
      qos: { inBytesPerSec: 1_000_000 },
    }),
    clean: removeNic,
    absent: ['networkInterfaceRecords.takeName'],
  },
  {
    type: 'networkInterface.attach',
    prepare: async (name) => {
      const { id } = await nic(name);
      const instanceId = (await instance(name)).id;
      aloneOf.set(id, instanceId);
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/network-interfaces/${id}/actions/attach`,
        body: { instanceId },
      };
    },
    clean: removeNic,
  },
  {
    type: 'networkInterface.detach',
    prepare: async (name) => {
      const action = await onAttached('detach')(name);
      const { instanceId } = await tenant.call<{ instanceId: string; id: string }>(
        'GET',
        `/v1/network-interfaces/${action.targetId}`,
      );
      aloneOf.set(action.targetId, instanceId);
      return action;
    },
    clean: removeNic,
  },
  {
    type: 'networkInterface.setAddresses',
    prepare: async (name) => {
      const address = `10.77.99.${spare++}`;
      return onAttached('setAddresses', { address, secondaryAddresses: [`10.77.98.${spare++}`] })(name);
    },
    clean: removeNic,
  },
  {
    type: 'networkInterface.repair',
    prepare: onAttached('repair'),
    again: asItWas,
    clean: removeNic,
  },
  {
    type: 'networkInterface.delete',
    prepare: deletion('network-interfaces', (name) => nic(name)),
    clean: removeIfThere('network-interfaces'),
    absent: ['waysIn.close', 'waysIn.forget'],
  },
  {
    type: 'addressGroup.create',
    prepare: creation('address-groups', (name) => ({ name, family: 4, entries })),
    clean: remove('address-groups'),
  },
  {
    type: 'addressGroup.setEntries',
    prepare: async (name) => {
      const { id } = await make(tenant, 'address-groups', { name, family: 4, entries });
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/address-groups/${id}/actions/setEntries`,
        body: { entries: [{ cidr: '192.168.0.0/16', note: 'another' }] },
      };
    },
    clean: remove('address-groups'),
  },
  {
    type: 'firewallPolicy.create',
    prepare: creation('firewall-policies', (name) => ({ name, rules: policyRules })),
    clean: remove('firewall-policies'),
  },
  {
    type: 'firewallPolicy.setRules',
    prepare: async (name) => {
      const { id } = await make(tenant, 'firewall-policies', { name, rules: policyRules });
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/firewall-policies/${id}/actions/setRules`,
        body: { rules: [], defaults: { in: 'allow', out: 'deny' } },
      };
    },
    clean: remove('firewall-policies'),
  },
  {
    // From one policy to another, with a port that goes along.
    type: 'network.setFirewallPolicy',
    prepare: async (name) => {
      const policies = await Promise.all(
        [1, 2].map((number) => make(tenant, 'firewall-policies', { name: `${name} ${number}`, rules: policyRules })),
      );
      const network = await make(tenant, 'networks', { name, zoneId: cloud.zone.id });
      const subnet = await make(tenant, 'subnets', { name, networkId: network.id, cidr: '10.3.0.0/24' });
      const path = `/v1/networks/${network.id}/actions/setFirewallPolicy`;
      await tenant.done('POST', path, { firewallPolicyId: policies[0]?.id });
      const instance = await make(
        tenant,
        'instances',
        instanceBody(cloud, name, { networkInterfaces: [{ subnetId: subnet.id }] }),
      );
      underPolicies.set(network.id, [instance.id, subnet.id, ...policies.map(({ id }) => id)]);
      return { targetId: network.id, method: 'POST', path, body: { firewallPolicyId: policies[1]?.id } };
    },
    clean: async (networkId) => {
      const [instanceId = '', subnetId, ...policyIds] = underPolicies.get(networkId) ?? [];
      await removeInstance(instanceId);
      await tenant.done('DELETE', `/v1/subnets/${subnetId}`);
      await tenant.done('DELETE', `/v1/networks/${networkId}`);
      for (const id of policyIds) await tenant.done('DELETE', `/v1/firewall-policies/${id}`);
    },
  },
  {
    type: 'securityGroup.create',
    prepare: creation('security-groups', (name) => ({ name, zoneId: cloud.zone.id, rules })),
    clean: remove('security-groups'),
  },
  {
    type: 'securityGroup.setRules',
    prepare: async (name) => {
      const { id } = await make(tenant, 'security-groups', { name, zoneId: cloud.zone.id, rules });
      return {
        targetId: id,
        method: 'POST',
        path: `/v1/security-groups/${id}/actions/setRules`,
        body: { rules: [{ direction: 'in', protocol: 'icmp' }] },
      };
    },
    clean: remove('security-groups'),
  },
];

async function uncachedImage(name: string): Promise<string> {
  const { id } = await announce(name);
  await tenant.settled((await uploaded(id)).id);
  return id;
}

const simulator = (path: string, body: Record<string, unknown> = {}): Promise<unknown> =>
  fetch(`${address.simulatorUrl}/_sim/${path}`, { method: 'POST', body: JSON.stringify(body) });

async function hostThatIsDead(): Promise<{ id: string }> {
  const body = addHost();
  const { id } = await make(admin, 'hosts', body);
  await simulator(`hosts/${String(body.name)}/scrap`);
  while ((await admin.call('GET', `/v1/hosts/${id}`)).connection !== 'disconnected')
    await new Promise((resolve) => setTimeout(resolve, 100));
  return { id };
}
const force = 'force=true&confirmDead=true';

/** The platform asks by itself as soon as it hears of it; answers its first operation on this guest. */
async function askedAfter(instanceId: string, happens: (hostName: string) => Promise<unknown>): Promise<OperationView> {
  const { hostId } = await admin.call('GET', `/v1/instances/${instanceId}`);
  const { name } = await admin.call('GET', `/v1/hosts/${String(hostId)}`);
  const filter = encodeURIComponent(`targetId = "${instanceId}" AND type = "instance.settle"`);
  const settling = async (): Promise<OperationView[]> =>
    (await admin.call<{ items: OperationView[] }>('GET', `/v1/operations?filter=${filter}&orderBy=createdAt`)).items;
  const before = (await settling()).length;
  await happens(String(name));
  for (;;) {
    const first = (await settling())[before];
    if (first) return first;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
const powerOff = (domainId: string): Promise<OperationView> =>
  askedAfter(domainId, (host) => simulator(`hosts/${host}/guestPowerOff`, { domainId }));
const restartHost = (instanceId: string): Promise<OperationView> =>
  askedAfter(instanceId, async (host) => {
    await simulator(`hosts/${host}/crash`);
    await simulator(`hosts/${host}/heal`);
  });

const rootsKept = new Map<string, string>();
async function destroyedWithoutRoot(name: string): Promise<{ id: string }> {
  const { id } = await instance(name, { rootVolume: { keepOnDelete: true } });
  const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${id}`);
  rootsKept.set(id, String(rootVolumeId));
  await tenant.done('DELETE', `/v1/instances/${id}`);
  return { id };
}

/** A network with a tag, on a wire of its own. */
async function tagged(name: string): Promise<Record<string, unknown>> {
  const { id } = await make(admin, 'physical-networks', wire(name));
  return { name, zoneId: cloud.zone.id, type: 'vlan', physicalNetworkId: id, projectId: rootProject };
}

/** Ways of actions that those above do not take. */
const variants: Subject[] = [
  {
    type: 'network.create',
    variant: 'on a wire',
    operator: true,
    prepare: creation('networks', tagged),
    clean: removeByOperator('networks'),
    keeps: true,
    of: ['networks.make'],
  },
  {
    type: 'host.failover',
    variant: 'of one with a BMC',
    operator: true,
    async prepare() {
      const { id } = await powered();
      await fail(id);
      return { targetId: id, method: 'POST', path: `/v1/hosts/${id}/actions/failover`, body: {} };
    },
    async again(id) {
      await returned(id);
      await (await knownHost(id)).connected();
      await fail(id);
    },
    clean: removeHost,
    of: ['hosts.cutPower'],
  },
  {
    type: 'host.reinstate',
    variant: 'of one that is off',
    operator: true,
    async prepare() {
      const { id } = await powered();
      await fail(id);
      await (await knownHost(id)).done('failover');
      return { targetId: id, method: 'POST', path: `/v1/hosts/${id}/actions/reinstate`, body: {} };
    },
    async again(id) {
      const one = await knownHost(id);
      await one.connected();
      await setPower(address.simulatorUrl, one.name, false);
      await fail(id);
      await one.done('failover');
    },
    clean: removeHost,
    of: ['hosts.lookAtPower', 'hosts.wake'],
  },
  {
    type: 'host.maintain',
    variant: 'that waits for a person',
    operator: true,
    async prepare() {
      const { id } = await host();
      return { targetId: id, method: 'POST', path: '', ask: () => maintainAndGoOn(id) };
    },
    again: asItWas,
    clean: removeByOperator('hosts'),
    of: ['people.wait'],
  },
  {
    type: 'host.delete',
    variant: 'of one that is dead',
    operator: true,
    async prepare() {
      const { id } = await hostThatIsDead();
      return { targetId: id, method: 'DELETE', path: `/v1/hosts/${id}?${force}` };
    },
    async clean(id) {
      const { items } = await admin.call<{ items: unknown[] }>(
        'GET',
        `/v1/hosts?filter=${encodeURIComponent(`id = "${id}"`)}`,
      );
      if (items.length > 0) await admin.done('DELETE', `/v1/hosts/${id}?${force}`);
    },
    of: ['hosts.declareDead', 'hosts.freeGuests', 'hosts.clean'],
  },
  {
    type: 'instance.create',
    variant: 'that is not started, of an image that no pool has yet',
    prepare: creation('instances', async (name) =>
      instanceBody(cloud, name, { startOnCreate: false, source: { imageId: await uncachedImage(name) } }),
    ),
    clean: removeInstance,
    keeps: true,
    of: ['images.cache', 'placement.vacate'],
  },
  {
    type: 'instance.settle',
    variant: 'of a guest that is off',
    operator: true,
    async prepare(name) {
      const { id } = await instance(name);
      return { targetId: id, method: 'POST', path: '', ask: () => powerOff(id) };
    },
    clean: removeInstance,
    async movesOn(id) {
      while ((await tenant.call('GET', `/v1/instances/${id}`)).state !== 'stopped')
        await new Promise((resolve) => setTimeout(resolve, 100));
      await startAgain(id);
    },
    again: startAgain,
    of: ['hypervisor.turnOff', 'networkInterfaces.unbind', 'placement.release', 'instances.becomeStopped'],
  },
  {
    type: 'instance.settle',
    variant: 'of a guest that ended with its host, and is to run',
    operator: true,
    async prepare(name) {
      await restartsLost(false);
      const one = await newHost(spare++);
      const id = await one.deploy(name);
      homes.set(id, one.id);
      return { targetId: id, method: 'POST', path: '', ask: () => restartHost(id) };
    },
    clean: leaveHome,
    async movesOn(id) {
      while ((await tenant.call('GET', `/v1/instances/${id}`)).state !== 'lost')
        await new Promise((resolve) => setTimeout(resolve, 100));
      await goHome(id);
    },
    again: goHome,
    of: ['instances.becomeLost'],
  },
  {
    type: 'instance.delete',
    variant: 'of one that is led to',
    prepare: async (name) => {
      const networkInterfaceId = await nicInVpc(name);
      await leadTo(name, networkInterfaceId);
      const { instanceId } = await tenant.call('GET', `/v1/network-interfaces/${networkInterfaceId}`);
      return { targetId: String(instanceId), method: 'DELETE', path: `/v1/instances/${String(instanceId)}` };
    },
    clean: removeInstance,
    of: waySteps,
  },
  {
    type: 'networkInterface.update',
    variant: 'of its name',
    prepare: async (name) => onAttached('update', { dnsName: `name-${spare++}` })(name),
    clean: removeNic,
    of: ['networkInterfaceRecords.takeName', 'networkInterfaces.rewrite'],
  },
  {
    type: 'networkInterface.delete',
    variant: 'of one that is led to',
    prepare: deletion('network-interfaces', async (name) => {
      const { subnetId } = await tenant.call('GET', `/v1/network-interfaces/${await nicInVpc(name)}`);
      const one = await nic(name, { subnetId });
      await leadTo(name, one.id);
      return one;
    }),
    clean: removeIfThere('network-interfaces'),
    of: waySteps,
  },
  {
    type: 'instance.delete',
    variant: 'of one with an interface that was made alone',
    prepare: async (name) => {
      const { id } = await instance(name);
      const { id: alone } = await nic(name);
      await tenant.done('POST', `/v1/network-interfaces/${alone}/actions/attach`, { instanceId: id });
      aloneOf.set(id, alone);
      return { targetId: id, method: 'DELETE', path: `/v1/instances/${id}` };
    },
    async clean(id) {
      await removeInstance(id);
      await tenant.done('DELETE', `/v1/network-interfaces/${aloneOf.get(id)}`);
    },
    of: ['networkInterfaceRecords.attached', 'networkInterfaces.unbindOne', 'networkInterfaceRecords.freeSlot'],
  },
  {
    type: 'instance.expunge',
    variant: 'whose root volume stays',
    prepare: async (name) => {
      const { id } = await destroyedWithoutRoot(name);
      return { targetId: id, method: 'POST', path: `/v1/instances/${id}/actions/expunge`, body: {} };
    },
    async clean(id) {
      const left = await tenant.call('GET', `/v1/instances/${id}`).catch(() => null);
      if (left) await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
      await removeVolume(String(rootsKept.get(id)));
    },
    of: ['volumeRecords.keepRoot'],
  },
  {
    type: 'volume.create',
    variant: 'of an image that no pool has yet',
    prepare: creation('volumes', async (name) => ({
      name,
      zoneId: cloud.zone.id,
      volumeTypeId: cloud.volumeTypes[2]?.id,
      source: { imageId: await uncachedImage(name) },
    })),
    clean: removeVolume,
    keeps: true,
    of: ['volumeRecords.locate', 'images.cache', 'volumes.makeOne'],
  },
  {
    type: 'volume.resize',
    variant: 'of one that a running instance has',
    prepare: onVolume('resize', async () => ({ sizeGib: 4 }), attach),
    clean: detachAndRemove,
    of: ['volumes.growLive'],
  },
];

const rootInFiles = () => ({ rootVolume: { volumeTypeId: inFiles() } });
async function attachedInFiles(): Promise<string> {
  const { id } = await volume('snapshots', inFiles);
  await attach(id);
  return id;
}
const throwAway = (id: string): Promise<unknown> => tenant.done('DELETE', `/v1/volumes/${id}`);

/** The steps that are another driver's where the pool is one of files. */
const onFiles: Subject[] = [
  {
    type: 'storagePool.create',
    operator: true,
    prepare: creation('storage-pools', poolOfFiles),
    clean: removeByOperator('storage-pools'),
    of: ['storagePools.make', 'storagePools.connectHost'],
  },
  {
    type: 'storagePool.delete',
    operator: true,
    prepare: deletion('storage-pools', (name) => make(admin, 'storage-pools', poolOfFiles(name))),
    clean: removeIfThere('storage-pools'),
    of: ['storagePools.remove', 'storagePools.disconnectHost'],
  },
  {
    type: 'instance.create',
    prepare: creation('instances', async (name) =>
      instanceBody(cloud, name, { ...rootInFiles(), source: { imageId: await uncachedImage(name) } }),
    ),
    clean: removeInstance,
    keeps: true,
    of: ['images.cache', 'volumes.make'],
  },
  {
    type: 'instance.migrate',
    prepare: (name: string) => onInstance('migrate', {}, undefined, rootInFiles())(name),
    again: asItWas,
    clean: removeInstance,
    of: ['hypervisor.migrate'],
  },
  {
    type: 'volume.resize',
    prepare: onVolume('resize', async () => ({ sizeGib: 4 }), undefined, inFiles),
    clean: removeVolume,
    of: ['volumes.grow'],
  },
  {
    type: 'volume.revert',
    prepare: onVolume('revert', async (id) => ({ snapshotId: (await snapshotOf(id)).id }), undefined, inFiles),
    again: asItWas,
    clean: removeWithSnapshots,
    of: ['volumes.takeSafetySnapshot', 'volumes.rollBack', 'volumes.dropSafetySnapshot'],
  },
  {
    type: 'volume.delete',
    prepare: onVolume('delete', undefined, undefined, inFiles),
    clean: removeVolume,
    of: ['volumes.trash'],
  },
  {
    type: 'volume.recover',
    prepare: onVolume('recover', undefined, throwAway, inFiles),
    clean: removeVolume,
    of: ['volumes.restore'],
  },
  {
    type: 'volume.expunge',
    prepare: onVolume('expunge', undefined, throwAway, inFiles),
    clean: gone,
    of: ['volumes.expunge'],
  },
  {
    type: 'snapshot.create',
    prepare: creation('snapshots', async (name) => ({ name, volumeId: (await volume('snapshots', inFiles)).id })),
    clean: remove('snapshots'),
    keeps: true,
    of: ['snapshots.take'],
  },
  {
    type: 'snapshot.delete',
    async prepare() {
      const { id } = await snapshotOf((await volume('snapshots', inFiles)).id);
      return { targetId: id, method: 'DELETE', path: `/v1/snapshots/${id}` };
    },
    clean: gone,
    of: ['snapshots.remove'],
  },
  {
    type: 'volume.create',
    prepare: creation('volumes', async (name) => ({
      name,
      zoneId: cloud.zone.id,
      volumeTypeId: inFiles(),
      source: { snapshotId: (await snapshotOf((await volume('snapshots', inFiles)).id)).id },
    })),
    clean: removeVolume,
    keeps: true,
    of: ['volumes.makeOne'],
  },
  {
    type: 'volume.attach',
    prepare: onVolume('attach', async () => ({ instanceId: (await instance('attach')).id }), undefined, inFiles),
    clean: detachAndRemove,
    of: ['volumes.plug'],
  },
  {
    type: 'volume.resize',
    variant: 'of one that a running instance has, in a pool of files',
    prepare: onVolume('resize', async () => ({ sizeGib: 4 }), attach, inFiles),
    clean: detachAndRemove,
    of: ['volumes.growLive'],
  },
  {
    type: 'snapshot.create',
    variant: 'of a volume that a running instance has, in a pool of files',
    prepare: creation('snapshots', async (name) => ({ name, volumeId: await attachedInFiles() })),
    clean: remove('snapshots'),
    keeps: true,
    of: ['snapshots.take'],
  },
  {
    type: 'snapshot.delete',
    variant: 'of a volume that a running instance has, in a pool of files',
    async prepare() {
      const { id } = await snapshotOf(await attachedInFiles());
      return { targetId: id, method: 'DELETE', path: `/v1/snapshots/${id}` };
    },
    clean: gone,
    of: ['snapshots.remove'],
  },
].map((subject) => ({ variant: 'in a pool of files', ...subject }));

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await instance('first')).id);
  await sharedVolume();
  outside = await newOutside(admin, cloud, 'first');
  further = await newOutside(admin, cloud, 'second');
  // With the first VPC OVN is told once how often gateway hosts look at each other.
  await sharedVpc();
  const { storageClass } = await make(admin, 'storage-pools', { ...poolOfFiles('files'), storageClass: 'proof' });
  filesTypeId = (await admin.call('POST', '/v1/volume-types', { name: 'files', storageClass, visibility: 'public' }))
    .id;
});

test('every action that is an operation has its place in this proof', () => {
  const known = new Set(subjects.map(({ type }) => type));
  const actions = allKinds.flatMap((kind) =>
    // Those whose steps are operations are proven in children.test.ts and cascade.test.ts.
    Object.entries(kind.actions).flatMap(([verb, { mode, on = 'resource' }]) =>
      mode === 'operation' && on === 'resource' ? [`${kind.name}.${verb}`] : [],
    ),
  );
  expect(actions.filter((type) => !known.has(type))).toEqual([]);
});

const counted = { cases: 0, seconds: 0 };

const seen = new Map<string, Set<string>>();
function see(type: string, steps: Iterable<string>): void {
  const known = seen.get(type) ?? new Set();
  seen.set(type, known);
  for (const step of steps) known.add(step);
}

describe('every step of every workflow, under every fault', () => {
  for (const subject of [...subjects, ...variants, ...onFiles])
    test(`${[subject.type, subject.variant].filter(Boolean).join(' ')} leaves the world as it was, or finishes`, async () => {
      const cases = casesOf(subject.type, subject.absent).filter(({ step }) => subject.of?.includes(step) ?? true);
      const wholly = subject.type.endsWith('.create') && !subject.keeps;
      let before: unknown;
      const started = performance.now();
      const verdicts = await runCases({ admin, tenant, databaseUrl: address.databaseUrl }, subject, cases, {
        async before() {
          before = await picture();
        },
        async after(turn) {
          expect(problemsOf(turn)).toEqual([]);
          const undone = turn.filter(({ expect: wanted }) => wanted === 'rolledBack');
          const ids = new Set(undone.map(({ targetId }) => targetId));
          if (subject.movesOn) await inBatches([...ids], 8, async (id) => subject.movesOn?.(id));
          expect((await wrong()).filter((text) => !subject.onPurpose?.test(text))).toEqual([]);
          // What went forward has changed as it should, and is checked against the records above.
          if (wholly || subject.movesOn || undone.length === 0) return;
          const parts = withParts(before, ids);
          expect(changes(about(before, parts), about(await picture(), parts))).toEqual([]);
        },
      });
      for (const { operation } of verdicts) see(subject.type, takenSteps(operation));
      const succeeded = verdicts.filter(({ expect: wanted }) => wanted === 'succeeded');
      // Of these nothing was tried again.
      const recorded = succeeded.find(({ fault }) => fault === 'twice');
      if (recorded) await recordFirst(address.temporalAddress, recorded.operation.id, workflowName(subject.type));
      const left = wholly || subject.keeps ? succeeded : verdicts;
      await inBatches([...new Set(left.map(({ targetId }) => targetId))], 8, (targetId) => subject.clean(targetId));
      if (wholly) expect(changes(before, await picture())).toEqual([]);
      expect(await wrong()).toEqual([]);
      const seconds = (performance.now() - started) / 1000;
      counted.cases += cases.length;
      counted.seconds += seconds;
      console.log(`\n${table(subject.type, verdicts)}\n${cost(cases.length, seconds)}`);
    }, 300_000);
  afterAll(() => console.log(`\nall of them: ${cost(counted.cases, counted.seconds)}`));
});

const problemsOf = (verdicts: Verdict[]): string[] =>
  verdicts.flatMap(({ step, fault, problem }) => (problem ? [`${step} ${fault}: ${problem}`] : []));

const cost = (cases: number, seconds: number): string =>
  `${cases} cases in ${seconds.toFixed(1)} s, ${(seconds / cases).toFixed(2)} s each`;

/** Of what is proven here; a child of a run is faulted as the operation that it is. */
test('the steps that runs were seen to take are those that their actions declare', () => {
  const declared = new Map([...seen.keys()].map((type) => [type, declaredSteps(type)] as const));
  for (const [type, steps] of declared) if (steps.has('child')) see(type, ['child']);
  expect(inOrder(seen)).toEqual(inOrder(declared));
  const recorded = recordedSteps();
  for (const [type, steps] of seen)
    expect([type, [...(recorded.get(workflowName(type)) ?? [])].filter((step) => !steps.has(step))]).toEqual([
      type,
      [],
    ]);
});

const inOrder = (steps: ReadonlyMap<string, ReadonlySet<string>>): unknown =>
  Object.fromEntries([...steps].map(([type, names]) => [type, [...names].sort()]));

/** The ids, and those of what refers to them: on real systems a port of an instance, or a snapshot of a volume, says its own id only. */
function withParts(whole: unknown, ids: Set<string>): Set<string> {
  const { records } = whole as { records: Record<string, { id?: string }[]> };
  const parts = Object.values(records)
    .flat()
    .flatMap((row) => (row.id && isNamedIn(JSON.stringify(row), ids) ? [row.id] : []));
  return new Set([...ids, ...parts]);
}

const uuids = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
const isNamedIn = (text: string, ids: Set<string>): boolean => (text.match(uuids) ?? []).some((id) => ids.has(id));

/** The parts of a picture that mention one of the ids, by where they stand. */
function about(whole: unknown, ids: Set<string>): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  const visit = (value: unknown, path: string): void => {
    if (value === null || typeof value !== 'object') return;
    for (const [key, inner] of Object.entries(value)) {
      const here = Array.isArray(value) ? `${path}[]` : `${path}.${key}`;
      // What only lists it among others, as a switch does its ports, is looked into: the others come and go.
      const own = Array.isArray(value) ? JSON.stringify(inner, (_, part) => (Array.isArray(part) ? null : part)) : key;
      if (!isNamedIn(own ?? '', ids)) visit(inner, here);
      else if (Array.isArray(value)) found[`${here} ${JSON.stringify(inner)}`] = true;
      else found[here] = inner;
    }
  };
  visit(whole, '');
  return found;
}
