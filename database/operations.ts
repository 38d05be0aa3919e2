/** What is asked of operations in more than the builder can say. */
import { shutOut } from './fence.ts';
import { from, now, statement, type Values, written } from './statement.ts';

/**
 * Asks a stop that waits for the guest to end, for the sake of one by force that waits behind it. One that is a part of a delete is not what
 * the other waits for: it would only make that fail.
 */
export const giveWayToForced = written<{ id: string; state: string }>(
  `UPDATE "operation" soft SET "cancelRequestedAt" = now(), "updatedAt" = now(), revision = soft.revision + 1
   FROM "operation" force
   WHERE force.state = 'queued' AND force.type = 'instance.stop' AND force.input->>'mode' = 'force' AND force."cancelRequestedAt" IS NULL
     AND soft."targetId" = force."targetId" AND soft.type = 'instance.stop' AND soft.input->>'mode' <> 'force'
     AND soft.state IN ('queued', 'running') AND soft."createdAt" < force."createdAt"
     AND NOT soft."pointOfNoReturnPassed" AND soft."cancelRequestedAt" IS NULL
     AND NOT EXISTS (SELECT 1 FROM "operationLock" l WHERE l."operationId" = soft.id AND l."resourceId" = soft."targetId" AND l.within IS NOT NULL)
   RETURNING soft.id, soft.state`,
);

/** Those that are stuck for a host that did not answer, and all of whose hosts do now, or can not hold anything of theirs any more. */
export const stuckWhereHostsAnswer = written<{ id: string }>(
  `SELECT o.id FROM "operation" o WHERE o.state = 'stuck' AND o.error->>'code' IN ('HOST_UNREACHABLE', 'HOST_FENCED') AND o."updatedAt" < now() - interval '5 seconds'
     AND NOT EXISTS (
       SELECT 1 FROM "operationLock" l JOIN "hostClaim" c ON c."instanceId" = l."resourceId" JOIN "host" h ON h.id = c."hostId"
       WHERE l."operationId" = o.id AND (h.connection = 'disconnected' OR h."fencedAt" IS NOT NULL) AND NOT ${shutOut('h.id', 'c."instanceId"')}) LIMIT 100`,
);

/** Merges what steps have told into the lists of their operations. `told` is JSON: `[{id, committed, event}]`. */
export const mergeSteps = written<never, { told: string }>(
  `UPDATE "operation" o SET steps = belay_merge_steps(o.steps, e.events), "pointOfNoReturnPassed" = o."pointOfNoReturnPassed" OR e.committed,
     progress = greatest(o.progress, e.progress), "updatedAt" = now()
   FROM (SELECT id, jsonb_agg(event ORDER BY (event->>'index')::int) AS events, bool_or(committed) AS committed,
                max(CASE WHEN event->>'state' = 'done' THEN least(99, ((event->>'index')::int + 1) * 12) ELSE 0 END) AS progress
         FROM jsonb_to_recordset($told::jsonb) AS t(id uuid, committed boolean, event jsonb) GROUP BY id) e
   WHERE o.id = e.id AND o."endedAt" IS NULL`,
);

/** In which project an operation lies, who has begun it, and whether that one is of these accounts, of the project's, or a member of the project. */
export const begunBy = written<
  { projectId: string | null; actorUserId: string | null; known: boolean },
  { id: string; accountIds: string[] }
>(
  `SELECT o."projectId", o."actorUserId", coalesce(u."accountId" = ANY($accountIds::uuid[]) OR u."accountId" = p."accountId" OR EXISTS (
            SELECT 1 FROM "roleBinding" b WHERE b."deletedAt" IS NULL AND b.state = 'active' AND (b."expiresAt" IS NULL OR b."expiresAt" > now())
              AND b."targetKind" = 'project' AND b."targetId" = p.id AND b."subjectKind" = 'user' AND b."subjectId" = u.id), FALSE) AS known
   FROM "operation" o LEFT JOIN "user" u ON u.id = o."actorUserId" LEFT JOIN "project" p ON p.id = o."projectId" WHERE o.id = $id`,
);

/** The dispatcher looks at once: heard when the transaction has ended. */
export const wakeDispatcher = written<never>(`SELECT pg_notify('belay_queue', '')`);

/** What an operation waits for a person to do; null when that is done. Answers a row when that is news. */
export const noteWait = statement((p: Values<{ id: string; waitsFor: string | null }>) =>
  from
    .updateTable('operation')
    .set((eb) => ({ waitsFor: p.waitsFor, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('endedAt', 'is', null)
    .where('waitsFor', 'is distinct from', p.waitsFor)
    .returning(['parentOperationId', 'targetKind', 'targetId', 'projectId']),
);

/** Of several parts that tell it what they wait for, each sees those before it. */
export const lockParent = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operation').select('id').where('id', '=', p.id).forUpdate(),
);

/** The first of its parts that waits for a person. */
export const waitingPart = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select('id')
    .where('parentOperationId', '=', p.id)
    .where('waitsFor', 'is not', null)
    .where('endedAt', 'is', null)
    .orderBy('createdAt')
    .orderBy('id')
    .limit(1),
);

/** The operation above tells which of its parts wait. */
export const noteWaitingParts = written<never, { id: string }>(
  `UPDATE "operation" parent SET "updatedAt" = now(), revision = revision + 1, "waitsFor" = (
     SELECT left(string_agg('operation ' || part.id || ': ' || part."waitsFor", '; ' ORDER BY part."createdAt", part.id), 1024)
     FROM "operation" part WHERE part."parentOperationId" = $id::uuid AND part."waitsFor" IS NOT NULL AND part."endedAt" IS NULL)
   WHERE parent.id = $id AND parent."endedAt" IS NULL`,
);
