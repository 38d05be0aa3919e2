/** Hosts that are shut out of their storage: what nothing of theirs can do any more, and what has to be started elsewhere. */
import { poolTypesWithout } from '../model/storage/poolTypes.ts';
import type { Queryable } from './database.ts';
import { literals, written } from './statement.ts';

interface Place {
  hostId: string;
  instanceId: string;
}

const fenceless = literals(poolTypesWithout('fence'));

/** Under which addresses the storage cluster with an id knows a host `h`. The last may have become another host's. */
const addressesIn = (storageClusterId: string): string =>
  `coalesce(h."storageClients"->${storageClusterId}::text, '[]')`;

/** A volume `v` that a host `h` could still write to, though it is shut out: its pool shuts nobody out, or knows the host under no address. */
const stillOpen = `(p.type IN (${fenceless}) OR ${addressesIn('p."storageClusterId"')} = '[]')`;

/**
 * Whether nothing of an instance can act on a host any more: the host is dead, as an operator has confirmed, or it is shut out of all that the
 * instance's volumes lie in.
 */
export const shutOut = (hostId: string, instanceId: string): string => `EXISTS (
  SELECT 1 FROM "host" h JOIN "cluster" k ON k.id = h."clusterId" WHERE h.id = ${hostId} AND (h."deadAt" IS NOT NULL OR (h."fencedAt" IS NOT NULL AND (
    k.ha->>'requireFence' = 'false' OR NOT EXISTS (SELECT 1 FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId"
      WHERE v."instanceId" = ${instanceId} AND v."deletedAt" IS NULL AND ${stillOpen})))))`;

export const isShutOut = written<{ gone: boolean }, Place>(
  `SELECT ${shutOut('$hostId::uuid', '$instanceId::uuid')} AS gone`,
);

/** What a host could still write to though it is shut out, of an instance. */
export const openVolumes = written<{ id: string; type: string }, Place>(
  `SELECT v.id, p.type FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId" JOIN "host" h ON h.id = $hostId
   WHERE v."instanceId" = $instanceId AND v."deletedAt" IS NULL AND ${stillOpen} ORDER BY v."deviceIndex" LIMIT 1`,
);

/** Storage clusters `s` with pools that the cluster of a host `h` reaches, and that know the host under no address of which the records know. */
const unknowing = `"storagePool" p JOIN "storageCluster" s ON s.id = p."storageClusterId"
   WHERE h."clusterId" = ANY(p."clusterIds") AND p."deletedAt" IS NULL AND p.capacity IS NOT NULL AND ${addressesIn('s.id')} = '[]'`;

export const unknownTo = written<{ id: string; name: string }, { hostId: string }>(
  `SELECT DISTINCT u.id, u.name FROM "host" h, LATERAL (SELECT s.id, s.name FROM ${unknowing}) u WHERE h.id = $hostId ORDER BY u.name`,
);

/** Whether a host `h` can be shut out of all its storage. */
export const canBeShutOut = `NOT EXISTS (SELECT 1 FROM ${unknowing})`;

/** Why a host can not be shut out of all its storage without the word of a person that it is off, or null where it can. */
export async function refusalToFence(on: Queryable, { hostId }: { hostId: string }): Promise<string | null> {
  const [cluster] = await unknownTo(on, { hostId });
  return cluster
    ? `it is not known by which addresses host ${hostId} uses storage cluster ${cluster.name}, so it can not be shut out: switch it off, and say so with confirmDead`
    : null;
}

/**
 * Under which addresses a storage cluster knows a host now. Those of before stay beside them: a guest that was started then still uses them. An address
 * is of one host at a time, so no other has it any more.
 */
export const noteClients = written<never, { hostId: string; storageClusterId: string; addresses: string[] }>(
  `UPDATE "host" h SET "storageClients" = coalesce(h."storageClients", '{}') || jsonb_build_object($storageClusterId::text, (
     SELECT coalesce(jsonb_agg(address ORDER BY address), '[]') FROM (
       SELECT jsonb_array_elements_text(coalesce(h."storageClients"->$storageClusterId::text, '[]')) AS address
       UNION SELECT unnest($addresses::text[])) known
     WHERE h.id = $hostId OR address <> ALL($addresses::text[])))
   WHERE h.id = $hostId AND NOT coalesce(h."storageClients"->$storageClusterId::text, '[]') @> to_jsonb($addresses::text[])
     OR h.id <> $hostId AND h."deletedAt" IS NULL AND jsonb_exists_any(h."storageClients"->$storageClusterId::text, $addresses::text[])`,
);

