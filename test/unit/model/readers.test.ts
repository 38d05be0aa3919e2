/** Every field that callers may write, and every member that an action takes, does something: here stands where it is read. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Kind } from '../../../model/kind.ts';
import { allKinds } from '../../../model/kinds.ts';

/** By file, what it reads: `<kind>.<field>`, and `<kind>.<verb>(<member>)` of what an action takes. */
const readers: Record<string, string> = {
  'acceptance/authorize.ts':
    'domain.enabled zone.enabled instanceType.visibility volumeType.visibility image.visibility network.visibility routerType.visibility',
  'acceptance/caller.ts': 'account.domainId project.accountId user.accountId',
  'acceptance/dependents.ts': 'instance.deleteProtection volume.deleteProtection image.deleteProtection',
  'acceptance/quota.ts': 'quota.scopeKind quota.scopeId quota.counter quota.limit',
  'acceptance/tenancy/tenancy.ts': 'domain.parentId apiKey.userId roleBinding.targetId roleBinding.targetKind',
  'acceptance/platform/cluster.ts': 'cluster.podId pod.zoneId',
  'acceptance/platform/finding.ts': 'finding.ignore(until) finding.ignore(reason) finding.scan(id)',
  'workflows/platform/scanFinding.ts': 'finding.scan(scope)',
  'activities/platform/strays.ts': 'host.removeStray(instanceId)',
  'activities/network/network.ts': 'network.removeStray(kind) network.removeStray(id)',
  'acceptance/platform/host.ts':
    'host.clusterId host.delete(force) host.delete(confirmDead) host.failover(confirmDead)',
  'acceptance/platform/operation.ts': 'operation.runMany(action) operation.runMany(input) operation.runMany(targets)',
  'acceptance/platform/schedule.ts':
    'schedule.cron schedule.at schedule.timeZone schedule.action schedule.input schedule.targets schedule.retention schedule.enabled',
  'activities/platform/schedule.ts':
    'schedule.overlap schedule.windowSeconds schedule.endsWithWindow schedule.maxParallel',
  'acceptance/platform/setting.ts': 'setting.value',
  'acceptance/compute/keyPair.ts': 'keyPair.publicKey',
  'acceptance/network/certificate.ts': 'certificate.certificate certificate.chain certificate.privateKey',
  'acceptance/compute/instance.ts':
    'instance.zoneId instance.instanceTypeId instance.source instance.rootVolume instance.dataVolumes instance.networkInterfaces ' +
    'instance.requestedHostId instance.startOnCreate instance.userDataEncoding ' +
    'instanceType.vcpus instanceType.memoryMib ' +
    'instanceType.rootVolumeTypeId instanceType.rootSizeGib instanceType.enabled image.minMemoryMib image.firmware image.enabled ' +
    'image.architecture securityGroup.zoneId',
  'acceptance/network/physicalNetwork.ts':
    'physicalNetwork.zoneId physicalNetwork.clusterIds physicalNetwork.encapsulation physicalNetwork.bridge physicalNetwork.segmentRanges ' +
    'physicalNetwork.attachCluster(clusterId) physicalNetwork.detachCluster(clusterId)',
  'acceptance/network/network.ts':
    'network.type network.physicalNetworkId network.segmentId network.external network.setFirewallPolicy(firewallPolicyId) physicalNetwork.enabled physicalNetwork.mtu network.vpcId',
  'acceptance/network/floatingIp.ts':
    'floatingIp.networkId floatingIp.address floatingIp.attach(networkInterfaceId) floatingIp.move(networkInterfaceId) portForward.floatingIpId ' +
    'portForward.networkInterfaceId portForward.attach(networkInterfaceId) portForward.publicPorts portForward.targetPorts portForward.allowedCidrs portForward.addressGroupId',
  'database/floatingIps.ts': 'portForward.protocol',
  'activities/network/portForward.ts': 'portForward.setAllowed(allowedCidrs)',
  'acceptance/network/loadBalancer.ts':
    'targetGroup.vpcId targetGroup.port targetGroup.targets targetGroup.healthCheck targetGroup.protocol targetGroup.setTargets(targets) ' +
    'targetGroup.setOptions(healthCheck) loadBalancer.vpcId loadBalancer.scheme loadBalancer.floatingIpId loadBalancer.subnetId loadBalancer.address ' +
    'listener.loadBalancerId listener.protocol listener.ports listener.targetGroupId listener.enabled ' +
    'listener.setOptions(targetGroupId) listener.setOptions(enabled)',
  'activities/network/targetGroup.ts': 'targetGroup.algorithm targetGroup.setOptions(algorithm)',
  'database/addresses.ts': 'subnet.quarantineSeconds',
  'acceptance/network/vpc.ts':
    'vpc.zoneId vpc.cidrs vpc.routerTypeId vpc.uplink routerType.services routerType.enabled vpc.setCidrs(cidrs) vpc.changeType(routerTypeId) vpc.attachUplink(networkId) ' +
    'vpc.attachUplink(address) vpc.attachUplink(snat) vpc.attachUplink(isDefault) vpc.detachUplink(uplinkId) vpc.failOverGateway(hostId) ' +
    'routeTable.vpcId routeTable.routes routeTable.setRoutes(routes)',
  'database/vpcs.ts': 'routerType.redundant',
  'activities/network/subnet.ts':
    'subnet.setOptions(leaseSeconds) subnet.setOptions(dnsServers) subnet.setOptions(ntpServers) ' +
    'subnet.setOptions(searchDomains) subnet.setOptions(hostRoutes)',
  'acceptance/network/addressGroup.ts': 'addressGroup.family addressGroup.setEntries(entries)',
  'acceptance/network/firewallPolicy.ts':
    'firewallPolicy.defaults firewallPolicy.setRules(rules) firewallPolicy.setRules(defaults)',
  'acceptance/network/securityGroup.ts': 'securityGroup.setRules(rules)',
  'acceptance/network/subnet.ts':
    'network.zoneId subnet.networkId subnet.cidr subnet.gateway subnet.allocationRanges subnet.routeTableId subnet.ipv6Mode subnet.reservedRanges subnet.reservations',
  'acceptance/storage/image.ts':
    'image.zoneId image.backupStoreId backupStore.zoneId backupStore.enabled backupStore.readOnly',
  'acceptance/storage/size.ts': 'volumeType.minSizeGib volumeType.maxSizeGib volumeType.enabled volume.volumeTypeId',
  'acceptance/storage/snapshot.ts': 'snapshot.volumeId snapshot.quiesce',
  'acceptance/storage/storagePool.ts':
    'storagePool.type storagePool.clusterIds storagePool.storageClusterId storageCluster.enabled storageCluster.zoneId',
  'acceptance/storage/volume.ts':
    'volume.zoneId volume.sizeGib volume.source volume.attach(instanceId) volume.resize(sizeGib) volume.revert(snapshotId) volumeType.storageClass',
  'activities/compute/hypervisor.ts': 'cluster.migration instance.firmware',
  'acceptance/network/networkInterface.ts':
    'networkInterface.subnetId networkInterface.mac networkInterface.address networkInterface.subnet6Id networkInterface.address6 ' +
    'networkInterface.attach(instanceId) ' +
    'networkInterface.setAddresses(address) networkInterface.setAddresses(address6) networkInterface.setAddresses(secondaryAddresses)',
  'activities/network/networkInterface.ts':
    'network.portSecurity networkInterface.securityGroupIds networkInterface.portSecurity networkInterface.allowedPairs networkInterface.linkUp networkInterface.qos networkInterface.dnsName',
  'activities/network/addressGroup.ts': 'addressGroup.entries',
  'activities/network/firewallPolicy.ts': 'firewallPolicy.rules',
  'activities/network/securityGroup.ts': 'securityGroup.rules',
  'database/networks.ts':
    'subnet.dhcp subnet.leaseSeconds subnet.dnsServers subnet.ntpServers subnet.searchDomains subnet.hostRoutes zone.dnsServers zone.domainName network.dnsDomain',
  'activities/platform/failover.ts': 'host.failover(reason)',
  'database/fence.ts': 'cluster.ha instance.ha',
  'activities/platform/hostCredentials.ts': 'host.rotateCredentials(credentials)',
  'activities/platform/hostPower.ts': 'host.power(command) host.power(force)',
  'activities/platform/power/index.ts': 'host.bmc host.bmcPassword',
  'activities/platform/hostMaintenance.ts': 'host.enterMaintenance(instances) host.enterMaintenance(reason)',
  'workflows/platform/maintainHost.ts':
    'host.maintain(hook) host.maintain(byBmc) host.maintain(instances) host.maintain(moveBack) host.maintain(maxParallel) host.maintain(reason)',
  'workflows/platform/rollingMaintenanceCluster.ts':
    'cluster.rollingMaintenance(order) cluster.rollingMaintenance(batchSize) cluster.rollingMaintenance(stopOnFailure) ' +
    'cluster.rollingMaintenance(hook) cluster.rollingMaintenance(byBmc) cluster.rollingMaintenance(instances) cluster.rollingMaintenance(moveBack) ' +
    'cluster.rollingMaintenance(maxParallel) cluster.rollingMaintenance(reason) cluster.rollingMaintenance(notAfter) ' +
    'cluster.rollingMaintenance(secondsPerHost) cluster.rollingMaintenance(goesOn)',
  'workflows/platform/rebalanceCluster.ts':
    'cluster.rebalance(metric) cluster.rebalance(spreadPercent) cluster.rebalance(maxMoves) cluster.rebalance(maxParallel)',
  'acceptance/platform/controlNode.ts': 'controlNode.drain(force)',
  'workflows/platform/enterMaintenanceHost.ts': 'host.enterMaintenance(maxParallel)',
  'workflows/platform/exitMaintenanceHost.ts': 'host.exitMaintenance(maxParallel) host.exitMaintenance(moveBack)',
  'activities/platform/hostEntry.ts':
    'host.sshPort host.sshUser host.sshHostKey host.sshPrivateKey host.sshPassword host.address',
  'activities/platform/hostSystems.ts': 'host.underlayAddress',
  'activities/storage/cephAccess.ts':
    'storageCluster.monitors storageCluster.adminUser storageCluster.adminKey storageCluster.fsid',
  'activities/storage/image.ts': 'image.format image.checksum',
  'activities/storage/stores/s3.ts':
    'backupStore.endpoint backupStore.region backupStore.bucket backupStore.accessKey backupStore.secretKey',
  'activities/storage/drivers/rbd.ts':
    'storagePool.pool storagePool.deviceClass storagePool.replicas storagePool.failureDomain',
  'activities/storage/drivers/file.ts': 'storagePool.source',
  'activities/storage/storagePool.ts': 'storagePool.cleanCache(unusedForSeconds) storagePool.trashStray(volumeId)',
  'activities/storage/volume.ts': 'instance.guestHostname instance.userData',
  'database/pools.ts': 'volumeType.qos instance.keyPairIds',
  'database/rights.ts':
    'apiKey.expiresAt apiKey.allowedCidrs apiKey.permissions apiKey.enabled role.permissions roleBinding.subjectKind ' +
    'roleBinding.subjectId roleBinding.roleId roleBinding.expiresAt',
  'api/operations.ts': 'operation.retry(step) operation.skipStep(step)',
  'database/placement.ts': 'storagePool.hostId storagePool.storageClass storagePool.overprovision cluster.architecture',
  'prisma/migrations/20261126005152_uniqueness/migration.sql': 'user.userName',
  'prisma/migrations/20261126005330_placement_follows_records/migration.sql':
    'pod.enabled cluster.enabled cluster.vcpuOvercommit cluster.memoryOvercommit cluster.reservedHostCapacity host.enabled',
  'prisma/migrations/20261126051000_fields_that_act/migration.sql': 'storagePool.enabled',
  'prisma/migrations/20261127014620_failover/migration.sql': 'cluster.failoverReservePercent',
  'workflows/compute/stopInstance.ts': 'instance.stop(mode) instance.stop(timeoutSeconds)',
  'workflows/compute/rebootInstance.ts': 'instance.reboot(mode)',
  'workflows/compute/migrateInstance.ts': 'instance.migrate(hostId) instance.migrate(bandwidthBytesPerSec)',
  'workflows/platform/runManyOperation.ts': 'operation.runMany(maxParallel) operation.runMany(stopOnFailure)',
  'database/old.ts': 'snapshot.expiresAt',
};

