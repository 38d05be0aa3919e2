/** Operations that begin operations: a child is one like any other, in the name of whoever asked for its parent. */
import { type Database, run } from '../database/database.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import type { Outcome } from './change.ts';
import { acceptAs } from './own.ts';
import { callerNow } from './rights.ts';

export interface ChildRequest {
  /** Such as `instance.stop`. */
  type: string;
  targetId: string | null;
  input?: Record<string, unknown>;
}

/**
 * Accepts what an operation begins, under the rights that its actor has left. `key` says as what of its parent: asked for again, it answers
 * what it answered first.
 */
export async function acceptChild(
  database: Database,
  parentId: string,
  key: string,
  { type, targetId, input }: ChildRequest,
): Promise<Outcome> {
  const [parent] = await run<{ actorApiKeyId: string; requestId: string | null }>(
    database.pool,
    `SELECT "actorApiKeyId", "requestId" FROM "operation" WHERE id = $1`,
    [parentId],
  );
  if (!parent) throw new Problem('NOT_FOUND', `there is no operation ${parentId}`);
  const [kind = '', verb = ''] = type.split('.');
  return acceptAs(
    database,
    await callerNow(database.pool, parent.actorApiKeyId),
    { kind: kindOf(kind), verb, targetId, body: input ?? {} },
    {
      requestId: parent.requestId ?? parentId,
      idempotencyKey: key,
      parent: { operationId: parentId, key },
    },
  );
}
