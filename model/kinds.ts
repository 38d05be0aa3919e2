import { cascade } from './cascade.ts';
import { instance } from './compute/instance.ts';
import { instanceType } from './compute/instanceType.ts';
import { keyPair } from './compute/keyPair.ts';
import type { Action, Kind } from './kind.ts';
import { addressGroup } from './network/addressGroup.ts';
import { certificate } from './network/certificate.ts';
import { firewallPolicy } from './network/firewallPolicy.ts';
import { floatingIp } from './network/floatingIp.ts';
import { listener } from './network/listener.ts';
import { loadBalancer } from './network/loadBalancer.ts';
import { network } from './network/network.ts';
import { networkInterface } from './network/networkInterface.ts';
import { physicalNetwork } from './network/physicalNetwork.ts';
import { portForward } from './network/portForward.ts';
import { routerType } from './network/routerType.ts';
import { routeTable } from './network/routeTable.ts';
import { securityGroup } from './network/securityGroup.ts';
import { subnet } from './network/subnet.ts';
import { targetGroup } from './network/targetGroup.ts';
import { vpc } from './network/vpc.ts';
import { partsOfType } from './operationName.ts';
import { cluster } from './platform/cluster.ts';
import { controlNode } from './platform/controlNode.ts';
import { event } from './platform/event.ts';
import { finding } from './platform/finding.ts';
import { host } from './platform/host.ts';
import { operation } from './platform/operation.ts';
import { operationType } from './platform/operationType.ts';
import { pod } from './platform/pod.ts';
import { schedule } from './platform/schedule.ts';
import { setting } from './platform/setting.ts';
import { zone } from './platform/zone.ts';
import { backupStore } from './storage/backupStore.ts';
import { image } from './storage/image.ts';
import { snapshot } from './storage/snapshot.ts';
import { storageCluster } from './storage/storageCluster.ts';
import { storagePool } from './storage/storagePool.ts';
import { volume } from './storage/volume.ts';
import { volumeType } from './storage/volumeType.ts';
import { account } from './tenancy/account.ts';
import { apiKey } from './tenancy/apiKey.ts';
import { auditEntry } from './tenancy/auditEntry.ts';
import { domain } from './tenancy/domain.ts';
import { project } from './tenancy/project.ts';
import { quota } from './tenancy/quota.ts';
import { role } from './tenancy/role.ts';
import { roleBinding } from './tenancy/roleBinding.ts';
import { user } from './tenancy/user.ts';

/** Every kind there is, in the order in which child operations may take locks: from what holds to what is held. */
export const kinds = {
  domain,
  account,
  project,
  user,
  apiKey,
  role,
  roleBinding,
  quota,
  zone,
  pod,
  cluster,
  host,
  storageCluster,
  storagePool,
  backupStore,
  volumeType,
  instanceType,
  keyPair,
  physicalNetwork,
  routerType,
  vpc,
  firewallPolicy,
  network,
  routeTable,
  subnet,
  addressGroup,
  certificate,
  securityGroup,
  instance,
  networkInterface,
  floatingIp,
  portForward,
  targetGroup,
  loadBalancer,
  listener,
  volume,
  snapshot,
  image,
  schedule,
  finding,
  operation,
  operationType,
  event,
  auditEntry,
  setting,
  controlNode,
} as const;

export type KindName = keyof typeof kinds;

export const allKinds: readonly Kind[] = Object.values(kinds) as unknown as readonly Kind[];

/** What can be deleted can be deleted with all that hangs on it. */
for (const { actions } of allKinds) if (actions.delete) actions.cascade = cascade;

/** The action that is called so, such as `instance.stop`, whoever wrote the name. */
export function actionNamed(type: string): { kind: Kind; verb: string; action: Action } | undefined {
  const { kindName, verb } = partsOfType(type);
  const kind = allKinds.find(({ name }) => name === kindName);
  const action = kind && Object.hasOwn(kind.actions, verb) ? kind.actions[verb] : undefined;
  return kind && action && { kind, verb, action };
}

/** The kind of a name; throws on a name that is none, which is a defect of the caller. */
export function kindOf(name: string): Kind {
  const found = (kinds as unknown as Record<string, Kind>)[name];
  if (!found) throw new Error(`there is no kind named ${name}`);
  return found;
}
