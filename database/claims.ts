/** The place that an instance has on a host, with the room that it takes there, and whether anything of it can be there. */
import { illHosts } from './detection.ts';
import { type Need, onlyPoolOfVolume, type VolumeNeed } from './placement.ts';
import { from, statement, type Values, written } from './statement.ts';

interface Place {
  instanceId: string;
  hostId: string;
}

/** When a host was reached that nothing may reach any more for this instance. */
const givenUp = `'-infinity'::timestamptz`;

/** Answers a row unless the place was given up. */
export const notePlaceReached = written<unknown, Place>(
  `UPDATE "hostClaim" SET "reachedAt" = coalesce("reachedAt", now())
   WHERE "instanceId" = $instanceId AND "hostId" = $hostId AND "reachedAt" IS DISTINCT FROM ${givenUp} RETURNING 1`,
);

/** Answers a row when the host was never reached: from now on it must not be. */
export const giveUpPlace = written<unknown, Place>(
  `UPDATE "hostClaim" SET "reachedAt" = ${givenUp}
   WHERE "instanceId" = $instanceId AND "hostId" = $hostId AND ("reachedAt" IS NULL OR "reachedAt" = ${givenUp}) RETURNING 1`,
);

/** What was heard of the guest before `askedAt` is answered. */
export const trustPlace = written<never, Place & { askedAt: string }>(
  `UPDATE "hostClaim" SET "doubtedAt" = NULL, "askAfter" = NULL
   WHERE "instanceId" = $instanceId AND "hostId" = $hostId AND "doubtedAt" <= $askedAt::timestamptz`,
);

/** The instant of the database, as it is written into other statements. */
export const instant = written<{ askedAt: string }>(`SELECT now()::text AS "askedAt"`);

/** An instance is tried so long at other hosts than those where it could not be started. */
const failedLately = `now() - interval '10 minutes'`;

/** An instance as placement sees it: what it needs, where it is, which host it has claimed already. */
export interface Placed extends Need {
  instanceId: string;
  hostId: string | null;
  /** Null when nothing new would run there now. */
  lastHostId: string | null;
  claimedHostId: string | null;
  /** Where it could not be started lately, the last one first. */
  failedHostIds: string[];
  volumes: VolumeNeed[];
}

export const placedInstance = written<Placed, { instanceId: string }>(
  `SELECT i.id AS "instanceId", i."zoneId", i.vcpus, i."memoryMib", i.architecture, i."hostId", CASE WHEN i."lastHostId" IN (${illHosts}) THEN NULL ELSE i."lastHostId" END AS "lastHostId",
     ARRAY(SELECT f."hostId" FROM "failedPlace" f WHERE f."instanceId" = i.id AND f."failedAt" > ${failedLately} ORDER BY f."failedAt" DESC) AS "failedHostIds",
     (SELECT c."hostId" FROM "hostClaim" c WHERE c."instanceId" = i.id LIMIT 1) AS "claimedHostId",
     ARRAY(SELECT DISTINCT s."physicalNetworkId" FROM "networkInterface" n JOIN "subnet" s ON s.id = n."subnetId"
       WHERE n."instanceId" = i.id AND n."deletedAt" IS NULL AND s."physicalNetworkId" IS NOT NULL) AS "physicalNetworkIds",
     (SELECT coalesce(json_agg(json_build_object('id', v.id, 'sizeGib', v."sizeGib", 'poolId', v."poolId", 'storageClass', t."storageClass", 'imageId', v.source->>'imageId', 'onlyPoolId', ${onlyPoolOfVolume}) ORDER BY v.id), '[]')
      FROM "volume" v JOIN "volumeType" t ON t.id = v."volumeTypeId" WHERE v."instanceId" = i.id AND v."deletedAt" IS NULL) AS volumes
   FROM "instance" i WHERE i.id = $instanceId`,
);

