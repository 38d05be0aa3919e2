/**
 * Starts operations whose turn has come, whoever accepted them; puts events and audit entries in order, and old ones away; ends recovery windows.
 * Any number may run: each piece of work is taken under a lock or is harmless when done twice.
 */
import { WorkflowNotFoundError } from '@temporalio/client';
import { systemCaller } from '../acceptance/caller.ts';
import { acceptOwn } from '../acceptance/own.ts';
import { archivedAtOnce, archiveOld } from '../activities/platform/archive.ts';
import { noteHead, sealAudit } from '../activities/platform/trail.ts';
import { askAgainIn, askOperation, passOnCancel } from '../api/operations.ts';
import { openDatabase, run, transaction } from '../database/database.ts';
import { type ReadyOperation, readyOperations, startOfReady, targetNames } from '../database/queue.ts';
import { allKinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import { log } from '../runtime/log.ts';
import { metrics, serveMetrics } from '../runtime/metrics.ts';
import { Problem } from '../runtime/problem.ts';
import { openTemporal } from '../temporal/connection.ts';
import { startOperation } from '../temporal/start-operation.ts';
import { callbackDelivery } from './callbacks.ts';
import { renewHostCertificates } from './certificates.ts';
import { deleteExpired } from './expired.ts';
import { releaseForgotten } from './forgotten.ts';
import { stopRequested } from './stop.ts';
import { endAbandonedUploads } from './uploads.ts';

const database = openDatabase(config.databaseUrl, config.dispatcherConnections, { byIndex: true });
/** Of their own, so that what tenants' receivers do holds up nothing else. */
const callbacks = openDatabase(config.databaseUrl, config.callbackConnections, { byIndex: true });
const temporal = openTemporal();
let stopping = false;
const stop = stopRequested().then(() => {
  stopping = true;
});
serveMetrics(config.metricsPort);

/** What Temporal has taken it keeps, however long it has to wait for a worker. It would have to lose its data to need more asking. */
const trustSeconds = 60;
/** What Temporal did not take. */
const retrySeconds = 2;

/** A child is begun by the run of its parent, which waits for its turn. Answers false of what has no parent, or none that runs any more. */
async function tellParent({ id, parentOperationId }: ReadyOperation): Promise<boolean> {
  if (parentOperationId === null) return false;
  try {
    await temporal().workflow.getHandle(parentOperationId).signal('turn', id);
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** Whether there may be more whose turn it is. */
async function dispatch(): Promise<boolean> {
  const { operations: ready, more } = await readyOperations(database);
  const names = await targetNames(database, ready);
  const taken: string[] = [];
  const refused: string[] = [];
  await Promise.all(
    ready.map(async (operation) => {
      try {
        if (!(await tellParent(operation))) await startOperation(temporal(), startOfReady(operation, names));
        taken.push(operation.id);
      } catch (error) {
        refused.push(operation.id);
        log.warn(
          { operationId: operation.id, error: error instanceof Error ? error.message : String(error) },
          'Temporal did not take the operation; trying again',
        );
      }
    }),
  );
  if (taken.length > 0) await askAgainIn(database, taken, trustSeconds);
  if (refused.length > 0) await askAgainIn(database, refused, retrySeconds);
  const [counts] = await run<{ queued: string; stuck: string }>(
    database.pool,
    `SELECT count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'stuck') AS stuck FROM "operation" WHERE state IN ('queued', 'stuck')`,
  );
  metrics.queueDepth.set(Number(counts?.queued ?? 0));
  metrics.stuck.set(Number(counts?.stuck ?? 0));
  return more;
}

/**
 * Who pulls the plug does not wait until a guest has been asked nicely for ten minutes: a stop that is still asking is cancelled for the
 * sake of one by force that waits behind it.
 */
async function giveWayToForce(): Promise<void> {
  const asking = await run<{ id: string; state: string }>(
    database.pool,
    `UPDATE "operation" soft SET "cancelRequestedAt" = now(), "updatedAt" = now(), revision = soft.revision + 1
     FROM "operation" force
     WHERE force.state = 'queued' AND force.type = 'instance.stop' AND force.input->>'mode' = 'force' AND force."cancelRequestedAt" IS NULL
       AND soft."targetId" = force."targetId" AND soft.type = 'instance.stop' AND soft.input->>'mode' <> 'force'
       AND soft.state IN ('queued', 'running') AND soft."createdAt" < force."createdAt"
       AND NOT soft."pointOfNoReturnPassed" AND soft."cancelRequestedAt" IS NULL
     RETURNING soft.id, soft.state`,
  );
  // One that has not begun learns of it at its turn.
  await passOnCancels(asking.filter(({ state }) => state === 'running'));
}

const passOnCancels = (operations: { id: string }[]): Promise<unknown> =>
  Promise.all(
    operations.map(({ id }) =>
      passOnCancel(database, temporal(), id).catch((error: unknown) => {
        if (!(error instanceof Problem)) throw error;
      }),
    ),
  );

/** Cancels that were written down but may not have reached their workflow. */
async function repeatCancels(): Promise<void> {
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT id FROM "operation" WHERE state = 'running' AND "cancelRequestedAt" < now() - interval '5 seconds' AND NOT "pointOfNoReturnPassed" LIMIT 100`,
  );
  await passOnCancels(rows);
}

/** What is stuck because a host did not answer goes on by itself when that answers again, or is dead: then nothing has to be done on it. */
async function retryWhereHostsAnswer(): Promise<void> {
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT o.id FROM "operation" o WHERE o.state = 'stuck' AND o.error->>'code' = 'HOST_UNREACHABLE' AND o."updatedAt" < now() - interval '5 seconds'
       AND NOT EXISTS (
         SELECT 1 FROM "operationLock" l JOIN "hostClaim" c ON c."instanceId" = l."resourceId" JOIN "host" h ON h.id = c."hostId"
         WHERE l."operationId" = o.id AND h.connection = 'disconnected' AND h."deadAt" IS NULL) LIMIT 100`,
  );
  const { userId, apiKeyId } = systemCaller();
  for (const { id } of rows)
    await askOperation(
      database,
      temporal(),
      id,
      'retry',
      { userId, apiKeyId, requestId: 'host-answers', sourceAddress: 'system' },
      {},
    ).catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
    });
}

