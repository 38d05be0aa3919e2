/**
 * Records what every workflow does, for the proof that changed workflows still run what an older version has begun:
 * `node scripts/record-histories.ts` writes test/history/*.json from a simulated cloud; with names of files behind it, such as
 * `stopInstance`, those alone.
 *
 * A workflow that is new is recorded by its proof, `test/rollback/rollback.test.ts`. Record anew only what a change breaks on purpose, in an
 * installation where nothing of the old version runs any more.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Connection, Client as TemporalClient } from '@temporalio/client';
import pg from 'pg';
import type { Api, OperationView, Resource } from '../lab/api.ts';
import { type Cloud, instanceBody, make } from '../lab/provision.ts';
import { smallRawDisk } from '../lab/underlay.ts';
import { maintenanceId, maintenanceNames } from '../model/platform/maintenance.ts';
import { workflowName } from '../temporal/run.ts';
import { type CloudAddress, joinCloud, startSimulatedCloud } from '../test/support/cloud.ts';
import { histories, record } from '../test/support/history.ts';
import { hold } from '../test/support/hold.ts';
import { triggered } from '../test/support/maintenance.ts';
import { newOutside } from '../test/support/outside.ts';
import { setRules } from '../test/support/rollback.ts';
import { setSetting } from '../test/support/settings.ts';
import { byHand } from '../test/support/simulated.ts';

/** Names of files by the operation whose history they hold. */
type Recorded = Map<string, string>;

/** A run of a Temporal Schedule, by the name of its workflow. */
async function scheduled(temporal: TemporalClient, scheduleId: string, recorded: Recorded): Promise<void> {
  const { workflowId } = await triggered(temporal, scheduleId);
  recorded.set(workflowId, (await temporal.workflow.getHandle(workflowId).describe()).type);
}

/** All maintenance once; some of it finds something to do. */
async function allMaintenance(admin: Api, cloud: Cloud, temporal: TemporalClient, recorded: Recorded): Promise<void> {
  const { tenant } = cloud;
  const at = { zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 };
  const { id } = await make(tenant, 'volumes', { name: 'overdue', ...at });
  const { id: volumeId } = await make(tenant, 'volumes', { name: 'kept', ...at });
  const expiresAt = new Date(Date.now() + 2_000).toISOString();
  const snapshot = await make(tenant, 'snapshots', { name: 'overdue', volumeId, expiresAt });
  await tenant.done('DELETE', `/v1/volumes/${id}`);
  const { items } = await admin.call<{ items: { id: string }[] }>(
    'GET',
    `/v1/settings?filter=${encodeURIComponent('name = "instance.recoveryWindowSeconds"')}`,
  );
  await admin.call('PATCH', `/v1/settings/${items[0]?.id}`, { value: 0 });
  while (Date.now() < Date.parse(expiresAt)) await new Promise((resolve) => setTimeout(resolve, 100));
  for (const name of maintenanceNames) await scheduled(temporal, maintenanceId(name), recorded);
  await admin.call('POST', `/v1/settings/${items[0]?.id}/actions/reset`, {});
  if (await tenant.call('GET', `/v1/snapshots/${snapshot.id}`).catch(() => null))
    throw new Error('what has expired is still there');
  await tenant.done('DELETE', `/v1/volumes/${volumeId}?cascade=true&expunge=true`);
}

