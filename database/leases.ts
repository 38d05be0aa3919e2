/** Which process carries which share of the hosts. */
import { shardCount } from '../model/shards.ts';
import { from, inSeconds, isAmong, now, statement, type Values, written } from './statement.ts';

export const makeShards = written<never>(
  `INSERT INTO "shardLease" (shard) SELECT * FROM generate_series(0, ${shardCount - 1}) ON CONFLICT DO NOTHING`,
);

/** Takes over what a process of the same name has held, which is gone. */
export const takeOverShards = written<never, { name: string; holder: string; leaseSeconds: number }>(
  `UPDATE "shardLease" SET holder = $holder, "expiresAt" = now() + make_interval(secs => $leaseSeconds) WHERE split_part(holder, '#', 1) = $name`,
);

/**
 * Renews what a process has, gives back what is more than its fair share, takes what nobody has; answers what it has now. The epoch is the
 * database's: it rises with each change of the holder.
 */
export const leaseShards = written<{ shard: number; epoch: string }, { holder: string; leaseSeconds: number }>(
  `WITH alive AS (SELECT count(DISTINCT holder) FILTER (WHERE holder <> $holder AND "expiresAt" > now()) + 1 AS n FROM "shardLease"),
        mine AS (SELECT shard FROM "shardLease" WHERE holder = $holder ORDER BY shard LIMIT (SELECT ceil(${shardCount}::numeric / n)::int FROM alive)),
        free AS (SELECT shard FROM "shardLease" WHERE holder IS NULL OR "expiresAt" < now() ORDER BY shard
                 LIMIT (SELECT greatest(0, ceil(${shardCount}::numeric / n)::int - (SELECT count(*) FROM mine)) FROM alive) FOR UPDATE SKIP LOCKED),
        surplus AS (UPDATE "shardLease" SET holder = NULL WHERE holder = $holder AND shard NOT IN (SELECT shard FROM mine) RETURNING shard)
   UPDATE "shardLease" l SET holder = $holder, "expiresAt" = now() + make_interval(secs => $leaseSeconds)
   WHERE l.shard IN (SELECT shard FROM mine UNION SELECT shard FROM free)
     -- Asked again of the row itself: another may have taken it since this statement looked.
     AND (l.holder = $holder OR l.holder IS NULL OR l."expiresAt" < now()) RETURNING l.shard, l.epoch`,
);

/** Gives back all but these, and takes nothing new. */
export const giveShardsBack = statement((p: Values<{ holder: string; except: number[] }>) =>
  from
    .updateTable('shardLease')
    .set({ holder: null })
    .where('holder', '=', p.holder)
    .where((eb) => eb.not(isAmong(eb.ref('shard'), p.except))),
);

/** Keeps what a process still has while it ends what it has begun there; nothing is taken. */
export const renewShards = statement((p: Values<{ holder: string; leaseSeconds: number }>) =>
  from
    .updateTable('shardLease')
    .set({ expiresAt: inSeconds(p.leaseSeconds) })
    .where('holder', '=', p.holder)
    .where('expiresAt', '>', now)
    .returning('shard'),
);

/** Whether a process holds a share. One that was suspended believes in its lease; only the database knows. */
export const holds = (shard: string): string =>
  `EXISTS (SELECT 1 FROM "shardLease" WHERE shard = ${shard} AND holder = $holder AND "expiresAt" > now())`;

/** What the one that carries a host says of it, when that is not that it is connected. No row when another carries it, or nobody. */
export const noteConnection = written<
  { id: string },
  { hostId: string; connection: 'degraded' | 'disconnected'; shard: number; holder: string }
>(
  `UPDATE "host" SET connection = $connection, revision = revision + CASE WHEN connection = $connection THEN 0 ELSE 1 END
   WHERE id = $hostId AND ${holds('$shard')} RETURNING id`,
);

/**
 * Those that are connected, and whether something else was concluded of them before. It waits for no row that somebody else is at: one would hold up all
 * others. That is said again.
 */
export const noteConnected = written<{ id: string; isIll: boolean }, { ids: string[]; holder: string }>(
  `UPDATE "host" SET connection = 'connected', "lastSeenAt" = now(), revision = revision + CASE WHEN connection = 'connected' THEN 0 ELSE 1 END
   WHERE id = ANY(ARRAY(SELECT h.id FROM "host" h WHERE h.id = ANY($ids::uuid[]) FOR NO KEY UPDATE SKIP LOCKED))
     -- Asked once: as a condition of each row it would lead the planner to all hosts of these shards.
     AND shard = ANY(ARRAY(SELECT l.shard FROM "shardLease" l WHERE l.holder = $holder AND l."expiresAt" > now())) RETURNING id, health <> 'well' AS "isIll"`,
);

/**
 * Of all hosts of these shards is said now whether they are connected. One row for each shard, however many hosts it has. It waits for nobody, so that
 * it and the renewal of the same leases do not wait for each other: what is being renewed has its turn the next time.
 */
export const tellShards = written<never, { shards: number[]; holder: string }>(
  `UPDATE "shardLease" l SET "toldAt" = now() FROM (
     SELECT shard FROM "shardLease" WHERE shard = ANY($shards::int[]) AND holder = $holder AND "expiresAt" > now() FOR UPDATE SKIP LOCKED) mine
   WHERE l.shard = mine.shard`,
);
