/** Every step as workers register it: `<area>.<step>` and `<area>.<step>.undo`. */
import { guestSnapshots, guestVolumes } from './compute/disks.ts';
import { hypervisor } from './compute/hypervisor.ts';
import { instances } from './compute/instance.ts';
import { guestInterfaces } from './compute/interfaces.ts';
import { placement } from './compute/placement.ts';
import { addressGroups } from './network/addressGroup.ts';
import { firewallPolicies } from './network/firewallPolicy.ts';
import { floatingIps } from './network/floatingIp.ts';
import { networkInterfaceRecords } from './network/interfaceRecord.ts';
import { listeners, loadBalancers } from './network/loadBalancer.ts';
import { networks } from './network/network.ts';
import { networkInterfaces } from './network/networkInterface.ts';
import { networkRecords } from './network/networkRecords.ts';
import { physicalNetworks } from './network/physicalNetwork.ts';
import { portForwards } from './network/portForward.ts';
import { routeTables } from './network/routeTable.ts';
import { securityGroups } from './network/securityGroup.ts';
import { subnets } from './network/subnet.ts';
import { targetGroups } from './network/targetGroup.ts';
import { vpcs } from './network/vpc.ts';
import { waysIn } from './network/waysIn.ts';
import { audits } from './platform/audit.ts';
import { zones } from './platform/capacity.ts';
import { cascades } from './platform/cascade.ts';
import { failover } from './platform/failover.ts';
import { findings } from './platform/finding.ts';
import { hosts } from './platform/host.ts';
import { hostCredentials } from './platform/hostCredentials.ts';
import { hostDiagnostics } from './platform/hostDiagnostics.ts';
import { hostMaintenance } from './platform/hostMaintenance.ts';
import { hostPower } from './platform/hostPower.ts';
import { hostReboot } from './platform/hostReboot.ts';
import { hostRemoval } from './platform/hostRemoval.ts';
import { hostSystems } from './platform/hostSystems.ts';
import { maintenances } from './platform/maintenance.ts';
import { operations } from './platform/operation.ts';
import { people } from './platform/people.ts';
import { rolling } from './platform/rolling.ts';
import { schedules } from './platform/schedule.ts';
import { strays } from './platform/strays.ts';
import type { StepContext, StepPair } from './step.ts';
import { backupStores } from './storage/backupStore.ts';
import { images } from './storage/image.ts';
import { snapshots } from './storage/snapshot.ts';
import { storageClusters } from './storage/storageCluster.ts';
import { storagePools } from './storage/storagePool.ts';
import { volumeRecords, volumes } from './storage/volume.ts';
import type { World } from './world.ts';

export const areas = {
  operations,
  people,
  cascades,
  maintenances,
  audits,
  findings,
  schedules,
  clusters: rolling,
  zones,
  placement,
  instances,
  hypervisor,
  volumes: (world: World) => ({ ...volumes(world), ...guestVolumes(world) }),
  volumeRecords,
  snapshots: (world: World) => ({ ...snapshots(world), ...guestSnapshots(world) }),
  images,
  storageClusters,
  storagePools,
  backupStores,
  physicalNetworks,
  vpcs,
  routeTables,
  floatingIps,
  portForwards,
  targetGroups,
  loadBalancers,
  listeners,
  waysIn,
  networks,
  networkRecords,
  subnets,
  addressGroups,
  securityGroups,
  firewallPolicies,
  networkInterfaces: (world: World) => ({ ...networkInterfaces(world), ...guestInterfaces(world) }),
  networkInterfaceRecords,
  hosts: (world: World) => ({
    ...hosts(world),
    ...hostSystems(world),
    ...hostRemoval(world),
    ...hostMaintenance(world),
    ...hostPower(world),
    ...hostCredentials(world),
    ...hostDiagnostics(world),
    ...hostReboot(world),
    ...failover(world),
    ...strays(world),
  }),
};

export type Activity = (input: unknown, context: StepContext) => Promise<unknown>;

/** All activities of one world. A step without an undo gets one that does nothing, so that a saga need not know. */
export function activitiesFor(world: World): Record<string, Activity> {
  const entries = Object.entries(areas).flatMap(([area, steps]) =>
    Object.entries(steps(world) as Record<string, StepPair<unknown, unknown>>).flatMap(([name, { do: act, undo }]) => [
      [`${area}.${name}`, act] as const,
      [`${area}.${name}.undo`, undo ?? (async () => {})] as const,
    ]),
  );
  return Object.fromEntries(entries);
}
