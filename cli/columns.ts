/** What a list shows of each kind when nobody says which columns; the id, the name and the state are always there. */
import type { Resource } from './document.ts';

const chosen: Record<string, readonly string[]> = {
  account: ['domainId', 'createdAt'],
  physicalNetwork: ['encapsulation', 'bridge', 'mtu', 'enabled'],
  routeTable: ['vpcId', 'isMain', 'createdAt'],
  floatingIp: ['address', 'networkInterfaceId', 'fixedAddress', 'vpcId'],
  portForward: ['floatingIpId', 'protocol', 'publicPorts.from', 'address', 'targetPorts.from'],
  targetGroup: ['vpcId', 'protocol', 'port', 'algorithm'],
  loadBalancer: ['vpcId', 'scheme', 'address'],
  listener: ['loadBalancerId', 'protocol', 'ports.from', 'targetGroupId', 'enabled'],
  routerType: ['redundant', 'services', 'enabled'],
  vpc: ['zoneId', 'cidrs', 'publicAddress', 'createdAt'],
  addressGroup: ['family', 'createdAt'],
  certificate: ['domains', 'notAfter'],
  apiKey: ['userId', 'accessKey', 'enabled', 'expiresAt', 'lastUsedAt'],
  auditEntry: ['createdAt', 'permission', 'outcome', 'code', 'resourceKind', 'resourceId', 'sourceAddress'],
  backupStore: ['driver', 'endpoint', 'bucket', 'enabled'],
  cluster: ['podId', 'hypervisor', 'architecture', 'vcpuOvercommit'],
  controlNode: ['role', 'address', 'startedAt', 'lastHeartbeatAt'],
  domain: ['parentId', 'enabled'],
  event: ['createdAt', 'type', 'severity', 'resourceKind', 'resourceId'],
  finding: ['class', 'severity', 'what', 'resourceKind', 'resourceId', 'lastSeenAt'],
  firewallPolicy: ['defaults', 'createdAt'],
  host: ['address', 'clusterId', 'enabled', 'health', 'vcpus', 'memoryMib'],
  image: ['format', 'sizeBytes', 'visibility', 'architecture', 'enabled'],
  instance: ['instanceTypeId', 'hostId', 'source.imageId', 'createdAt'],
  instanceType: ['vcpus', 'memoryMib', 'rootSizeGib', 'enabled'],
  keyPair: ['type', 'fingerprint'],
  network: ['zoneId', 'type', 'createdAt'],
  networkInterface: ['instanceId', 'subnetId', 'address', 'mac'],
  operation: ['type', 'targetId', 'progress', 'createdAt', 'endedAt'],
  operationType: ['targetKind', 'permission', 'lockMode', 'cancellable'],
  pod: ['zoneId', 'rack', 'enabled'],
  project: ['accountId', 'createdAt'],
  quota: ['scopeKind', 'scopeId', 'counter', 'limit'],
  role: ['boundAt', 'builtIn', 'description'],
  roleBinding: ['subjectKind', 'subjectId', 'roleId', 'targetKind', 'targetId'],
  schedule: ['action', 'cron', 'enabled', 'lastRun', 'nextRun'],
  securityGroup: ['zoneId', 'isDefault'],
  setting: ['value', 'defaultValue', 'unit', 'settingArea'],
  snapshot: ['volumeId', 'sizeGib', 'createdAt', 'expiresAt'],
  storageCluster: ['driver', 'monitors', 'enabled'],
  storagePool: ['type', 'storageClass', 'replicas', 'totalGib', 'enabled'],
  subnet: ['cidr', 'gateway', 'networkId', 'dhcp'],
  user: ['userName', 'type', 'email', 'accountId'],
  volume: ['sizeGib', 'volumeTypeId', 'instanceId', 'createdAt'],
  volumeType: ['storageClass', 'minSizeGib', 'maxSizeGib', 'enabled'],
  zone: ['enabled', 'domainName'],
};

/** Only what the kind really has, so that a column never is empty because it was renamed. */
export function columnsFor({ kind, properties }: Resource): string[] {
  const wanted = ['id', 'name', 'state', ...(chosen[kind] ?? ['createdAt'])];
  return wanted.filter((name) => Object.hasOwn(properties, name.split('.')[0] ?? name));
}