const sealOrder = `ORDER BY "createdAt", id LIMIT 1000`;

/** Places events in the stream after their commit, so that a follower who has seen number n has seen all before it. */
async function sealEvents(): Promise<number> {
  return transaction(database, async (tx) => {
    const [lock] = await run<{ mine: boolean }>(
      tx,
      `SELECT pg_try_advisory_xact_lock(hashtextextended('seal events', 0)) AS mine`,
    );
    if (!lock?.mine) return 0;
    const sealed = await run(
      tx,
      `WITH fresh AS (SELECT id, row_number() OVER (ORDER BY "createdAt", id) AS place FROM (SELECT id, "createdAt" FROM "event" WHERE sequence IS NULL ${sealOrder}) f),
            last AS (SELECT coalesce(max(sequence), 0) AS n FROM "event")
       UPDATE "event" e SET sequence = last.n + fresh.place FROM fresh, last WHERE e.id = fresh.id RETURNING 1`,
    );
    return sealed.length;
  });
}

const windowsAtOnce = 50;
const firstId = '00000000-0000-0000-0000-000000000000';
/** Where the last look ended: what is refused, such as what is protected, must not keep others from their turn. */
const lookedUpTo = new Map<string, string>();

/** Destroyed instances and volumes go for good when their recovery window is over: it began when they were destroyed. */
async function endRecoveryWindows(): Promise<void> {
  for (const name of ['instance', 'volume'] as const) {
    const rows = await run<{ id: string }>(
      database.pool,
      `SELECT t.id FROM "${name}" t, "setting" s WHERE s.name = 'instance.recoveryWindowSeconds' AND t.state = 'destroyed' AND t."deletedAt" IS NULL AND t."currentOperationId" IS NULL
         ${name === 'volume' ? `AND (t.role = 'data' OR t."instanceId" IS NULL)` : ''}
         AND t."destroyedAt" < now() - make_interval(secs => (s.value #>> '{}')::int) AND t.id > $1 ORDER BY t.id LIMIT ${windowsAtOnce}`,
      [lookedUpTo.get(name) ?? firstId],
    );
    lookedUpTo.set(name, (rows.length === windowsAtOnce ? rows.at(-1)?.id : undefined) ?? firstId);
    for (const { id } of rows) await acceptOwn(database, name, 'expunge', id, 'recovery-window');
  }
}