/** The addresses of a host by storage cluster that there still is. */
export const clientsOf = written<{ storageClusterId: string; addresses: string[] }, { hostId: string }>(
  `SELECT s.id AS "storageClusterId", ARRAY(SELECT jsonb_array_elements_text(h."storageClients"->s.id::text)) AS addresses
   FROM "host" h JOIN "storageCluster" s ON jsonb_exists(coalesce(h."storageClients", '{}'), s.id::text)
   WHERE h.id = $hostId AND s."deletedAt" IS NULL ORDER BY s.id`,
);

const wantsToRun = `(i.ha->>'enabled' = 'true' AND k.ha->>'enabled' = 'true')`;

/** By which operation an instance leaves a host that has failed. */
const leavesBy = `CASE WHEN ${wantsToRun} OR NOT ${shutOut('i."hostId"', 'i.id')} THEN 'instance.restartElsewhere' ELSE 'instance.settle' END`;

export interface Stranded {
  id: string;
  by: 'instance.restartElsewhere' | 'instance.settle';
}

/**
 * Instances that have their place on a host that has failed, those with the highest priority first. What waits for a person is left out, and so is
 * what may still run there while it is lost, or while somebody is at work on it: whoever waits for that may wait until a person has come.
 */
export const strandedOn = written<Stranded, { hostId: string }>(
  `SELECT i.id, ${leavesBy} AS by FROM "hostClaim" c JOIN "instance" i ON i.id = c."instanceId" AND i."hostId" = c."hostId"
     JOIN "host" at ON at.id = c."hostId" JOIN "cluster" k ON k.id = at."clusterId" LEFT JOIN "operation" o ON o.id = i."currentOperationId"
   WHERE c."hostId" = $hostId AND i.fault IS NULL AND o.state IS DISTINCT FROM 'stuck'
     AND ((i.state <> 'lost' AND i."currentOperationId" IS NULL) OR ${shutOut('i."hostId"', 'i.id')})
   ORDER BY (i.ha->>'priority')::int DESC, i.id`,
);

export const lostAtOnce = 500;

/**
 * The same wherever they are, once nobody is at work on them: those that are lost and may be started, and those that a failover has left where they
 * were. A host that serves again is asked itself. A page of them, behind the one that is told.
 */
export const lostOnes = written<Stranded & { priority: number }, { priority: number; after: string }>(
  `SELECT i.id, (i.ha->>'priority')::int AS priority, CASE WHEN ${wantsToRun} THEN 'instance.restartElsewhere' ELSE 'instance.settle' END AS by
   FROM (
     SELECT id FROM "instance" WHERE state = 'lost' AND "deletedAt" IS NULL
     UNION ALL SELECT r.id FROM "host" f JOIN "instance" r ON r."hostId" = f.id AND r.state = 'running' WHERE f.state = 'fenced' AND f."deletedAt" IS NULL) left_there
     JOIN "instance" i ON i.id = left_there.id
     JOIN "host" at ON at.id = coalesce(i."hostId", i."lastHostId") JOIN "cluster" k ON k.id = at."clusterId"
   WHERE i."deletedAt" IS NULL AND i."currentOperationId" IS NULL AND i.fault IS NULL
     AND CASE i.state WHEN 'lost' THEN i."hostId" IS NULL OR ${shutOut('i."hostId"', 'i.id')} OR (at."fencedAt" IS NULL AND at.connection = 'connected')
                      ELSE at.state = 'fenced' END
     AND (i."hostId" IS NOT NULL OR ${wantsToRun})
     AND ((i.ha->>'priority')::int < $priority OR ((i.ha->>'priority')::int = $priority AND i.id > $after))
   ORDER BY (i.ha->>'priority')::int DESC, i.id LIMIT ${lostAtOnce}`,
);

/** Whether an instance is to run again when its host has lost it. */
export const isToRunAgain = written<{ wanted: boolean }, Place>(
  `SELECT EXISTS (SELECT 1 FROM "instance" i JOIN "host" at ON at.id = $hostId JOIN "cluster" k ON k.id = at."clusterId"
     WHERE i.id = $instanceId AND ${wantsToRun} AND at.state <> 'deleting') AS wanted`,
);

/** Whether an instance is about to be started elsewhere, because its host fails over: then nobody takes it for one that has stopped. */
export const isLeftToFailover = written<{ left: boolean }, Place>(
  `SELECT EXISTS (SELECT 1 FROM "instance" i JOIN "host" at ON at.id = $hostId JOIN "cluster" k ON k.id = at."clusterId"
     WHERE i.id = $instanceId AND ${wantsToRun} AND at.state <> 'deleting' AND (at.state IN ('fencing', 'fenced') OR EXISTS (
       SELECT 1 FROM "operation" o WHERE o."targetId" = at.id AND o.type = 'host.failover' AND o."endedAt" IS NULL))) AS left`,
);

export const countLost = written<{ lost: string }>(
  `SELECT count(*) AS lost FROM "instance" WHERE state = 'lost' AND "deletedAt" IS NULL`,
);
