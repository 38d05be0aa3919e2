/** The steps that workflows are made of, by area, with where each runs and how long it may take. */
import type { guestSnapshots as GuestSnapshots, guestVolumes as GuestVolumes } from '../activities/compute/disks.ts';
import type { hypervisor as Hypervisor } from '../activities/compute/hypervisor.ts';
import type { instances as Instances } from '../activities/compute/instance.ts';
import type { guestInterfaces as GuestInterfaces } from '../activities/compute/interfaces.ts';
import type { placement as Placement } from '../activities/compute/placement.ts';
import type { addressGroups as AddressGroups } from '../activities/network/addressGroup.ts';
import type { firewallPolicies as FirewallPolicies } from '../activities/network/firewallPolicy.ts';
import type { floatingIps as FloatingIps } from '../activities/network/floatingIp.ts';
import type { networkInterfaceRecords as NetworkInterfaceRecords } from '../activities/network/interfaceRecord.ts';
import type { listeners as Listeners, loadBalancers as LoadBalancers } from '../activities/network/loadBalancer.ts';
import type { networks as Networks } from '../activities/network/network.ts';
import type { networkInterfaces as NetworkInterfaces } from '../activities/network/networkInterface.ts';
import type { networkRecords as NetworkRecords } from '../activities/network/networkRecords.ts';
import type { physicalNetworks as PhysicalNetworks } from '../activities/network/physicalNetwork.ts';
import type { portForwards as PortForwards } from '../activities/network/portForward.ts';
import type { routeTables as RouteTables } from '../activities/network/routeTable.ts';
import type { securityGroups as SecurityGroups } from '../activities/network/securityGroup.ts';
import type { subnets as Subnets } from '../activities/network/subnet.ts';
import type { targetGroups as TargetGroups } from '../activities/network/targetGroup.ts';
import type { vpcs as Vpcs } from '../activities/network/vpc.ts';
import type { waysIn as WaysIn } from '../activities/network/waysIn.ts';
import type { audits as Audits } from '../activities/platform/audit.ts';
import type { zones as Zones } from '../activities/platform/capacity.ts';
import type { cascades as Cascades } from '../activities/platform/cascade.ts';
import type { failover as Failover } from '../activities/platform/failover.ts';
import type { findings as Findings } from '../activities/platform/finding.ts';
import type { hosts as Hosts } from '../activities/platform/host.ts';
import type { hostCredentials as HostCredentials } from '../activities/platform/hostCredentials.ts';
import type { hostDiagnostics as HostDiagnostics } from '../activities/platform/hostDiagnostics.ts';
import type { hostMaintenance as HostMaintenance } from '../activities/platform/hostMaintenance.ts';
import type { hostPower as HostPower } from '../activities/platform/hostPower.ts';
import type { hostReboot as HostReboot } from '../activities/platform/hostReboot.ts';
import type { hostRemoval as HostRemoval } from '../activities/platform/hostRemoval.ts';
import type { hostSystems as HostSystems } from '../activities/platform/hostSystems.ts';
import type { maintenances as Maintenances } from '../activities/platform/maintenance.ts';
import type { people as People } from '../activities/platform/people.ts';
import type { rolling as Rolling } from '../activities/platform/rolling.ts';
import type { schedules as Schedules } from '../activities/platform/schedule.ts';
import type { strays as Strays } from '../activities/platform/strays.ts';
import type { backupStores as BackupStores } from '../activities/storage/backupStore.ts';
import type { images as Images } from '../activities/storage/image.ts';
import type { snapshots as Snapshots } from '../activities/storage/snapshot.ts';
import type { storageClusters as StorageClusters } from '../activities/storage/storageCluster.ts';
import type { storagePools as StoragePools } from '../activities/storage/storagePool.ts';
import type { volumeRecords as VolumeRecords, volumes as Volumes } from '../activities/storage/volume.ts';
import { stepsOf } from './saga.ts';

type Area<F extends (world: never) => unknown> = ReturnType<F>;

