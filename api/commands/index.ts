/** What single actions add to the general way of a change. An action that is not here needs nothing of its own. */

import type { Caller, Place } from '../caller.ts';
import type { Accepting, Reference, Row } from '../change.ts';
import { instanceHooks } from './compute/instance.ts';
import { keyPairHooks } from './compute/keyPair.ts';
import { subnetHooks } from './network/subnet.ts';
import { clusterHooks } from './platform/cluster.ts';
import { hostHooks } from './platform/host.ts';
import { settingHooks } from './platform/setting.ts';
import { imageHooks } from './storage/image.ts';
import { snapshotHooks } from './storage/snapshot.ts';
import { storagePoolHooks } from './storage/storagePool.ts';
import { volumeHooks } from './storage/volume.ts';
import { tenancyHooks } from './tenancy/tenancy.ts';

export interface Hook {
  /** Ids inside the body that the fields alone do not show. */
  references?(input: Record<string, unknown>): Reference[];
  /** Where the permission must be held, when it is not where the row lives. */
  place?(row: Row, loaded: Map<string, Row>): Place;
  /** The resource whose place counts instead; null for the platform itself. */
  home?(row: Row): { kind: string; id: string } | null;
  /** Whether it is the caller's own, for which holding the permission anywhere is enough. */
  own?(row: Row, caller: Caller): boolean;
  accept?(accepting: Accepting): Promise<void> | void;
}

export type Hooks = Record<string, Hook>;

const hooks: Hooks = {
  ...instanceHooks,
  ...keyPairHooks,
  ...subnetHooks,
  ...clusterHooks,
  ...hostHooks,
  ...settingHooks,
  ...imageHooks,
  ...snapshotHooks,
  ...storagePoolHooks,
  ...volumeHooks,
  ...tenancyHooks,
};

export const hookOf = (kind: string, verb: string): Hook | undefined => hooks[`${kind}.${verb}`];
