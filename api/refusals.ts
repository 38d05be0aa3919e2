/**
 * Every change that is refused, on whatever route and for whatever reason, is in the audit trail. The entry of an accepted one is in the accepting
 * transaction.
 */
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

/** A window of refusals that are counted together. */
const windowMs = 60_000;
/** Sorts of refusals that a counted entry names, the most frequent first. */
const namedSorts = 500;

interface Sort {
  permission: string;
  code: string;
  actorUserId: string;
  actorApiKeyId: string;
  resourceKind: string;
  count: number;
}

interface Window {
  since: Date;
  /** Refusals that have an entry each. */
  written: number;
  counted: number;
  sorts: Map<string, Sort>;
}

export interface RefusalNotes {
  note(ctx: Context, problem: Problem): Promise<void>;
  /** Writes what has been counted so far. */
  flush(): Promise<void>;
}

/**
 * Of each account so many refusals a minute have an entry each. Whoever is refused more often fills the trail no further: the rest of the minute
 * is one entry that says how many there were, of which sorts, by which keys. A process that is killed takes with it what it has counted of a minute.
 */
export function refusalNotes(
  database: Database,
  perMinute: number,
  onFailure: (error: unknown) => void = () => {},
): RefusalNotes {
  const windows = new Map<string, Window>();

  async function close(accountId: string, { since, counted, sorts }: Window): Promise<void> {
    windows.delete(accountId);
    const all = [...sorts.values()].sort((one, other) => other.count - one.count);
    const [most] = all;
    if (!most) return;
    const named = all
      .slice(0, namedSorts)
      .map(({ permission, code, actorApiKeyId, count }) => ({ permission, code, actorApiKeyId, count }));
    await insertAll(database.connections, {
      auditEntry: [
        {
          id: randomUUID(),
          actorUserId: most.actorUserId,
          actorApiKeyId: most.actorApiKeyId,
          permission: most.permission,
          resourceKind: most.resourceKind,
          input: { counted, since: since.toISOString(), sorts: named },
          outcome: 'denied',
          code: most.code,
        },
      ],
    });
  }

  function windowOf(accountId: string): Window {
    const known = windows.get(accountId);
    if (known) return known;
    const fresh: Window = { since: new Date(), written: 0, counted: 0, sorts: new Map() };
    windows.set(accountId, fresh);
    setTimeout(() => {
      if (windows.get(accountId) === fresh) close(accountId, fresh).catch(onFailure);
    }, windowMs).unref();
    return fresh;
  }

  return {
    async note(ctx, problem) {
      const { asked, caller, requestId } = ctx.state;
      if (!asked || problem.status >= 500) return;
      const { kind, verb, targetId, projectId = null } = asked;
      const permission = `${kind.name}.${verb}`;
      const actor = { actorUserId: caller.userId, actorApiKeyId: caller.apiKeyId };
      const window = windowOf(caller.accountId);
      if (window.written >= perMinute) {
        const key = `${permission} ${problem.code} ${caller.apiKeyId}`;
        const sort = window.sorts.get(key);
        window.counted += 1;
        if (sort) sort.count += 1;
        else window.sorts.set(key, { permission, code: problem.code, ...actor, resourceKind: kind.name, count: 1 });
        return;
      }
      window.written += 1;
      const body = refusedBody(kind, verb, asked.body);
      await insertAll(database.connections, {
        auditEntry: [
          {
            id: randomUUID(),
            projectId,
            ...actor,
            sourceAddress: ctx.ip,
            permission,
            resourceKind: kind.name,
            resourceId: targetId,
            input: JSON.stringify(body).length > keptCharacters ? { truncated: true } : body,
            outcome: 'denied',
            code: problem.code,
            operationId: kind.ends ? targetId : null,
            requestId,
          },
        ],
      });
    },
    async flush() {
      await Promise.all([...windows].map(([accountId, window]) => close(accountId, window)));
    },
  };
}