/** Said for people, and so described: nothing follows from them. */
const forPeople = [
  'finding.note',
  'network.note',
  'pod.rack',
  'role.note',
  'user.displayName',
  'user.email',
  'user.type',
];

/** Kept in the audit entry, with all else that was asked. */
const forTheTrail = ['operation.skipStep(reason)'];

/** These ask the same of every kind that has the field, without its name. */
const ofAnyKind = [
  'acceptance/authorize.ts',
  'acceptance/dependents.ts',
  'workflows/platform/runManyOperation.ts',
  // Storage pools are all that it knows of.
  'activities/storage/drivers/rbd.ts',
];

/** One value is all there is so far: whatever is asked otherwise is refused. */
const onlyValue = ['backupStore.driver', 'cluster.hypervisor', 'image.type', 'storageCluster.driver'];

const named = (list: string): string[] => list.split(' ');

const writable = allKinds.flatMap((kind) => [
  ...Object.entries(kind.fields)
    .filter(([, { set }]) => set !== 'system')
    .map(([name]) => `${kind.name}.${name}`),
  ...Object.entries(kind.actions).flatMap(([verb, { input, on }]) =>
    // The same of every kind: acceptance/cascade.ts reads both.
    on === 'delete'
      ? []
      : Object.keys((input as { properties?: object } | undefined)?.properties ?? {}).map(
          (member) => `${kind.name}.${verb}(${member})`,
        ),
  ),
]);

