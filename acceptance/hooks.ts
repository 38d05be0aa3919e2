/** What single actions add to the general way of a change. An action that is not here needs nothing of its own. */

import { cascadeOf } from './cascade.ts';
import type { Hook, Hooks } from './change.ts';
import { instanceHooks } from './compute/instance.ts';
import { keyPairHooks } from './compute/keyPair.ts';
import { addressGroupHooks } from './network/addressGroup.ts';
import { certificateHooks } from './network/certificate.ts';
import { firewallPolicyHooks } from './network/firewallPolicy.ts';
import { floatingIpHooks, portForwardHooks } from './network/floatingIp.ts';
import { listenerHooks, loadBalancerHooks, targetGroupHooks } from './network/loadBalancer.ts';
import { networkHooks } from './network/network.ts';
import { networkInterfaceHooks } from './network/networkInterface.ts';
import { physicalNetworkHooks } from './network/physicalNetwork.ts';
import { securityGroupHooks } from './network/securityGroup.ts';
import { subnetHooks } from './network/subnet.ts';
import { routeTableHooks, vpcHooks } from './network/vpc.ts';
import { clusterHooks } from './platform/cluster.ts';
import { controlNodeHooks } from './platform/controlNode.ts';
import { findingHooks } from './platform/finding.ts';
import { hostHooks } from './platform/host.ts';
import { hostMaintenanceHooks } from './platform/hostMaintenance.ts';
import { operationHooks } from './platform/operation.ts';
import { scheduleHooks } from './platform/schedule.ts';
import { settingHooks } from './platform/setting.ts';
import { imageHooks } from './storage/image.ts';
import { snapshotHooks } from './storage/snapshot.ts';
import { storagePoolHooks } from './storage/storagePool.ts';
import { volumeHooks } from './storage/volume.ts';
import { volumeTypeHooks } from './storage/volumeType.ts';
import { tenancyHooks } from './tenancy/tenancy.ts';

const hooks: Hooks = {
  ...instanceHooks,
  ...keyPairHooks,
  ...addressGroupHooks,
  ...certificateHooks,
  ...firewallPolicyHooks,
  ...networkHooks,
  ...networkInterfaceHooks,
  ...physicalNetworkHooks,
  ...floatingIpHooks,
  ...portForwardHooks,
  ...targetGroupHooks,
  ...loadBalancerHooks,
  ...listenerHooks,
  ...routeTableHooks,
  ...vpcHooks,
  ...securityGroupHooks,
  ...subnetHooks,
  ...clusterHooks,
  ...controlNodeHooks,
  ...findingHooks,
  ...hostHooks,
  ...hostMaintenanceHooks,
  ...operationHooks,
  ...scheduleHooks,
  ...settingHooks,
  ...imageHooks,
  ...snapshotHooks,
  ...storagePoolHooks,
  ...volumeHooks,
  ...volumeTypeHooks,
  ...tenancyHooks,
};

export const hookOf = (kind: string, verb: string): Hook | undefined =>
  verb === 'cascade' ? cascadeOf(hookOf, hooks[`${kind}.delete`]) : hooks[`${kind}.${verb}`];
