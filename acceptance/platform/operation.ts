/** One action on many resources. */
import type { Transaction } from '../../database/database.ts';
import { ask, identifier, raw, render, sql } from '../../database/sql.ts';
import { columnsOf } from '../../model/columns.ts';
import type { Action, Kind } from '../../model/kind.ts';
import { actionNamed } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Caller, isOperator } from '../caller.ts';
import type { Hooks } from '../change.ts';
import { refuseOperatorOnly } from '../operatorOnly.ts';
import { checkAction, checkPatch } from '../validate.ts';
import { invalid } from '../violation.ts';
import { visibleTo } from '../visible.ts';

/** What is to be done, of a kind that there is: any action on one resource, but no create. */
export function manyOf(action: unknown): { kind: Kind; verb: string; action: Action } {
  const found = actionNamed(String(action));
  // What is asked of an operation is answered by its run, and not by a record or an operation.
  // An import is begun by its upload, which alone knows what was uploaded.
  if (!found || found.verb === 'create' || found.action.on === 'collection' || found.action.asked)
    throw invalid('action', 'must be an action on one resource, such as instance.stop or volume.delete');
  return found;
}

const idsOf = (input: Record<string, unknown>): string[] => (input.targets as { ids?: string[] }).ids ?? [];

/** Where the targets lie; refuses those that are not there, or that the caller may not know of. */
export async function projectsOf(
  tx: Transaction,
  caller: Caller,
  kind: Kind,
  ids: readonly string[],
): Promise<Set<string | null>> {
  const hasProject = columnsOf(kind).some(({ name }) => name === 'projectId');
  const asked = render(
    sql`SELECT t.id, ${hasProject ? raw('t."projectId"') : raw('NULL')} AS "projectId" FROM ${identifier(kind.name)} t
        WHERE t.id = ANY(${[...ids]}::uuid[]) AND t."deletedAt" IS NULL AND ${visibleTo(caller, 'get')(kind, raw('t')) ?? raw('TRUE')}`,
    { named: false },
  );
  const rows = await ask<{ id: string; projectId: string | null }>(tx, asked);
  const found = new Set(rows.map(({ id }) => id));
  const missing = ids.findIndex((id) => !found.has(id));
  if (missing >= 0)
    throw new Problem('NOT_FOUND', `there is no ${kind.name} ${ids[missing]}`, {
      violations: [{ field: `targets.ids.${missing}`, message: `names no ${kind.name}` }],
    });
  return new Set(rows.map(({ projectId }) => projectId));
}

/** What is asked of many stands in the records, and in Temporal: no secret may. */
export function refuseSecrets({ fields }: Kind, input: Record<string, unknown>): void {
  for (const name of Object.keys(input))
    if (fields[name]?.secret) throw invalid(`input.${name}`, 'is a secret, and may not be given to many');
}

export const operationHooks: Hooks = {
  'operation.runMany': {
    async project(tx, caller, input) {
      const { kind } = manyOf(input.action);
      const ids = idsOf(input);
      if (ids.length === 0) throw invalid('targets', 'must be ids, or a filter that finds something');
      const [only = null, another] = await projectsOf(tx, caller, kind, ids);
      if (another === undefined) return only;
      // An operation lies in one project, or is the platform's.
      if (isOperator(caller, 'operation.runMany')) return null;
      throw invalid('targets', 'must all lie in one project');
    },
    accept({ caller, input }) {
      const { kind, verb, action } = manyOf(input.action);
      const given = (input.input ?? {}) as Record<string, unknown>;
      refuseSecrets(kind, given);
      refuseOperatorOnly({ kind, verb, caller }, action, given);
      if (verb === 'update') checkPatch(kind, structuredClone(given));
      else checkAction(kind, verb, structuredClone(given));
    },
  },
};