/** Every action once; what provisioning has done is not done again. */
async function everyAction(
  admin: Api,
  cloud: Cloud,
  address: CloudAddress,
  temporal: TemporalClient,
  recorded: Recorded,
): Promise<void> {
  const { tenant } = cloud;
  const act = (plural: string, id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
    tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, body);
  const remove = (api: Api, plural: string, id: string): Promise<OperationView> =>
    api.done('DELETE', `/v1/${plural}/${id}`);
  const zoneId = cloud.zone.id;
  const rules = [{ direction: 'in', protocol: 'tcp', fromPort: 22 }];

  const { id: instanceId } = await make(
    tenant,
    'instances',
    instanceBody(cloud, 'recorded', { dataVolumes: [{ sizeGib: 1 }] }),
  );
  await act('instances', instanceId, 'migrate');
  await act('instances', instanceId, 'reboot', { mode: 'force' });
  await act('instances', instanceId, 'stop', { timeoutSeconds: 5 });
  await act('instances', instanceId, 'start');
  const { hostId } = await admin.call('GET', `/v1/instances/${instanceId}`);
  const { name: hostName } = await admin.call('GET', `/v1/hosts/${String(hostId)}`);
  const body = JSON.stringify({ domainId: instanceId });
  await fetch(`${address.simulatorUrl}/_sim/hosts/${hostName}/guestPowerOff`, { method: 'POST', body });
  while ((await tenant.call('GET', `/v1/instances/${instanceId}`)).state !== 'stopped');
  await act('instances', instanceId, 'start');

  const { id: volumeId } = await make(tenant, 'volumes', {
    name: 'recorded',
    zoneId,
    volumeTypeId: cloud.volumeTypes[0]?.id,
    sizeGib: 1,
  });
  await act('volumes', volumeId, 'attach', { instanceId });
  await act('volumes', volumeId, 'resize', { sizeGib: 2 });
  await act('volumes', volumeId, 'detach');
  const { id: snapshotId } = await make(tenant, 'snapshots', { name: 'recorded', volumeId });
  await act('volumes', volumeId, 'revert', { snapshotId });
  await remove(tenant, 'snapshots', snapshotId);
  await remove(tenant, 'volumes', volumeId);
  await act('volumes', volumeId, 'recover');
  await remove(tenant, 'volumes', volumeId);
  await act('volumes', volumeId, 'expunge');

  const { id: plannedId } = await make(tenant, 'volumes', {
    name: 'planned',
    zoneId,
    volumeTypeId: cloud.volumeTypes[0]?.id,
    sizeGib: 1,
  });
  const plan = await make(tenant, 'schedules', {
    name: 'recorded',
    cron: '0 0 1 1 *',
    action: 'snapshot.create',
    targets: { ids: [plannedId] },
  });
  await tenant.done('PATCH', `/v1/schedules/${plan.id}`, { retention: { keepLast: 1 } });
  await scheduled(temporal, `schedule-${plan.id}`, recorded);
  // The second finds one to let go of.
  const kept = await act('schedules', plan.id, 'runNow');
  recorded.set(kept.id, 'runNowSchedule');
  await remove(tenant, 'schedules', plan.id);
  await tenant.done('DELETE', `/v1/volumes/${plannedId}?cascade=true&expunge=true`);

  const { id: manyId } = await make(tenant, 'instances', instanceBody(cloud, 'one of many'));
  const many = { action: 'instance.reboot', input: { mode: 'force' }, targets: { ids: [manyId] } };
  await tenant.done('POST', '/v1/operations/actions/runMany', many);
  await tenant.done('DELETE', `/v1/instances/${manyId}?expunge=true`);

  await act('networks', cloud.network.id, 'repair');
  await remove(tenant, 'instances', instanceId);
  await act('instances', instanceId, 'recover');
  await remove(tenant, 'instances', instanceId);
  await act('instances', instanceId, 'expunge');

  const { id: securityGroupId } = await make(tenant, 'security-groups', { name: 'recorded', zoneId, rules });
  await act('security-groups', securityGroupId, 'setRules', { rules: [{ direction: 'in', protocol: 'icmp' }] });
  await remove(tenant, 'security-groups', securityGroupId);
  const entries = [{ cidr: '10.0.0.0/8' }];
  const { id: addressGroupId } = await make(tenant, 'address-groups', { name: 'recorded', family: 4, entries });
  await act('address-groups', addressGroupId, 'setEntries', { entries: [] });
  await act('address-groups', addressGroupId, 'repair');
  await remove(tenant, 'address-groups', addressGroupId);
  const { id: interfaceId } = await make(tenant, 'network-interfaces', {
    name: 'recorded',
    subnetId: cloud.subnet.id,
  });
  const { id: pluggedId } = await make(tenant, 'instances', instanceBody(cloud, 'plugged'));
  await act('network-interfaces', interfaceId, 'attach', { instanceId: pluggedId });
  const unplugging = await tenant.call<OperationView>('PATCH', `/v1/network-interfaces/${interfaceId}`, {
    linkUp: false,
  });
  await tenant.settled(unplugging.id);
  await act('network-interfaces', interfaceId, 'setAddresses', { secondaryAddresses: ['10.77.99.200'] });
  await act('network-interfaces', interfaceId, 'repair');
  await act('network-interfaces', interfaceId, 'detach');
  await act('network-interfaces', interfaceId, 'attach', { instanceId: pluggedId });
  await remove(tenant, 'instances', pluggedId);
  await remove(tenant, 'network-interfaces', interfaceId);
  const deny = { priority: 1, direction: 'in', action: 'deny', protocol: 'icmp' };
  const { id: firewallPolicyId } = await make(tenant, 'firewall-policies', { name: 'recorded', rules: [deny] });
  await act('firewall-policies', firewallPolicyId, 'setRules', { rules: [] });
  await act('firewall-policies', firewallPolicyId, 'repair');
  const { id: networkId } = await make(tenant, 'networks', { name: 'recorded', zoneId });
  const { id: subnetId } = await make(tenant, 'subnets', { name: 'recorded', networkId, cidr: '10.9.0.0/24' });
  await act('subnets', subnetId, 'setOptions', { leaseSeconds: 600 });
  await act('networks', networkId, 'setFirewallPolicy', { firewallPolicyId });
  await act('networks', networkId, 'setFirewallPolicy', {});
  await remove(tenant, 'firewall-policies', firewallPolicyId);
  await remove(tenant, 'subnets', subnetId);
  await remove(tenant, 'networks', networkId);

  const image = await tenant.call('POST', '/v1/images', { name: 'recorded', zoneId });
  const uploaded = await tenant.raw('PUT', `/v1/images/${image.id}/content`, smallRawDisk(), {
    'content-type': 'application/octet-stream',
  });
  await tenant.settled(((await uploaded.json()) as OperationView).id);
  await remove(tenant, 'images', image.id);

  await admin.done('POST', `/v1/hosts/${cloud.hosts[0]?.id}/actions/connect`, {});
  const { host } = new URL(address.simulatorUrl);
  const spare = await make(admin, 'hosts', {
    name: 'recorded',
    clusterId: cloud.cluster.id,
    address: `sim://${host}/host-${cloud.hosts.length}`,
  });
  await remove(admin, 'hosts', spare.id);
  const pool = await make(admin, 'storage-pools', {
    name: 'recorded',
    pool: 'recorded',
    storageClass: 'recorded',
    replicas: 1,
    failureDomain: 'osd',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cloud.cluster.id],
  });
  await admin.done('POST', `/v1/storage-pools/${pool.id}/actions/cleanCache`, {});
  await remove(admin, 'storage-pools', pool.id);
  await allRepairs(admin, cloud, address);
  const clusterId = cloud.cluster.id;
  const { id: wireId } = await make(admin, 'physical-networks', {
    name: 'recorded',
    zoneId,
    encapsulation: 'vlan',
    bridge: 'br-phy9',
    clusterIds: [clusterId],
  });
  await admin.done('POST', `/v1/physical-networks/${wireId}/actions/detachCluster`, { clusterId });
  await admin.done('POST', `/v1/physical-networks/${wireId}/actions/attachCluster`, { clusterId });
  await admin.done('POST', `/v1/physical-networks/${wireId}/actions/repair`, {});
  await remove(admin, 'physical-networks', wireId);
  const outside = await newOutside(admin, cloud, 'recorded');
  const further = await newOutside(admin, cloud, 'further');
  const vpc = await make(tenant, 'vpcs', {
    name: 'recorded',
    zoneId,
    cidrs: ['10.9.0.0/16'],
    uplink: { networkId: outside.network.id },
  });
  await act('vpcs', vpc.id, 'setCidrs', { cidrs: ['10.9.0.0/16', '10.10.0.0/16'] });
  await act('vpcs', vpc.id, 'attachUplink', { networkId: further.network.id, isDefault: false });
  const { uplinks } = await tenant.call<Resource & { uplinks: { id: string }[] }>('GET', `/v1/vpcs/${vpc.id}`);
  await act('vpcs', vpc.id, 'detachUplink', { uplinkId: uplinks[1]?.id });
  await admin.done('POST', `/v1/vpcs/${vpc.id}/actions/failOverGateway`, {});
  const plain = await admin.call('POST', '/v1/router-types', { name: 'recorded', redundant: false });
  await act('vpcs', vpc.id, 'changeType', { routerTypeId: plain.id });
  await act('vpcs', vpc.id, 'changeType');
  await admin.call('DELETE', `/v1/router-types/${plain.id}`);
  const { id: atRouterId } = await make(tenant, 'networks', { name: 'recorded', zoneId, vpcId: vpc.id });
  const inVpc = await make(tenant, 'subnets', {
    name: 'recorded',
    networkId: atRouterId,
    cidr: '10.9.1.0/24',
  });
  const [first, second] = await Promise.all(
    ['one', 'two'].map((name) => make(tenant, 'network-interfaces', { name, subnetId: inVpc.id })),
  );
  const held = await tenant.call('POST', '/v1/floating-ips', { name: 'recorded', networkId: outside.network.id });
  await act('floating-ips', held.id, 'attach', { networkInterfaceId: first?.id });
  await act('floating-ips', held.id, 'move', { networkInterfaceId: second?.id });
  await act('floating-ips', held.id, 'detach');
  const forward = await make(tenant, 'port-forwards', {
    name: 'recorded',
    floatingIpId: held.id,
    protocol: 'tcp',
    publicPorts: { from: 80 },
    networkInterfaceId: first?.id,
  });
  await act('port-forwards', forward.id, 'setAllowed', { allowedCidrs: ['192.0.2.0/24'] });
  await act('port-forwards', forward.id, 'detach');
  await act('port-forwards', forward.id, 'attach', { networkInterfaceId: first?.id });
  const targets = await tenant.call('POST', '/v1/target-groups', {
    name: 'recorded',
    vpcId: vpc.id,
    protocol: 'tcp',
    port: 80,
    targets: [{ networkInterfaceId: first?.id }],
  });
  const balancer = await make(tenant, 'load-balancers', {
    name: 'recorded',
    vpcId: vpc.id,
    scheme: 'internal',
    subnetId: inVpc.id,
  });
  const listener = await make(tenant, 'listeners', {
    name: 'recorded',
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: targets.id,
  });
  await act('listeners', listener.id, 'setOptions', { enabled: true });
  await act('target-groups', targets.id, 'setTargets', { targets: [{ networkInterfaceId: second?.id }] });
  await act('target-groups', targets.id, 'setOptions', { algorithm: 'sourceHash' });
  await act('load-balancers', balancer.id, 'repair');
  const routes = await make(tenant, 'route-tables', { name: 'recorded', vpcId: vpc.id });
  await act('route-tables', routes.id, 'setRoutes', { routes: [{ cidr: '10.8.0.0/16', blackhole: true }] });
  await act('vpcs', vpc.id, 'repair');
  await remove(tenant, 'listeners', listener.id);
  await remove(tenant, 'load-balancers', balancer.id);
  await remove(tenant, 'target-groups', targets.id);
  // Its interface goes first, and lets go of what leads there.
  for (const nic of [first, second]) await remove(tenant, 'network-interfaces', String(nic?.id));
  await remove(tenant, 'port-forwards', forward.id);
  await remove(tenant, 'floating-ips', held.id);
  await remove(tenant, 'route-tables', routes.id);
  await tenant.done('DELETE', `/v1/networks/${atRouterId}?cascade=true`);
  await remove(tenant, 'vpcs', vpc.id);
  await outside.remove();
  await further.remove();
  const store = await make(admin, 'backup-stores', { name: 'recorded', zoneId, ...address.s3, readOnly: true });
  await remove(admin, 'backup-stores', store.id);
  const cluster = await make(admin, 'storage-clusters', { name: 'recorded', zoneId, ...address.ceph });
  await remove(admin, 'storage-clusters', cluster.id);
}

