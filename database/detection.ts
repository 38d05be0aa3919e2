/** Whether hosts live, as the records have it: who can be asked about one that is silent, what was concluded, and what holds a failover back. */

import { kindOf } from '../model/kinds.ts';
import { servingStates } from '../model/platform/host.ts';
import { toldColumns } from './events.ts';
import { canBeShutOut } from './fence.ts';
import { holds } from './leases.ts';
import { from, isAmong, literals, statement, type Values, written } from './statement.ts';

/** What is found of a host that is silent, by what was concluded. */
export const silenceFindings = { left: 'hostUnreachable', down: 'hostDown' } as const;
/** What a host that answers says of itself. */
export const ownFindings = ['storageUnreachable', 'hypervisorSilent'] as const;

/** Hosts that answer, and on which nothing that is new would run: their storage is cut off, or their hypervisor does nothing. Few at any time. */
export const illHosts = `SELECT ill."resourceId" FROM "finding" ill WHERE ill."resourceKind" = 'host' AND ill.what IN (${literals(ownFindings)})
    AND ill.state IN ('sighted', 'open', 'ignored') AND ill."deletedAt" IS NULL`;

/**
 * Whoever carries a shard says again and again that it knows of all its hosts whether they are connected. Who has not said so for so long hears nobody
 * any more, whatever the records of its hosts say. It is longer than another takes to go on with them.
 */
const freshSeconds = 40;
/** Nobody misses a host in maintenance: it may be switched off. While it is connected it is missed for the sake of its guests. */
const missed = (host: string): string =>
  `(${host}.state IN ('active', 'enteringMaintenance', 'connecting')
     AND (${host}.state <> 'connecting' OR EXISTS (SELECT 1 FROM "hostClaim" g WHERE g."hostId" = ${host}.id)))`;
const serving = literals(servingStates);
const heard = (host: string): string =>
  `(${host}.connection = 'connected' AND ${host}.shard IN (
     SELECT s.shard FROM "shardLease" s WHERE s."toldAt" > now() - make_interval(secs => ${freshSeconds})))`;

/** How many hosts a zone has in use, and how many of them are heard. */
const zoneOf = (zoneId: string): string => `(
  SELECT count(*)::int AS hosts, count(*) FILTER (WHERE ${heard('z')})::int AS heard
  FROM "host" z WHERE z."zoneId" = ${zoneId} AND ${missed('z')} AND z."deletedAt" IS NULL)`;

/** What others have to know of a host to tell whether it lives, and who they are. */
export interface AskedAbout {
  address: string;
  underlayAddress: string | null;
  sshPort: number;
  hasBmc: boolean;
  health: 'well' | 'unreachable' | 'suspect' | 'down';
  /** Up to three hosts of its cluster that are heard, others at each look. */
  peers: string[];
}

const peersFrom = (from: string): string => `
  SELECT p.id FROM "host" p WHERE p."clusterId" = h."clusterId" AND p.id <> h.id AND p."deletedAt" IS NULL
    AND p.state IN (${serving}) AND ${heard('p')} AND p.id > ${from} ORDER BY p.id LIMIT 3`;

/** From anywhere in the order of the ids on, and then from its beginning: a cluster may have many. */
const about = `h.address, h."underlayAddress", h."sshPort", h.bmc IS NOT NULL AS "hasBmc", h.health,
     ARRAY(SELECT id FROM (
       SELECT id, 0 AS lap FROM (${peersFrom('(SELECT gen_random_uuid())')}) further
       UNION ALL SELECT id, 1 FROM (${peersFrom(`'00000000-0000-0000-0000-000000000000'`)}) again) peers
     GROUP BY id ORDER BY min(lap), id LIMIT 3) AS peers`;

/** Whatever state it is in. */
export const askedAbout = written<AskedAbout, { hostId: string }>(
  `SELECT ${about} FROM "host" h WHERE h.id = $hostId AND h."deletedAt" IS NULL`,
);

export interface SilentHost extends AskedAbout {
  zoneId: string;
  failsOver: boolean;
}

/** What is known of a host that is in use; no row of another. */
export const silentHost = written<SilentHost, { hostId: string }>(
  `SELECT h."zoneId", (c.ha->>'enabled')::boolean AS "failsOver", ${about}
   FROM "host" h JOIN "cluster" c ON c.id = h."clusterId"
   WHERE h.id = $hostId AND ${missed('h')} AND h."deletedAt" IS NULL`,
);

export const watchedStates = [...servingStates, 'connecting', 'exitingMaintenance'] as const;

/** All hosts of these shards that are watched. */
export const watchedHosts = statement((p: Values<{ shards: number[] }>) =>
  from
    .selectFrom('host')
    .select(['id', 'address', 'sshPort', 'clusterId', 'connection', 'state'])
    .where((eb) => isAmong(eb.ref('shard'), p.shards))
    .where('state', 'in', [...watchedStates])
    .where('deletedAt', 'is', null)
    // Whoever takes them up in this order knows all of one shard after the other.
    .orderBy('shard')
    .orderBy('id'),
);

/** Longer than a transaction takes between its beginning, which is when it says that it changes something, and its end. */
const changedSeconds = 60;