export const lockPlacedVolume = written<VolumeNeed & { zoneId: string }, { volumeId: string }>(
  `SELECT v.id, v."zoneId", v."sizeGib", v."poolId", v.source->>'imageId' AS "imageId", ${onlyPoolOfVolume} AS "onlyPoolId", t."storageClass"
   FROM "volume" v JOIN "volumeType" t ON t.id = v."volumeTypeId" WHERE v.id = $volumeId FOR UPDATE OF v`,
);

/** Its host, and the pools of those of its volumes that had none. `volumeIds` and `poolIds` go in pairs. */
export const place = written<never, Place & { volumeIds: string[]; poolIds: (string | undefined)[] }>(
  `WITH placed AS (UPDATE "volume" v SET "poolId" = p."poolId" FROM unnest($volumeIds::uuid[], $poolIds::uuid[]) AS p(id, "poolId") WHERE v.id = p.id)
   UPDATE "instance" SET "hostId" = $hostId, "desiredPower" = 'on', "stateReason" = NULL, "lostReason" = NULL WHERE id = $instanceId`,
);

/**
 * The copies that the volumes of an instance are cloned from, and that are not there. Those that are stay until these volumes are known to live on
 * them: who removes copies waits for this lock.
 */
export const uncachedOf = written<{ imageId: string; poolId: string }, { instanceId: string }>(
  `WITH wanted AS (
     SELECT DISTINCT (v.source->>'imageId')::uuid AS "imageId", v."poolId" FROM "volume" v
     WHERE v."instanceId" = $instanceId AND v.state = 'creating' AND v.source->>'imageId' IS NOT NULL),
   kept AS (
     SELECT c."imageId", c."poolId" FROM "imageCache" c WHERE (c."imageId", c."poolId") IN (SELECT "imageId", "poolId" FROM wanted)
       AND c.state = 'ready' FOR SHARE)
   SELECT "imageId", "poolId" FROM wanted EXCEPT SELECT "imageId", "poolId" FROM kept`,
);

/** The same of one copy: answers a row when it is there. */
export const keepCopyFor = written<unknown, { imageId: string | null; poolId: string }>(
  `SELECT 1 FROM "imageCache" WHERE "imageId" = $imageId::uuid AND "poolId" = $poolId AND state = 'ready' FOR SHARE`,
);

type OfOperation = { instanceId: string; operationId: string };

/** The instance was lost when the operation took hold of it. */
const wasLost = `(state = 'restarting' OR EXISTS (SELECT 1 FROM "operationLock" l WHERE l."operationId" = $operationId
  AND l."resourceKind" = 'instance' AND l."resourceId" = $instanceId AND l."fromState" = 'lost'))`;

/** Where an operation had found a place, there is none any more. A lost instance is tried elsewhere the next time. */
export const unplace = written<never, OfOperation>(
  `WITH failed AS (
     INSERT INTO "failedPlace" ("instanceId", "hostId", "failedAt")
     SELECT c."instanceId", c."hostId", now() FROM "hostClaim" c JOIN "instance" i ON i.id = c."instanceId"
     WHERE c."instanceId" = $instanceId AND c."operationId" = $operationId AND ${wasLost}
     ON CONFLICT ("instanceId", "hostId") DO UPDATE SET "failedAt" = excluded."failedAt"),
   forgotten AS (
     DELETE FROM "failedPlace" WHERE ("instanceId", "hostId") IN (
       SELECT "instanceId", "hostId" FROM "failedPlace" WHERE "failedAt" < ${failedLately} AND "instanceId" <> $instanceId
       ORDER BY "failedAt" LIMIT 100 FOR UPDATE SKIP LOCKED))
   UPDATE "instance" SET "hostId" = NULL, "desiredPower" = CASE WHEN ${wasLost} THEN 'on' ELSE 'off' END,
     "stateReason" = CASE WHEN ${wasLost} THEN 'hostFailed' ELSE "stateReason" END,
     "lostReason" = CASE WHEN ${wasLost} THEN 'its host has failed, and it could not be started elsewhere; it is tried again' ELSE "lostReason" END
   WHERE id = $instanceId AND EXISTS (SELECT 1 FROM "hostClaim" c WHERE c."instanceId" = $instanceId AND c."operationId" = $operationId)`,
);

