/** What the delete of a resource would take along, and whether it would be accepted. */
import type { Database } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { Problem } from '../runtime/problem.ts';
import type { Caller } from './caller.ts';
import type { Row } from './change.ts';
import { type Dependent, walkDown } from './dependents.ts';
import { acceptAs } from './own.ts';

export interface DeletePlan {
  deletable: boolean;
  /** What a delete would be refused with right now; null when it would be accepted. */
  refusal: { code: string; message: string } | null;
  takes: { kind: string; id: string; name: string; by: 'own' | 'cascade' | 'detach' | 'target' }[];
  blockers: { kind: string; id: string; name: string; reason: 'dependent' | 'deleteProtection' | 'managed' }[];
  complete: boolean;
}

/** Asks for the delete itself, without doing it: so that the plan says what the delete does, whatever else it looks at. */
async function refusalOf(database: Database, caller: Caller, kind: Kind, id: string): Promise<DeletePlan['refusal']> {
  try {
    await acceptAs(
      database,
      caller,
      { kind, verb: 'delete', targetId: id, body: undefined },
      { requestId: 'delete-plan', dryRun: true, permitted: true },
    );
    return null;
  } catch (error) {
    if (!(error instanceof Problem) || error.status >= 500) throw error;
    return { code: error.code, message: error.message };
  }
}

/** The same walk that the delete asks, told in full; and what the delete would say. */
export async function deletePlanOf(database: Database, caller: Caller, kind: Kind, row: Row): Promise<DeletePlan> {
  const { going, detached, blocking, complete } = await walkDown(database.connections, caller, kind, row);
  const refusal = await refusalOf(database, caller, kind, row.id);
  const held = going.filter(({ deleteProtection, managed }) => deleteProtection || managed);
  const naming = ({ kind: of, id, name }: Dependent) => ({ kind: of, id, name });
  const seen = (them: Dependent[]): Dependent[] => them.filter(({ visible }) => visible);
  return {
    deletable: refusal === null,
    refusal,
    takes: [
      ...seen(detached).map((one) => ({ ...naming(one), by: 'detach' as const })),
      ...seen(going).map((one) => ({
        ...naming(one),
        by: one.id === row.id ? ('target' as const) : (one.onDelete as 'own' | 'cascade'),
      })),
    ],
    blockers: [
      ...seen(held).map((one) => ({
        ...naming(one),
        reason: one.deleteProtection ? ('deleteProtection' as const) : ('managed' as const),
      })),
      ...seen(blocking).map((one) => ({ ...naming(one), reason: 'dependent' as const })),
    ],
    complete: complete && [...going, ...detached, ...blocking].every(({ visible }) => visible),
  };
}