/** The auditor, and what mends what it finds. */
async function allRepairs(admin: Api, cloud: Cloud, { simulatorUrl }: CloudAddress): Promise<void> {
  const stray = crypto.randomUUID();
  const { items } = await admin.call<{ items: { id: string; pool: string; type: string }[] }>(
    'GET',
    '/v1/storage-pools',
  );
  const pool = items.find(({ type }) => type === 'rbd');
  const place = { storageClusterId: cloud.storageCluster.id, pool: pool?.pool, image: `volume-${stray}` };
  const tags = { id: stray, kind: 'volume', operation: crypto.randomUUID(), revision: 1 };
  await byHand(simulatorUrl, 'host-0', 'rbd.ensureImage', { ...place, sizeGib: 1, tags });
  const putBack = await setSetting(admin, 'audit.graceSeconds', 0);
  for (const _ of [1, 2]) await admin.done('POST', '/v1/findings/actions/scan', {});
  await putBack();
  const { items: found } = await admin.call<{ items: { id: string }[] }>(
    'GET',
    `/v1/findings?filter=${encodeURIComponent(`resourceId = "${stray}"`)}`,
  );
  await admin.done('POST', `/v1/findings/${found[0]?.id}/actions/repair`, {});
  await byHand(simulatorUrl, 'host-0', 'rbd.ensureExpunged', place);
  await admin.done('POST', `/v1/hosts/${cloud.hosts[0]?.id}/actions/removeStray`, { instanceId: stray });
  await admin.done('POST', '/v1/networks/actions/removeStray', { kind: 'network', id: stray });
  await admin.done('POST', `/v1/security-groups/${cloud.securityGroup.id}/actions/repair`, {});
}