/** Where it is; nothing else changes. */
export const setHost = statement((p: Values<Place>) =>
  from.updateTable('instance').set({ hostId: p.hostId }).where('id', '=', p.instanceId),
);

/** Where it is after a move, and where it was before. */
export const settleOn = statement((p: Values<{ instanceId: string; hostId: string; lastHostId: string }>) =>
  from.updateTable('instance').set({ hostId: p.hostId, lastHostId: p.lastHostId }).where('id', '=', p.instanceId),
);

export const leaveHost = written<never, { instanceId: string }>(
  `UPDATE "instance" SET "lastHostId" = coalesce("hostId", "lastHostId"), "hostId" = NULL, "desiredPower" = 'off', "stateReason" = NULL WHERE id = $instanceId`,
);
/** What it wants to be, and why it is as it is, stays. */
export const vacateHost = written<never, { instanceId: string }>(
  `UPDATE "instance" SET "lastHostId" = coalesce("hostId", "lastHostId"), "hostId" = NULL WHERE id = $instanceId`,
);

/** Gives the claims back that match; safe to repeat, because only a deleted row is subtracted. */
const dropping = (condition: string): string => `
  WITH gone AS (DELETE FROM "hostClaim" WHERE "instanceId" = $instanceId ${condition} RETURNING "hostId", vcpus, "memoryMib"),
       sums AS (SELECT "hostId", sum(vcpus)::int AS vcpus, sum("memoryMib")::int AS mib FROM gone GROUP BY "hostId")
  UPDATE "hostCapacity" c SET "claimedVcpus" = c."claimedVcpus" - s.vcpus, "claimedMemoryMib" = c."claimedMemoryMib" - s.mib
  FROM sums s WHERE c."hostId" = s."hostId"`;

export const dropClaims = written<never, { instanceId: string }>(dropping(''));
export const dropClaimOn = written<never, Place>(dropping('AND "hostId" = $hostId'));
export const dropClaimsOf = written<never, OfOperation>(dropping('AND "operationId" = $operationId'));
/** Those of a move, but for the host on which the instance is. */
export const dropMoveOf = written<never, OfOperation>(
  dropping(
    'AND "operationId" = $operationId AND "hostId" <> coalesce((SELECT "hostId" FROM "instance" WHERE id = $instanceId), $instanceId)',
  ),
);

type Room = { vcpus: number; memoryMib: number };

/** Answers a row when the claim was not there. */
export const insertClaim = written<unknown, Place & Room & { operationId: string }>(
  `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib")
   VALUES ($instanceId, $hostId, $operationId, $vcpus, $memoryMib) ON CONFLICT DO NOTHING RETURNING 1`,
);
export const takeRoom = written<never, Room & { hostId: string }>(
  `UPDATE "hostCapacity" SET "claimedVcpus" = "claimedVcpus" + $vcpus, "claimedMemoryMib" = "claimedMemoryMib" + $memoryMib WHERE "hostId" = $hostId`,
);

interface OfHolder {
  hostId: string;
  operationId: string;
}