export const people = stepsOf<Area<typeof People>, 'people'>('people', 'record');
/** What it answers is what operations begin with, so it goes through the history. */
export const clusters = stepsOf<Area<typeof Rolling>, 'clusters'>('clusters', 'control', {
  planRebalance: { deadlineSeconds: 120 },
});
export const zones = stepsOf<Area<typeof Zones>, 'zones'>('zones', 'control');
export const cascades = stepsOf<Area<typeof Cascades>, 'cascades'>('cascades', 'record');
/** Asked for by runs of maintenance, and not by operations. */
export const maintenances = stepsOf<Area<typeof Maintenances>, 'maintenances'>('maintenances', 'control', {
  archive: { deadlineSeconds: 600 },
  power: { deadlineSeconds: 120 },
});
/** None is undone, and each may be done twice. Asked for by operations and by runs of maintenance. */
export const audits = stepsOf<Area<typeof Audits>, 'audits'>('audits', 'control', {
  hosts: { where: 'host', deadlineSeconds: 600 },
  pool: { where: 'host', deadlineSeconds: 600 },
  network: { deadlineSeconds: 600 },
});
/** What it answers is what an operation begins with, so it goes through the history. */
export const findings = stepsOf<Area<typeof Findings>, 'findings'>('findings', 'control');
export const schedules = stepsOf<Area<typeof Schedules>, 'schedules'>('schedules', 'control', {
  plan: { where: 'record' },
  write: { where: 'record' },
  expand: { where: 'record' },
  expire: { where: 'record' },
});
export const placement = stepsOf<Area<typeof Placement>, 'placement'>('placement', 'record');
export const instances = stepsOf<Area<typeof Instances>, 'instances'>('instances', 'record');
export const hypervisor = stepsOf<Area<typeof Hypervisor>, 'hypervisor'>('hypervisor', 'host', {
  shutDown: { deadlineSeconds: 660 },
  reboot: { deadlineSeconds: 120 },
  migrate: { deadlineSeconds: 6 * 3600 },
});
export const volumes = stepsOf<Area<typeof Volumes> & Area<typeof GuestVolumes>, 'volumes'>('volumes', 'host', {
  // In a pool of files layers may be joined meanwhile, which copies one into another, or large ones removed.
  make: { deadlineSeconds: 3600 },
  makeOne: { deadlineSeconds: 3600 },
  expunge: { deadlineSeconds: 3600 },
  takeSafetySnapshot: { deadlineSeconds: 3600 },
  rollBack: { deadlineSeconds: 3600 },
  dropSafetySnapshot: { deadlineSeconds: 3600 },
});
export const volumeRecords = stepsOf<Area<typeof VolumeRecords>, 'volumeRecords'>('volumeRecords', 'record');
export const snapshots = stepsOf<Area<typeof Snapshots> & Area<typeof GuestSnapshots>, 'snapshots'>(
  'snapshots',
  'host',
  {
    locate: { where: 'record' },
    describe: { where: 'record' },
    rejoin: { where: 'record' },
    take: { deadlineSeconds: 3600 },
    remove: { deadlineSeconds: 3600 },
  },
);
export const images = stepsOf<Area<typeof Images>, 'images'>('images', 'control', {
  publish: { deadlineSeconds: 3600 },
  describe: { where: 'record' },
  cache: { where: 'host', deadlineSeconds: 3600 },
});
export const storageClusters = stepsOf<Area<typeof StorageClusters>, 'storageClusters'>('storageClusters', 'host', {
  locate: { where: 'record' },
});
export const storagePools = stepsOf<Area<typeof StoragePools>, 'storagePools'>('storagePools', 'host', {
  locate: { where: 'record' },
  findStray: { where: 'record' },
  remove: { deadlineSeconds: 3600 },
  cleanCache: { deadlineSeconds: 3600 },
});
export const backupStores = stepsOf<Area<typeof BackupStores>, 'backupStores'>('backupStores', 'control', {
  forget: { where: 'record' },
});
export const networks = stepsOf<Area<typeof Networks>, 'networks'>('networks', 'control', {
  findStray: { where: 'record' },
});
export const physicalNetworks = stepsOf<Area<typeof PhysicalNetworks>, 'physicalNetworks'>('physicalNetworks', 'host', {
  locate: { where: 'record' },
  addCluster: { where: 'record' },
  dropCluster: { where: 'record' },
});
export const vpcs = stepsOf<Area<typeof Vpcs>, 'vpcs'>('vpcs', 'control', {
  chooseGateways: { where: 'record' },
  planCidrs: { where: 'record' },
  recordCidrs: { where: 'record' },
  takeUplink: { where: 'record' },
  proveUplinkUnused: { where: 'record' },
  dropUplink: { where: 'record' },
  recordGateways: { where: 'record' },
  recordType: { where: 'record' },
  contents: { where: 'record' },
  replaceGateways: { where: 'record' },
});
export const routeTables = stepsOf<Area<typeof RouteTables>, 'routeTables'>('routeTables', 'control', {
  recordRoutes: { where: 'record' },
});
export const floatingIps = stepsOf<Area<typeof FloatingIps>, 'floatingIps'>('floatingIps', 'control', {
  plan: { where: 'record' },
  record: { where: 'record' },
});
export const waysIn = stepsOf<Area<typeof WaysIn>, 'waysIn'>('waysIn', 'control', {
  find: { where: 'record' },
  forget: { where: 'record' },
});
export const portForwards = stepsOf<Area<typeof PortForwards>, 'portForwards'>('portForwards', 'control', {
  plan: { where: 'record' },
  record: { where: 'record' },
  recordAllowed: { where: 'record' },
});
export const targetGroups = stepsOf<Area<typeof TargetGroups>, 'targetGroups'>('targetGroups', 'control', {
  plan: { where: 'record' },
  record: { where: 'record' },
  freeProbes: { where: 'record' },
  release: { where: 'record' },
  proveUnused: { where: 'record' },
});
export const loadBalancers = stepsOf<Area<typeof LoadBalancers>, 'loadBalancers'>('loadBalancers', 'control', {
  contents: { where: 'record' },
});
export const listeners = stepsOf<Area<typeof Listeners>, 'listeners'>('listeners', 'control', {
  plan: { where: 'record' },
  record: { where: 'record' },
});
export const networkRecords = stepsOf<Area<typeof NetworkRecords>, 'networkRecords'>('networkRecords', 'record');
export const subnets = stepsOf<Area<typeof Subnets>, 'subnets'>('subnets', 'control', {
  recordOptions: { where: 'record' },
});
export const addressGroups = stepsOf<Area<typeof AddressGroups>, 'addressGroups'>('addressGroups', 'control', {
  recordEntries: { where: 'record' },
  proveUnused: { where: 'record' },
});
export const securityGroups = stepsOf<Area<typeof SecurityGroups>, 'securityGroups'>('securityGroups', 'control', {
  recordRules: { where: 'record' },
  proveUnused: { where: 'record' },
});
export const firewallPolicies = stepsOf<Area<typeof FirewallPolicies>, 'firewallPolicies'>(
  'firewallPolicies',
  'control',
  {
    recordRules: { where: 'record' },
    proveUnused: { where: 'record' },
  },
);
export const networkInterfaces = stepsOf<
  Area<typeof NetworkInterfaces> & Area<typeof GuestInterfaces>,
  'networkInterfaces'
