/** Pools as their drivers are told of them, and volumes with the pool that they are in. The driver knows which columns its type has. */
import type { PoolType } from '../model/storage/poolTypes.ts';
import { promisableGib, promisedGib } from './placement.ts';
import { written } from './statement.ts';

/** A row as JSON: whoever asks says of which shape it is. */
export const poolRow = written<{ pool: unknown }, { id: string }>(
  `SELECT row_to_json(p) AS pool FROM "storagePool" p WHERE p.id = $id`,
);

/** What each living pool has promised, and may promise. */
export const poolPromises = written<
  { id: string; type: PoolType; promisedGib: number; promisableGib: number },
  Record<never, never>
>(
  `SELECT p.id, p.type, ${promisedGib()}::float8 AS "promisedGib", ${promisableGib}::float8 AS "promisableGib"
   FROM "storagePool" p WHERE p.state = 'ready' AND p."deletedAt" IS NULL`,
);

export interface VolumeInPool {
  id: string;
  projectId: string;
  sizeGib: number;
  poolId: string | null;
  role: string;
  instanceId: string | null;
  deviceIndex: number | null;
  source: { imageId?: string; snapshotId?: string } | null;
  revision: number;
  pool: unknown;
  qos: unknown;
}

const volumesWhere = (condition: string): string =>
  `SELECT v.id, v."projectId", v."sizeGib", v."poolId", v.role, v."instanceId", v."deviceIndex", v.source, v.revision, row_to_json(p) AS pool, t.qos
   FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId" LEFT JOIN "volumeType" t ON t.id = v."volumeTypeId"
   WHERE ${condition} ORDER BY v."deviceIndex" NULLS LAST, v.id`;

/** In attachment order. */
export const volumesByIds = written<VolumeInPool, { ids: string[] }>(volumesWhere('v.id = ANY($ids::uuid[])'));

/** The living ones, in attachment order. */
export const volumesOfInstance = written<VolumeInPool, { instanceId: string }>(
  volumesWhere('v."instanceId" = $instanceId AND v."deletedAt" IS NULL'),
);

/** What an instance is told when it boots for the first time, but for its user data. */
export const firstBootOf = written<
  {
    id: string;
    projectId: string;
    revision: number;
    guestHostname: string | null;
    userDataEncoding: 'plain' | 'base64';
    sshKeys: string[];
  },
  { instanceId: string }
>(
  `SELECT id, "projectId", revision, "guestHostname", "userDataEncoding",
     ARRAY(SELECT k."publicKey" FROM "keyPair" k WHERE k.id = ANY(i."keyPairIds")) AS "sshKeys"
   FROM "instance" i WHERE id = $instanceId`,
);

/** The first slot that is free. Nothing is written where there is none, or where the volume has one already. */
export const takeSlot = written<never, { volumeId: string; instanceId: string; slots: number }>(
  `UPDATE "volume" v SET "instanceId" = $instanceId, "deviceIndex" = free.slot FROM (
     SELECT min(slot) AS slot FROM generate_series(1, $slots::int - 1) slot WHERE NOT EXISTS (
       SELECT 1 FROM "volume" o WHERE o."instanceId" = $instanceId AND o."deviceIndex" = slot AND o."deletedAt" IS NULL)) free
   WHERE v.id = $volumeId AND v."instanceId" IS NULL AND free.slot IS NOT NULL`,
);

/** Where a snapshot lies, how large it is, and which one of its volume came before it. */
export const placeSnapshot = written<never, { id: string; frozen: boolean }>(
  `UPDATE "snapshot" s SET frozen = $frozen, "sizeGib" = v."sizeGib", "poolId" = v."poolId", "zoneId" = v."zoneId", "parentId" = (
     SELECT p.id FROM "snapshot" p WHERE p."volumeId" = s."volumeId" AND p.state = 'ready' AND p."deletedAt" IS NULL AND p.id <> s.id
     ORDER BY p."createdAt" DESC, p.id DESC LIMIT 1)
   FROM "volume" v WHERE s.id = $id AND v.id = s."volumeId"`,
);

/** Those that followed it follow the one before it. */
export const passSnapshot = written<never, { id: string }>(
  `UPDATE "snapshot" s SET "parentId" = gone."parentId" FROM "snapshot" gone WHERE gone.id = $id AND s."parentId" = gone.id`,
);

/** Answers a row when a volume is on the disks of one host, and the instance on another host, or bound to it by another volume. */
export const liveApart = written<unknown, { volumeId: string; instanceId: string }>(
  `SELECT 1 FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId" WHERE v.id = $volumeId AND p."hostId" IS NOT NULL AND (
     EXISTS (SELECT 1 FROM "instance" i WHERE i.id = $instanceId AND i."hostId" <> p."hostId")
     OR EXISTS (SELECT 1 FROM "volume" o JOIN "storagePool" q ON q.id = o."poolId" WHERE o."instanceId" = $instanceId AND o."deletedAt" IS NULL AND q."hostId" <> p."hostId"))`,
);