const fieldOf = (name: string) => {
  const [kindName, field = ''] = name.split('.');
  const kind = allKinds.find((one) => one.name === kindName) as Kind;
  return kind.fields[field];
};

test('every writable field and every member of an action is read somewhere, is for people, or has one value', () => {
  const told = [...Object.values(readers).flatMap(named), ...forPeople, ...forTheTrail, ...onlyValue];
  expect([...told].sort()).toEqual([...writable].sort());
});

describe('what is said to read a field mentions it, outside of comments', () => {
  for (const [file, list] of Object.entries(readers))
    test(file, () => {
      expect(file).not.toMatch(/^(model|test|lab|cli|docs|generated|scripts)\//);
      const source = readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/^\s*(\/\/|--).*$/gm, '');
      for (const name of named(list)) {
        const [kind = '', ...rest] = name.split('.');
        const word = rest.join('.').replace(/^\w+\((\w+)\)$/, '$1');
        if (!ofAnyKind.includes(file)) expect([name, new RegExp(`\\b${kind}`).test(source)]).toEqual([name, true]);
        expect([name, new RegExp(`\\b${word}\\b`).test(source)]).toEqual([name, true]);
      }
    });
});

test('what is for people says so, and what has one value has no second', () => {
  for (const name of forPeople)
    expect([name, fieldOf(name)?.description]).toEqual([name, expect.stringMatching(/^For people/)]);
  for (const name of onlyValue)
    expect([name, (fieldOf(name)?.schema as { enum?: string[] } | undefined)?.enum]).toEqual([
      name,
      [expect.any(String)],
    ]);
});
