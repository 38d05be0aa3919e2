/**
 * Resources that say an operation holds them which has ended. An operation's end and what it makes of its resources are one transaction,
 * so there are none unless something is wrong; and then the resource would refuse everything for ever.
 */
import { type Database, insertAll, transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { type Forgotten, forgottenOf, freeForgotten, heldKinds } from '../../database/old.ts';
import type { Kind } from '../../model/kind.ts';
import type { Log } from '../../runtime/log.ts';
import { metrics, tellFromZero } from '../../runtime/metrics.ts';

tellFromZero(
  metrics.forgotten,
  heldKinds.map(({ name }) => ({ kind: name })),
);

/** The state at rest that fits best: where the operation led to when it succeeded, else where it came from. */
export function restOf(
  kind: Kind,
  { state, type, ended, hostId }: Pick<Forgotten, 'state' | 'type' | 'ended' | 'hostId'>,
): string | null {
  const passing = Object.entries(kind.actions).filter(([, { via }]) => via !== undefined && via === state);
  if (passing.length === 0) return state;
  const [, action] = passing.find(([verb]) => type === `${kind.name}.${verb}`) ?? passing[0] ?? [];
  if (ended === 'succeeded' && action?.to) return action.to;
  const from = action?.from ?? [];
  // An instance runs where its records say that it is on a host.
  const likely = hostId ? 'running' : 'stopped';
  return from.includes(likely) ? likely : (from[0] ?? state);
}

/** Frees them, says so, and answers how many there were. */
export async function releaseForgotten(database: Database, log: Log): Promise<number> {
  let count = 0;
  for (const kind of heldKinds) {
    const rows = await forgottenOf(kind)(database.connections);
    for (const row of rows) {
      const state = restOf(kind, row);
      const freed = await transaction(database, async (tx) => {
        const [now] = await freeForgotten(kind)(tx, { id: row.id, operationId: row.operationId, state });
        if (!now) return false;
        await insertAll(tx, {
          event: [
            eventRow({
              type: `${kind.name}.released`,
              severity: 'error',
              resourceKind: kind.name,
              resourceId: row.id,
              projectId: row.projectId,
              operationId: row.operationId,
              payload: { was: row.state, is: state },
            }),
          ],
        });
        return true;
      });
      if (!freed) continue;
      count += 1;
      metrics.forgotten.labels(kind.name).inc();
      log.error(
        { resourceKind: kind.name, resourceId: row.id, operationId: row.operationId, was: row.state, is: state },
        'a resource was held by an operation that has ended; it is free again',
      );
    }
  }
  return count;
}