/** The other ways a workflow can end: undone, cancelled, and stuck before it was undone. */
async function otherEnds(admin: Api, cloud: Cloud, address: CloudAddress, recorded: Recorded): Promise<void> {
  const { tenant } = cloud;
  const ask = (targetId: string): Promise<OperationView> =>
    tenant.call('POST', '/v1/instances', instanceBody(cloud, targetId, { requestedId: targetId }));
  const ended = async (id: string, state: string): Promise<void> => {
    const operation = await admin.settled(id);
    if (operation.state !== state) throw new Error(`${operation.type} ${operation.state} instead of ${state}`);
  };

  const undone = crypto.randomUUID();
  await setRules(admin, [{ targetId: undone, step: 'hypervisor.boot', fault: 'failAfter', times: 1 }]);
  const rolledBack = await ask(undone);
  await ended(rolledBack.id, 'failed');
  recorded.set(rolledBack.id, 'createInstance-rolledBack');

  const hopeless = crypto.randomUUID();
  await setRules(admin, [{ targetId: hopeless, step: 'hypervisor.boot', fault: 'undoFails', times: 4 }]);
  const stuck = await ask(hopeless);
  await ended(stuck.id, 'stuck');
  await admin.call('POST', `/v1/operations/${stuck.id}/actions/retry`);
  for (let state = 'stuck'; state !== 'failed'; )
    ({ state } = await admin.call<OperationView>('GET', `/v1/operations/${stuck.id}`));
  await setRules(admin, []);
  recorded.set(stuck.id, 'createInstance-stuckThenRetried');

  const { id } = await make(tenant, 'instances', instanceBody(cloud, 'cancelled'));
  const letGo = await hold(address.simulatorUrl, 'domain.migrate');
  const moving = await tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/migrate`, {});
  for (let runs = false; !runs; ) {
    const { steps } = await admin.call<OperationView>('GET', `/v1/operations/${moving.id}`);
    runs = steps.some(({ name, state }) => name === 'hypervisor.migrate' && state === 'running');
  }
  await tenant.call('POST', `/v1/operations/${moving.id}/actions/cancel`);
  await ended(moving.id, 'cancelled');
  await letGo();
  recorded.set(moving.id, 'migrateInstance-cancelled');
}

/** The first success of each type. */
async function successes(databaseUrl: string, recorded: Recorded): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query<{ id: string; type: string }>(
    `SELECT DISTINCT ON (type) id, type FROM "operation" WHERE state = 'succeeded' ORDER BY type, "createdAt"`,
  );
  await client.end();
  const known = new Set(recorded.values());
  for (const { id, type } of rows) if (!known.has(workflowName(type))) recorded.set(id, workflowName(type));
}

const cloud = await startSimulatedCloud({ hosts: 3, faultInjection: true });
try {
  const connection = await Connection.connect({ address: cloud.stack.temporalAddress });
  const temporal = new TemporalClient({ connection, namespace: 'belay' });
  const { admin, cloud: made } = joinCloud(cloud.address);
  const recorded: Recorded = new Map();
  await everyAction(admin, made, cloud.address, temporal, recorded);
  await allMaintenance(admin, made, temporal, recorded);
  await otherEnds(admin, made, cloud.address, recorded);
  await successes(cloud.address.databaseUrl, recorded);
  const names = [...recorded.values()];
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : names;
  const unknown = wanted.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new Error(`nothing that was done here is recorded as ${unknown.join(', ')}`);
  if (wanted === names)
    for (const file of readdirSync(histories)) if (file.endsWith('.json')) rmSync(join(histories, file));
  for (const [workflowId, name] of recorded) {
    if (wanted.includes(name)) await record(temporal, workflowId, name);
  }
  await connection.close();
  console.log(`${wanted.length} histories in ${histories}`);
} finally {
  await cloud.stop();
}
process.exit(0);