/** In the name of the operation that holds the host, as are those below: of another one they change nothing. */
export const openCapacity = written<unknown, OfHolder>(
  `INSERT INTO "hostCapacity" ("hostId", "clusterId", "zoneId", vcpus, "memoryMib")
   SELECT id, "clusterId", "zoneId", 0, 0 FROM "host" WHERE id = $hostId AND "currentOperationId" = $operationId ON CONFLICT DO NOTHING`,
);
export const forgetCapacity = written<unknown, OfHolder>(
  `DELETE FROM "hostCapacity" c USING "host" h WHERE c."hostId" = $hostId AND h.id = c."hostId" AND h."currentOperationId" = $operationId`,
);
/** Answers a row unless the host answers, as its record says; nobody listens to one that is shut out. */
export const declareDead = written<unknown, OfHolder>(
  `UPDATE "host" SET "deadAt" = coalesce("deadAt", now()) WHERE id = $hostId AND (connection = 'disconnected' OR "fencedAt" IS NOT NULL) AND "currentOperationId" = $operationId RETURNING 1`,
);
/** The same before the operation's turn has come: what it would wait for may wait for the host. */
export const declareDeadAtOnce = written<unknown, { hostId: string }>(
  `UPDATE "host" SET "deadAt" = coalesce("deadAt", now()) WHERE id = $hostId AND connection = 'disconnected'`,
);
/** What was said of one that is shut out stays said. */
export const takeBackDeath = written<unknown, OfHolder>(
  `UPDATE "host" SET "deadAt" = NULL WHERE id = $hostId AND "fencedAt" IS NULL AND "currentOperationId" = $operationId`,
);
export const noteFailed = written<unknown, OfHolder & { reason: string | null }>(
  `UPDATE "host" SET "stateReason" = coalesce($reason, "stateReason", 'it does not answer') WHERE id = $hostId AND "currentOperationId" = $operationId RETURNING 1`,
);
export const takeBackFailure = written<unknown, OfHolder>(
  `UPDATE "host" SET "stateReason" = NULL WHERE id = $hostId AND "fencedAt" IS NULL AND "currentOperationId" = $operationId`,
);
/** All storage that can has shut it out, as that storage says. */
export const noteShutOut = written<unknown, OfHolder>(
  `UPDATE "host" SET "fencedAt" = coalesce("fencedAt", now()) WHERE id = $hostId AND "currentOperationId" = $operationId RETURNING 1`,
);
/**
 * Answers a row when it was shut out, or is dead, as a person or its BMC says. A fence that was skipped is none. What was concluded of a host that was
 * thought to live holds no more.
 */
export const noteFenced = written<unknown, OfHolder & { confirmDead: boolean }>(
  `UPDATE "host" SET "fencedAt" = coalesce("fencedAt", now()), "deadAt" = CASE WHEN $confirmDead THEN coalesce("deadAt", now()) ELSE "deadAt" END,
     health = 'down', "healthSince" = CASE WHEN health = 'down' THEN "healthSince" ELSE now() END,
     "healthReason" = CASE
       WHEN health = 'down' THEN "healthReason"
       WHEN $confirmDead OR "deadAt" IS NOT NULL THEN 'It is off, as a person or its BMC says, and has been failed over.'
       ELSE 'It is shut out of its storage, whether it lives or not, and has been failed over.' END
   WHERE id = $hostId AND "currentOperationId" = $operationId AND ("fencedAt" IS NOT NULL OR "deadAt" IS NOT NULL OR $confirmDead) RETURNING 1`,
);
/** The word that a host is dead goes with the operation that it came with, when that never begins; unless another one says so, too. */
export const takeBackWord = written<unknown, { operationId: string }>(
  `UPDATE "host" h SET "deadAt" = NULL FROM "operation" o
   WHERE o.id = $operationId AND o."targetId" = h.id AND o.input->>'confirmDead' = 'true' AND h."fencedAt" IS NULL AND h."deadAt" IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM "operation" other WHERE other."targetId" = h.id AND other.id <> o.id AND other."endedAt" IS NULL
       AND other.input->>'confirmDead' = 'true') RETURNING 1`,
);
export const readmit = written<unknown, OfHolder>(
  `UPDATE "host" SET "fencedAt" = NULL, "deadAt" = NULL, "stateReason" = NULL, "maintenanceReason" = NULL, health = 'well', "healthReason" = NULL, "healthSince" = now()
   WHERE id = $hostId AND "currentOperationId" = $operationId RETURNING 1`,
);
/** The guests that have a place there, and whether each runs and nobody is at work on it. */
export const guestsPlacedOn = written<{ id: string; idle: boolean }, { hostId: string }>(
  `SELECT i.id, i.state IN ('running', 'lost') AND i."currentOperationId" IS NULL AS idle
   FROM "hostClaim" c JOIN "instance" i ON i.id = c."instanceId" WHERE c."hostId" = $hostId ORDER BY i.id`,
);
