/**
 * How a failover gets hold of its host: inside the hold of an operation that could not go on without the host, and gives way. Either of the two may end
 * first. What the other then finds is told here.
 */
import { kindOf } from '../model/kinds.ts';
import { literals, written } from './statement.ts';

const { actions } = kindOf('host');
const givingWay = literals(Object.keys(actions).flatMap((verb) => (actions[verb]?.givesWay ? [`host.${verb}`] : [])));

/** The operation `$operationId` holds the host, be it that a failover works inside its hold. */
export const isHeld = (host: string): string => `EXISTS (SELECT 1 FROM "operationLock" l
     WHERE l."operationId" = $operationId AND l."resourceKind" = 'host' AND l."resourceId" = ${host}.id AND l.mode <> 'S' AND l.entered)`;

/** Why it is being emptied. */
export const noteReason = written<never, { hostId: string; operationId: string; reason: string | null }>(
  `UPDATE "host" h SET "maintenanceReason" = $reason WHERE h.id = $hostId AND ${isHeld('h')}`,
);

/** Who holds a host and gives way: the host has failed, as others testify, or a person says so. */
export const givesWayOn = written<{ operationId: string }, { hostId: string; confirmDead: boolean }>(
  `SELECT l."operationId" FROM "operationLock" l JOIN "operation" o ON o.id = l."operationId" JOIN "host" h ON h.id = l."resourceId"
   WHERE l."resourceId" = $hostId AND l."resourceKind" = 'host' AND l.entered AND l.mode = 'X' AND o.type IN (${givingWay})
     AND (h.health = 'down' OR $confirmDead::boolean)`,
);

/**
 * One that gives way ends: what works inside its hold takes its place in line, and leaves the host as this one would have left it. Null: as it is. What waits to work
 * inside it waits behind all others.
 */
export const handOn = written<never, { operationId: string; hostId: string; state: string | null }>(
  `WITH inside AS (
     DELETE FROM "operationLock" i USING "operationLock" mine
     WHERE mine."operationId" = $operationId AND mine."resourceKind" = 'host' AND mine."resourceId" = $hostId
       AND i."resourceKind" = 'host' AND i."resourceId" = $hostId AND i.within = $operationId AND i.mode = 'X' AND i.entered
     RETURNING i."operationId", i."viaState", i."fromState", i."toState"),
   waiting AS (
     UPDATE "operationLock" w SET within = mine.within FROM "operationLock" mine
     WHERE mine."operationId" = $operationId AND mine."resourceKind" = 'host' AND mine."resourceId" = $hostId
       AND w."resourceKind" = 'host' AND w."resourceId" = $hostId AND w.within = $operationId AND w.mode = 'X' AND NOT w.entered)
   UPDATE "operationLock" mine SET "operationId" = inside."operationId", "viaState" = inside."viaState", "toState" = inside."toState",
     "fromState" = coalesce($state, inside."fromState"), "fromStates" = '{}', conditions = '[]'
   FROM inside WHERE mine."operationId" = $operationId AND mine."resourceKind" = 'host' AND mine."resourceId" = $hostId`,
);

/**
 * As the operation holds the host now. Asked when nobody else can change that any more: what was read before may be over. To one that holds it no more nothing is
 * handed back.
 */
export const holdOnHost = written<
  { within: string | null; fromState: string | null; toState: string | null },
  { operationId: string; hostId: string }
>(
  `SELECT above."operationId" AS within, l."fromState", l."toState" FROM "operationLock" l
     LEFT JOIN "operationLock" above ON above."operationId" = l.within AND above."resourceKind" = 'host' AND above."resourceId" = $hostId AND above.entered
   WHERE l."operationId" = $operationId AND l."resourceKind" = 'host' AND l."resourceId" = $hostId`,
);

/** What has worked inside a hold ends: however the one that gives way ends, it leaves the host in this state. */
export const leaveInside = written<never, { within: string; hostId: string; state: string }>(
  `UPDATE "operationLock" l SET "fromState" = $state, "toState" = CASE WHEN l."toState" IS NULL THEN NULL ELSE $state END FROM "operation" o
   WHERE o.id = l."operationId" AND o.id = $within AND o.type IN (${givingWay}) AND l."resourceKind" = 'host' AND l."resourceId" = $hostId`,
);
