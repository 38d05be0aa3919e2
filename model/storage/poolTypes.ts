/** What a type of pool can do. What it can not is refused with NOT_SUPPORTED when a change is accepted, and by the step that would need it. */
export interface PoolCan {
  /** Snapshots of its volumes, and volumes that are reverted to them. */
  snapshot: boolean;
  /** Snapshots of a volume whose guest runs. */
  snapshotInUse: boolean;
  /** Volumes made from an image or a snapshot without copying it. */
  clone: boolean;
  /** Also from a snapshot in another pool. */
  cloneAcross: boolean;
  /** A volume grows under a running guest. */
  growInUse: boolean;
  /** What a volume has grown can be taken back while nobody has used it. */
  shrink: boolean;
  /** A running guest moves to another host, and its volumes stay where they are. */
  liveMove: boolean;
  /** A host can be shut out of it: what it still sends is refused. */
  fence: boolean;
}

/** What is said of a type without the ability. */
export const inability: Record<keyof PoolCan, string> = {
  snapshot: 'takes no snapshots',
  snapshotInUse: 'takes no snapshots of volumes whose guest runs: stop it first',
  clone: 'makes no volumes from images or snapshots',
  cloneAcross: 'makes no volumes from snapshots in another pool',
  growInUse: 'grows no volume that is in use',
  shrink: 'takes back nothing that a volume has grown',
  liveMove: 'is not there for a running guest on another host',
  fence: 'shuts no host out',
};

const files: PoolCan = {
  snapshot: true,
  snapshotInUse: true,
  clone: true,
  cloneAcross: false,
  growInUse: true,
  shrink: true,
  liveMove: true,
  fence: false,
};

/**
 * The types of pool that there are. For each there is a driver in `activities/storage/drivers/`. `layered`: what a volume was before a snapshot lies in
 * a layer below it. Layers are joined when a snapshot goes, and whoever has the volume neither starts, stops nor leaves meanwhile.
 */
export const poolTypes = {
  /** Images of a Ceph cluster. */
  rbd: {
    layered: false,
    can: {
      snapshot: true,
      snapshotInUse: true,
      clone: true,
      cloneAcross: true,
      growInUse: true,
      shrink: true,
      liveMove: true,
      fence: true,
    } as PoolCan,
  },
  /** Files in a directory of one host, on its own disks. */
  local: { layered: true, can: { ...files, liveMove: false } },
  /** Files in a directory that every host of the clusters has at the same path, mounted by whoever runs the hosts. */
  sharedMount: { layered: true, can: files },
  /** Files on an export of NFS, which the hosts mount themselves. */
  nfs: { layered: true, can: files },
} as const satisfies Record<string, { can: PoolCan; layered: boolean }>;

export type PoolType = keyof typeof poolTypes;
export const poolTypeNames = Object.keys(poolTypes) as [PoolType, ...PoolType[]];

/** The types that can not do it. */
export const poolTypesWithout = (ability: keyof PoolCan): PoolType[] =>
  poolTypeNames.filter((type) => !poolTypes[type].can[ability]);

export const layeredPoolTypes = poolTypeNames.filter((type) => poolTypes[type].layered);