async function forgetOldAnswers(): Promise<void> {
  await run(
    database.pool,
    `DELETE FROM "idempotencyKey" k USING "setting" s WHERE s.name = 'idempotency.keepSeconds' AND k."createdAt" < now() - make_interval(secs => (s.value #>> '{}')::int)`,
  );
}

/** Deleted resources can be read for a while, and then not any more. */
async function forgetTombstones(): Promise<void> {
  for (const { name } of allKinds)
    await run(
      database.pool,
      `DELETE FROM "${name}" WHERE id IN (
         SELECT t.id FROM "${name}" t, "setting" s WHERE s.name = 'record.tombstoneSeconds'
           AND t."deletedAt" < now() - make_interval(secs => (s.value #>> '{}')::int) LIMIT 1000)`,
    );
}

/** Woken by every release of a lock and every acceptance that waits; looks by itself once a second. */
const sleeping = new Set<() => void>();
async function listen(): Promise<void> {
  while (!stopping) {
    const client = database.connection();
    try {
      await client.connect();
      await client.query('LISTEN belay_queue');
      client.on('notification', () => {
        for (const wake of sleeping) wake();
      });
      await new Promise<void>((resolve) => {
        client.once('end', resolve);
        client.once('error', () => resolve());
        void stop.then(resolve);
      });
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    } finally {
      await client.end().catch(() => {});
    }
  }
}

async function repeat(
  what: string,
  work: () => Promise<unknown>,
  pauseMs: (result: unknown) => number,
  wakes?: Set<() => void>,
): Promise<void> {
  while (!stopping) {
    let result: unknown;
    try {
      result = await work();
    } catch (error) {
      log.warn({ error: error instanceof Error ? error.message : String(error) }, `${what} failed; trying again`);
    }
    const pause = new Promise<void>((resolve) => {
      const wake = (): void => {
        wakes?.delete(wake);
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(wake, pauseMs(result));
      wakes?.add(wake);
    });
    await Promise.race([pause, stop]);
  }
}

const hourMs = 60 * 60 * 1000;
const freed = new Set<() => void>();
/** A place that is free again is used at once. */
const delivery = callbackDelivery(callbacks, log, () => freed.forEach((wake) => void wake()));

log.info('dispatcher ready');
await Promise.all([
  listen(),
  repeat('dispatching', dispatch, (more) => (more ? 0 : 1_000), sleeping),
  repeat('giving way to force', giveWayToForce, () => 1_000, sleeping),
  repeat('repeating cancels', repeatCancels, () => 5_000),
  repeat('retrying what waits for hosts', retryWhereHostsAnswer, () => 3_000),
  // Twenty of a thousand each minute, then none for an hour.
  repeat(
    'renewing certificates of hosts',
    () => renewHostCertificates(database, log),
    (ending) => (ending === 0 ? hourMs : 60_000),
  ),
  repeat('sealing events', sealEvents, (sealed) => (sealed === 0 ? 150 : 0)),
  repeat(
    'sealing the audit trail',
    () => sealAudit(database),
    (sealed) => (sealed === 0 ? 500 : 0),
  ),
  repeat(
    'noting the head of the audit trail',
    () =>
      noteHead(
        database,
        (note) => log.info({ note }, 'the audit trail goes on from here'),
        (note) => log.error({ note }, 'the audit trail does not hold any more what was noted of it'),
      ),
    () => 10_000,
  ),
  repeat(
    'archiving',
    () => archiveOld(database),
    (moved) => (moved === archivedAtOnce ? 0 : 600_000),
  ),
  repeat(
    'delivering callbacks',
    () => delivery.begin(),
    (begun) => (begun === 0 ? 500 : 0),
    freed,
  ),
  repeat(
    'releasing what ended operations hold',
    () => releaseForgotten(database, log),
    () => 5_000,
  ),
  repeat(
    'throwing away what uploads of dead servers left',
    () => endAbandonedUploads(database, log),
    () => 5_000,
  ),
  repeat('ending recovery windows', endRecoveryWindows, () => 5_000),
  repeat(
    'deleting what has expired',
    () => deleteExpired(database),
    () => 5_000,
  ),
  repeat('forgetting old answers', forgetOldAnswers, () => 60_000),
  repeat('forgetting tombstones', forgetTombstones, () => 300_000),
]);
await delivery.ended();
await Promise.all([database.close(), callbacks.close()]);
process.exit(0);
