/** Which process carries which share of the hosts. */
import { shardCount } from '../model/shards.ts';
import { from, statement, type Values, written } from './statement.ts';

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

export const giveShardsBack = statement((p: Values<{ holder: string }>) =>
  from.updateTable('shardLease').set({ holder: null }).where('holder', '=', p.holder),
);

/** Whether a process holds a share. One that was suspended believes in its lease; only the database knows. */
export const holds = (shard: string): string =>
  `EXISTS (SELECT 1 FROM "shardLease" WHERE shard = ${shard} AND holder = $holder AND "expiresAt" > now())`;

export const isHeld = written<{ mine: boolean }, { shard: number; holder: string }>(
  `SELECT ${holds('$shard')} AS mine`,
);

/** What the one that carries a host says of it. */
export const noteConnection = written<
  never,
  { hostId: string; connection: 'connected' | 'degraded' | 'disconnected'; shard: number; holder: string }
>(
  `UPDATE "host" SET connection = $connection, "lastSeenAt" = CASE WHEN $connection = 'connected' THEN now() ELSE "lastSeenAt" END,
          revision = revision + CASE WHEN connection = $connection THEN 0 ELSE 1 END
   WHERE id = $hostId AND ${holds('$shard')}`,
);

/** The same of many that are connected. */
export const noteConnected = written<never, { ids: string[]; shards: number[]; holder: string }>(
  `UPDATE "host" SET connection = 'connected', "lastSeenAt" = now(), revision = revision + CASE WHEN connection = 'connected' THEN 0 ELSE 1 END
   FROM unnest($ids::uuid[], $shards::int[]) AS mine(id, shard) WHERE "host".id = mine.id AND ${holds('mine.shard')}`,
);
