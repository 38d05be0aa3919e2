/**
 * What tells of the machines below, or of the people who run them, and who may ever see it. Everything else in an answer is for whoever may
 * read the answer. One table for resources, lists, queries, operations, events, audit entries, problems, plans, views and callbacks.
 */

import type { Kind } from './kind.ts';
import { allKinds, kindOf } from './kinds.ts';

/** Kinds that are infrastructure: the platform's own, and in no catalogue that tenants choose from. */
const isBelow = (kind: Kind): boolean =>
  kind.scope === 'platform' && kind.catalogue !== true && ['platform', 'storage', 'network'].includes(kind.area);

/** Further members, wherever they stand, with the permission that must be held on the platform. */
const further: Record<string, string> = {
  lastHostId: 'host.get',
  targetHostId: 'host.get',
  sourceHostId: 'host.get',
  fromHostId: 'host.get',
  toHostId: 'host.get',
  host: 'host.get',
  hosts: 'host.get',
  droppedBy: 'host.get',
  placement: 'host.get',
  observed: 'host.get',
  pool: 'storagePool.get',
  pools: 'storagePool.get',
  poolId: 'storagePool.get',
  objectKey: 'backupStore.get',
  segmentId: 'physicalNetwork.get',
};

/** Members that name infrastructure: every field that refers to it, whatever the kind, and those above. */
export const veiledMembers: ReadonlyMap<string, string> = new Map([
  ...allKinds.flatMap(({ fields }) =>
    Object.entries(fields).flatMap(([name, { ref }]): [string, string][] =>
      ref && isBelow(kindOf(ref)) ? [[name, `${ref}.get`]] : [],
    ),
  ),
  ...allKinds.filter(isBelow).flatMap(({ name }): [string, string][] => [
    [`${name}Id`, `${name}.get`],
    [`${name}Ids`, `${name}.get`],
  ]),
  ...Object.entries(further),
]);

/**
 * Members that tell who acted and from where, or will, each with the column of that user; of somebody of another account they are told to those only
 * who may read users there. Events tell them to nobody.
 */
export const actorMembers: Readonly<Record<string, string>> = {
  actorUserId: 'actorUserId',
  actorApiKeyId: 'actorUserId',
  sourceAddress: 'actorUserId',
  runAsUserId: 'runAsUserId',
  runAsApiKeyId: 'runAsUserId',
};

/** Members whose own members are chosen by tenants: names there mean nothing. */
export const ownWords: readonly string[] = ['labels', 'systemLabels', 'inputSchema', 'valueSchema'];

/** Members that hold a problem in the words of the API itself, as the body of a refusal does. */
export const wordedHere: readonly string[] = ['refusal'];

/** The permission, on the platform, of those who read everything as it is. */
export const unveiled = 'host.get';

/** What others are told instead of the words of a problem: those speak of hosts, pools and the systems below. */
export const plainWords: Readonly<Record<string, string>> = {
  NO_CAPACITY: 'there is no room for it now',
  HOST_UNREACHABLE: 'the host does not answer',
  BACKEND_UNAVAILABLE: 'a system below does not answer; try again later',
  INTERNAL: 'something went wrong here; the operators can find it by the id of the operation or request',
};

/** Codes whose words a step may say to everybody: they speak of the tenant's own things. Of any other, its plain words, or the code alone. */
export const openWords: readonly string[] = [
  'CANCELLED',
  'TIMEOUT',
  'ALREADY_ATTACHED',
  'PRECONDITION_FAILED',
  'QUOTA_EXCEEDED',
];