/** Those that were changed in the last minute, and whether they are watched. It goes by the time, and never by the shards: these may be all. */
export const changedHosts = written<
  {
    id: string;
    address: string;
    sshPort: number;
    clusterId: string;
    connection: string;
    state: string;
    isWatched: boolean;
  },
  { shards: number[] }
>(
  `SELECT id, address, "sshPort", "clusterId", connection, state, state IN (${literals(watchedStates)}) AND "deletedAt" IS NULL AS "isWatched" FROM "host"
   WHERE "updatedAt" > now() - make_interval(secs => ${changedSeconds}) AND shard + 0 = ANY($shards::int[])`,
);

/** Of which the records say that they are not connected. */
export const awayHosts = statement((p: Values<{ shards: number[] }>) =>
  from
    .selectFrom('host')
    .select(['id', 'connection'])
    .where((eb) => isAmong(eb.ref('shard'), p.shards))
    .where('connection', '<>', 'connected')
    .where('deletedAt', 'is', null),
);

/** After how long a silence others are asked about a host of a cluster. */
export const patienceOfClusters = written<{ id: string; seconds: number }>(
  `SELECT id, (ha->>'suspectSeconds')::float8 AS seconds FROM "cluster" WHERE "deletedAt" IS NULL`,
);

const told = toldColumns(kindOf('host'));

/**
 * What the one that carries a host concludes of it. Answers a row when it holds: the host is silent still, and is carried by who says so; to be down, it
 * was suspect before; and it is neither while most of its zone is silent, because then nobody knows whose fault that is.
 */
export const noteHealth = written<
  { changed: boolean },
  { hostId: string; health: string; reason: string; shard: number; holder: string }
>(
  `WITH before AS (SELECT b.id AS "beforeId", b.health AS was FROM "host" b WHERE b.id = $hostId FOR UPDATE)
   UPDATE "host" h SET health = $health, "healthReason" = $reason,
     revision = revision + CASE WHEN was = $health AND h."healthReason" = $reason THEN 0 ELSE 1 END,
     "updatedAt" = CASE WHEN was = $health AND h."healthReason" = $reason THEN h."updatedAt" ELSE now() END,
     "healthSince" = CASE WHEN was = $health THEN h."healthSince" ELSE now() END
   FROM before
   WHERE h.id = before."beforeId" AND h.connection <> 'connected' AND ${missed('h')} AND h."deletedAt" IS NULL
     AND ($health <> 'down' OR was IN ('suspect', 'down'))
     -- Of a zone with many hosts that takes its time, and is asked only where it matters.
     AND ($health = 'unreachable' OR (SELECT 2 * z.heard >= z.hosts FROM ${zoneOf('(SELECT "zoneId" FROM "host" WHERE id = $hostId)')} z))
     AND ${holds('$shard')}
   RETURNING was <> $health AS changed, ${told}`,
);

/** It is heard: all that was concluded of it is over. Answers a row when there was something. */
export const noteWell = written<{ zoneId: string }, { hostId: string }>(
  `UPDATE "host" SET health = 'well', "healthReason" = NULL, "healthSince" = now(), revision = revision + 1, "updatedAt" = now()
   WHERE id = $hostId AND health <> 'well' AND connection = 'connected' RETURNING ${told}`,
);

export const zoneHeard = written<{ hosts: number; heard: number }, { zoneId: string }>(
  `SELECT hosts, heard FROM ${zoneOf('$zoneId')} z`,
);

/** Zones of which it is said that most of their hosts are silent. */
export const zonesSaidSilent = written<{ zoneId: string }>(
  `SELECT f."resourceId" AS "zoneId" FROM "finding" f
   WHERE f.class = 'risk' AND f."resourceKind" = 'zone' AND f.what = 'zoneSilent' AND f.state IN ('sighted', 'open', 'ignored') AND f."deletedAt" IS NULL`,
);

/** What was shut out so long ago does not count as one that fails at the same time. */
const atOnceSeconds = 600;

/** What would be shut out by itself if nothing held it back. What never is, because its cluster does not or because it can not be, may be down for months. */
const failsOver = `(c.ha->>'enabled' = 'true' AND ${canBeShutOut})`;

/**
 * How many hosts of a zone fail at once, and how many may: those that are shut out already, and those that wait for it, however long they do. It is asked
 * when the host at hand is down in the records: of several that ask at the same moment the last sees all of them.
 */
export const failingAtOnce = written<{ failing: number; allowed: number }, { zoneId: string }>(
  `SELECT failing, greatest(1, floor(hosts * percent / 100.0))::int AS allowed FROM (
     SELECT count(*) FILTER (WHERE h.health = 'down' AND CASE WHEN h.state IN ('fencing', 'fenced')
         THEN h."healthSince" > now() - make_interval(secs => ${atOnceSeconds}) ELSE ${failsOver} END)::int AS failing,
       count(*)::int AS hosts, (SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = 'ha.maxFailedHostsPercent') AS percent
     FROM "host" h JOIN "cluster" c ON c.id = h."clusterId"
     WHERE h."zoneId" = $zoneId AND (${missed('h')} OR h.state IN ('fencing', 'fenced')) AND h."deletedAt" IS NULL) counted`,
);
