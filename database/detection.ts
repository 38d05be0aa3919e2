/** Whether hosts live, as the records have it: who can be asked about one that is silent, what was concluded, and what holds a failover back. */

import { kindOf } from '../model/kinds.ts';
import { servingStates } from '../model/platform/host.ts';
import { toldColumns } from './events.ts';
import { holds } from './leases.ts';
import { from, literals, statement, written } from './statement.ts';

/** Those that are connected say so every fifteen seconds; who has missed two of them is not heard any more, whatever its record says. */
const freshSeconds = 40;
/** Nobody misses a host in maintenance: it may be switched off. */
const missed = `'active', 'enteringMaintenance'`;
const serving = literals(servingStates);
const heard = (host: string): string =>
  `${host}.connection = 'connected' AND ${host}."lastSeenAt" > now() - make_interval(secs => ${freshSeconds})`;

/** How many hosts a zone has in use, and how many of them are heard. */
const zoneOf = (zoneId: string): string => `(
  SELECT count(*)::int AS hosts, count(*) FILTER (WHERE ${heard('z')})::int AS heard
  FROM "host" z WHERE z."zoneId" = ${zoneId} AND z.state IN (${missed}) AND z."deletedAt" IS NULL)`;

export interface SilentHost {
  zoneId: string;
  address: string;
  underlayAddress: string | null;
  sshPort: number;
  health: 'well' | 'unreachable' | 'suspect' | 'down';
  failsOver: boolean;
  hosts: number;
  heard: number;
  /** Up to three hosts of its cluster that are heard, others at each look. */
  peers: string[];
}

/** What is known of a host that is in use; no row of another. */
export const silentHost = written<SilentHost, { hostId: string }>(
  `SELECT h."zoneId", h.address, h."underlayAddress", h."sshPort", h.health, (c.ha->>'enabled')::boolean AS "failsOver", z.hosts, z.heard,
     ARRAY(SELECT p.id FROM "host" p WHERE p."clusterId" = h."clusterId" AND p.id <> h.id AND p."deletedAt" IS NULL
           AND p.state IN (${serving}) AND ${heard('p')} ORDER BY random() LIMIT 3) AS peers
   FROM "host" h JOIN "cluster" c ON c.id = h."clusterId", LATERAL ${zoneOf('h."zoneId"')} z
   WHERE h.id = $hostId AND h.state IN (${missed}) AND h."deletedAt" IS NULL`,
);

/** Hosts in these states are watched; and after how long a silence others are asked about each. */
export const watchedHosts = statement(() =>
  from
    .selectFrom('host as h')
    .innerJoin('cluster as c', 'c.id', 'h.clusterId')
    .select(['h.id', 'h.address', 'h.sshPort', 'c.ha'])
    .where('h.state', 'in', [...servingStates, 'connecting', 'exitingMaintenance'])
    .where('h.deletedAt', 'is', null),
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
   FROM before, LATERAL ${zoneOf('(SELECT "zoneId" FROM "host" WHERE id = $hostId)')} z
   WHERE h.id = before."beforeId" AND h.connection <> 'connected' AND h.state IN (${missed}) AND h."deletedAt" IS NULL
     AND ($health <> 'down' OR was IN ('suspect', 'down'))
     AND ($health = 'unreachable' OR 2 * z.heard >= z.hosts)
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

/** What was shut out so long ago does not count as one that fails at the same time. */
const atOnceSeconds = 600;

/**
 * How many hosts of a zone fail at once, and how many may. It is asked when the host at hand is down in the records: of several that ask at the same
 * moment the last sees all of them.
 */
export const failingAtOnce = written<{ failing: number; allowed: number }, { zoneId: string }>(
  `SELECT failing, greatest(1, floor(hosts * percent / 100.0))::int AS allowed FROM (
     SELECT count(*) FILTER (WHERE h.health = 'down' AND (h.state IN (${missed}) OR h."healthSince" > now() - make_interval(secs => ${atOnceSeconds})))::int AS failing,
       count(*)::int AS hosts, (SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = 'ha.maxFailedHostsPercent') AS percent
     FROM "host" h WHERE h."zoneId" = $zoneId AND h.state IN (${missed}, 'fencing', 'fenced') AND h."deletedAt" IS NULL) counted`,
);
