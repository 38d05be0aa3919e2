/** Operations that begin operations: a child is one like any other, in the name of whoever asked for its parent. */

import { type Database, insertAll, type Transaction } from '../database/database.ts';
import { from, statement, type Values } from '../database/statement.ts';
import type { Kind } from '../model/kind.ts';
import { actionNamed, kindOf } from '../model/kinds.ts';
import { partsOfType } from '../model/operationName.ts';
import type { ChildRequest } from '../model/platform/operation.ts';
import { Problem } from '../runtime/problem.ts';
import { type Caller, systemCaller } from './caller.ts';
import type { Outcome } from './change.ts';
import { permissionOf } from './operatorOnly.ts';
import { acceptAs, type OwnReason } from './own.ts';
import { refusedBody } from './records.ts';
import { holderOf } from './rights.ts';

interface Actor {
  actorUserId: string;
  actorApiKeyId: string;
}

const parentOf = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select(['actorUserId', 'actorApiKeyId', 'requestId', 'projectId', 'type', 'targetId'])
    .where('id', '=', p.id)
    .$narrowType<Actor & { type: string; targetId: string }>(),
);

const lastDone = statement((p: Values<{ targetId: string; type: string }>) =>
  from
    .selectFrom('operation')
    .select('parentOperationId')
    .where('targetId', '=', p.targetId)
    .where('type', '=', p.type)
    .where('state', '=', 'succeeded')
    .orderBy('endedAt', 'desc')
    .limit(1),
);

async function refuseOfOthers(tx: Transaction, parentId: string, targetId: string, type: string): Promise<void> {
  const [last] = await lastDone(tx, { targetId, type });
  if (last && last.parentOperationId !== parentId)
    throw new Problem('INVALID_STATE', `the last ${type} of ${targetId} is not a part of operation ${parentId}`);
}

/** The rights of the platform under another's name: what was begun with all rights that it needs is finished, or undone, whatever is left of them. */
const goingOnAs = ({ actorUserId: userId, actorApiKeyId: apiKeyId }: Actor): Caller => ({
  ...systemCaller(),
  userId,
  apiKeyId,
  goesOn: true,
});

/** What a schedule makes says so: it is the schedule's own to let go of again. */
const marksOf = (parent: { type: string; targetId: string }, { fields }: Kind): Record<string, unknown> =>
  parent.type === 'schedule.runNow' && fields.scheduleId ? { scheduleId: parent.targetId } : {};

/**
 * Accepts what an operation begins, under the rights that its actor has left; with `goesOn` under those it was begun with, because there is
 * no other way for it than this. `key` says as what of its parent: asked for again, it answers what it answered first.
 */
export async function acceptChild(
  database: Database,
  parentId: string,
  key: string,
  { type, targetId, input, onlyIf, whileOwn }: ChildRequest,
  goesOn: boolean,
): Promise<Outcome> {
  const [parent] = await parentOf(database.connections, { id: parentId });
  if (!parent) throw new Problem('NOT_FOUND', `there is no operation ${parentId}`);
  const holder = goesOn ? null : await holderOf(database.connections, parent.actorApiKeyId);
  const refused =
    goesOn || holder
      ? {}
      : { refused: new Problem('FORBIDDEN', 'the API key that asked for this can not be used any more') };
  const { kindName, verb } = partsOfType(type);
  const kind = kindOf(kindName);
  const requestId = parent.requestId ?? ('parent' satisfies OwnReason);
  try {
    return await acceptAs(
      database,
      holder ?? goingOnAs(parent),
      { kind, verb, targetId, body: input ?? {} },
      {
        requestId,
        idempotencyKey: key,
        ...(verb === 'create' ? { marks: marksOf(parent, kind) } : {}),
        ...(actionNamed(parent.type)?.action.permitsChildren ? { permitted: true } : {}),
        ...(onlyIf
          ? {
              conditions: [
                {
                  ...onlyIf,
                  code: 'INVALID_STATE',
                  message: `${kind.name} ${targetId} is not as it was when this was planned`,
                },
              ],
            }
          : {}),
        ...(whileOwn && targetId !== null
          ? { refuse: (tx: Transaction) => refuseOfOthers(tx, parentId, targetId, whileOwn) }
          : {}),
        parent: { operationId: parentId, key, ...refused },
      },
    );
  } catch (error) {
    if (error instanceof Problem && error.status < 500)
      await noteRefusal(database, {
        projectId: parent.projectId,
        actorUserId: parent.actorUserId,
        actorApiKeyId: parent.actorApiKeyId,
        sourceAddress: 'system',
        permission: permissionOf({ kind, verb }),
        resourceKind: kind.name,
        resourceId: targetId,
        input: refusedBody(kind, verb, input ?? {}),
        code: error.code,
        operationId: parentId,
        requestId,
      });
    throw error;
  }
}

/** Who is refused as a part of something larger is in the audit trail like everybody. */
const noteRefusal = (database: Database, entry: Record<string, unknown>): Promise<void> =>
  insertAll(database.connections, { auditEntry: [{ id: crypto.randomUUID(), outcome: 'denied', ...entry }] });