>('networkInterfaces', 'control', {
  hotPlug: { where: 'host' },
  hotUnplug: { where: 'host' },
  setLink: { where: 'host' },
});
export const networkInterfaceRecords = stepsOf<Area<typeof NetworkInterfaceRecords>, 'networkInterfaceRecords'>(
  'networkInterfaceRecords',
  'record',
);
export const hosts = stepsOf<
  Area<typeof Hosts> &
    Area<typeof HostMaintenance> &
    Area<typeof HostPower> &
    Area<typeof HostCredentials> &
    Area<typeof HostDiagnostics> &
    Area<typeof HostReboot> &
    Area<typeof HostRemoval> &
    Area<typeof HostSystems> &
    Area<typeof Failover> &
    Area<typeof Strays>,
  'hosts'
>('hosts', 'host', {
  // Nothing has happened yet, and somebody waits: an address or key that is wrong does not get better.
  reach: { attempts: 2 },
  reachBmc: { where: 'control', attempts: 2 },
  install: { deadlineSeconds: 2100 },
  configure: { deadlineSeconds: 600 },
  installPackages: { deadlineSeconds: 1800 },
  installAgent: { deadlineSeconds: 300 },
  configureHypervisor: { deadlineSeconds: 120 },
  connectStorage: { deadlineSeconds: 300 },
  renewHypervisor: { deadlineSeconds: 120 },
  renewStorage: { deadlineSeconds: 300 },
  probe: { deadlineSeconds: 120 },
  enable: { where: 'record' },
  disable: { where: 'record' },
  declareDead: { where: 'record' },
  // As long as operations on its guests take to end.
  freeGuests: { deadlineSeconds: 600 },
  clean: { deadlineSeconds: 600 },
  uninstall: { deadlineSeconds: 1800 },
  forget: { where: 'record' },
  noteMaintenance: { where: 'record' },
  // What it answers is what operations begin with, so it goes through the history. As long as operations on its guests take to end.
  findLeaving: { where: 'control', deadlineSeconds: 1800 },
  reopen: { where: 'record' },
  proveDown: { where: 'control' },
  noteFailed: { where: 'record' },
  fence: { deadlineSeconds: 120 },
  noteFenced: { where: 'record' },
  // As findLeaving.
  findStranded: { where: 'control' },
  clearStrays: { deadlineSeconds: 600 },
  unfence: { deadlineSeconds: 120 },
  proveWritable: { deadlineSeconds: 120 },
  readmit: { where: 'record' },
  findReturning: { where: 'control' },
  // It gives up by itself, before that.
  reboot: { deadlineSeconds: 2400 },
  findStray: { where: 'record' },
  // BMCs are asked by whoever is free: a host that is off has nobody who carries a connection to it.
  makeCredentials: { where: 'record' },
  adoptCredentials: { where: 'record' },
  // What it answers is long, and goes through the history.
  collectDiagnostics: { where: 'control', deadlineSeconds: 120, attempts: 2 },
  checkPower: { where: 'control', attempts: 2 },
  switchPower: { where: 'control' },
  // As long as its operating system may take to shut down.
  awaitPower: { where: 'control', deadlineSeconds: 660 },
  cutPower: { where: 'control', deadlineSeconds: 120 },
  lookAtPower: { where: 'control' },
  // As long as it may take to be switched on and to boot, and to answer each time.
  wake: { where: 'control', deadlineSeconds: 1200, attempts: 3 },
});
