/** Every change that is refused, on whatever route and for whatever reason, leaves its entry in the audit trail. That of an accepted one is in the accepting transaction. */
import { randomUUID } from 'node:crypto';
import type { RouterMiddleware } from '@koa/router';
import { refusedBody } from '../acceptance/records.ts';
import { type Database, insertAll } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import type { Problem } from '../runtime/problem.ts';
import { isUuid } from './query/compile.ts';
import type { Context, State } from './request.ts';

/** What a request asks for, as far as it is known yet. */
export interface Asked {
  kind: Kind;
  verb: string;
  targetId: string | null;
  /** As it was sent: nobody has looked at it yet. */
  body?: unknown;
  /** Of a target that the caller may see. */
  projectId?: string | null;
}

/** Stands first in every route that changes something. */
export const asks =
  (kind: Kind, verb: string): RouterMiddleware<State> =>
  async (ctx, next) => {
    const id = ctx.params.id ?? '';
    ctx.state.asked = { kind, verb, targetId: isUuid(id) ? id.toLowerCase() : null };
    await next();
  };

/** Bodies of refused changes are kept up to this size. */
const keptCharacters = 8192;

export async function noteRefusal(database: Database, ctx: Context, problem: Problem): Promise<void> {
  const { asked, caller, requestId } = ctx.state;
  if (!asked || problem.status >= 500) return;
  const { kind, verb, targetId, projectId = null } = asked;
  const body = refusedBody(kind, verb, asked.body);
  await insertAll(database.pool, {
    auditEntry: [
      {
        id: randomUUID(),
        projectId,
        actorUserId: caller.userId,
        actorApiKeyId: caller.apiKeyId,
        sourceAddress: ctx.ip,
        permission: `${kind.name}.${verb}`,
        resourceKind: kind.name,
        resourceId: targetId,
        input: JSON.stringify(body).length > keptCharacters ? { truncated: true } : body,
        outcome: 'denied',
        code: problem.code,
        operationId: kind.name === 'operation' ? targetId : null,
        requestId,
      },
    ],
  });
}
