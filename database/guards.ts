/**
 * What every table of resources is guarded by, made from the model: a new kind has its guards without a line of its own.
 *
 * - `belay_register` enters each new resource into `identity`, whose primary key makes ids unique over all kinds, for ever.
 * - `belay_state` refuses a change of state by anybody but the operation that enters or leaves the resource.
 * - `belay_hold_…` refuses a change of where a tenant's resource is, how large it is, and of all else that nobody may PATCH, by anybody but the
 *   operation that holds it. Its name tells which columns it guards.
 * - `<kind>_grants_go` takes grants on something, and to somebody, along when that is deleted.
 */
import { createHash } from 'node:crypto';
import { columnsOf, isLocked, isStored } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import type { Transaction } from './database.ts';
import { written } from './statement.ts';

/**
 * What is no operation's alone: what has been seen of a guest, what a trigger writes, which snapshot one follows when another goes, and when a
 * schedule runs.
 */
const notOfHolder = new Set(['observed', 'destroyedAt', 'parentId', 'lastRun', 'lastOperationId', 'nextRun']);

/** Columns of a tenant's resource that only the operation that holds it writes, once it is there. */
export const ofHolder = (kind: Kind): string[] =>
  kind.scope === 'project' && isLocked(kind)
    ? Object.entries(kind.fields).flatMap(([name, field]) =>
        isStored(field) && !field.set.startsWith('patch') && !notOfHolder.has(name) ? [name] : [],
      )
    : [];

const grantsGo = (kind: Kind): string => `${kind.name}_grants_go`;

const holdGuard = (columns: string[]): string =>
  `belay_hold_${createHash('sha256').update(columns.join()).digest('hex').slice(0, 8)}`;

/** Names of the triggers that a kind's table has. Operations, events and the like have ids that nobody can choose. */
export function guardsOf(kind: Kind): string[] {
  const held = isLocked(kind) && columnsOf(kind).some(({ name }) => name === 'state');
  const columns = ofHolder(kind);
  return [
    ...(kind.readOnly ? [] : ['belay_register']),
    ...(held ? ['belay_state'] : []),
    ...(columns.length > 0 ? [holdGuard(columns)] : []),
    grantsGo(kind),
  ];
}

const rowOf = (alias: string, columns: string[]): string =>
  `(${columns.map((name) => `${alias}."${name}"`).join(', ')})`;

function definitionOf(guard: string, kind: Kind): string {
  const known = definitions[guard];
  if (known) return known(kind);
  if (guard === grantsGo(kind))
    return `CREATE TRIGGER "${guard}" AFTER UPDATE ON "${kind.name}" FOR EACH ROW
      WHEN (OLD."deletedAt" IS NULL AND NEW."deletedAt" IS NOT NULL) EXECUTE FUNCTION belay_grants_go()`;
  const columns = ofHolder(kind);
  return `CREATE TRIGGER ${guard} BEFORE UPDATE ON "${kind.name}" FOR EACH ROW
    WHEN (OLD."deletedAt" IS NULL AND ${rowOf('OLD', columns)} IS DISTINCT FROM ${rowOf('NEW', columns)})
    EXECUTE FUNCTION belay_refuse_stranger()`;
}

const definitions: Record<string, (kind: Kind) => string> = {
  belay_register: ({ name }) => `CREATE TRIGGER belay_register AFTER INSERT ON "${name}"
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION belay_register()`,
  // An operation that enters sets its id where there was none, one that leaves takes its own away; nobody but one below it pushes another out.
  // What nobody can change tells in its state what was seen of something else: as long as no operation holds it, that may be seen at any time.
  belay_state: ({
    name,
    readOnly,
  }) => `CREATE TRIGGER belay_state BEFORE UPDATE OF state, "currentOperationId" ON "${name}" FOR EACH ROW
    WHEN ((${readOnly ? 'false' : 'OLD.state <> NEW.state'} AND OLD."currentOperationId" IS NULL AND NEW."currentOperationId" IS NULL)
       OR OLD."currentOperationId" <> NEW."currentOperationId")
    EXECUTE FUNCTION belay_refuse_state()`,
};

const triggers = written<{ guard: string }>(
  `SELECT c.relname || '.' || t.tgname AS guard FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
   WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace`,
);

/** Makes the triggers that are missing. Those that are there are left alone: making one waits for all who use the table. */
export async function ensureGuards(tx: Transaction): Promise<void> {
  const present = await triggers(tx);
  const known = new Set(present.map(({ guard }) => guard));
  for (const kind of allKinds) {
    const guards = guardsOf(kind);
    const outdated = [...known].filter(
      (guard) =>
        guard.startsWith(`${kind.name}.belay_hold_`) && !guards.some((name) => guard === `${kind.name}.${name}`),
    );
    for (const guard of outdated) await tx.query(`DROP TRIGGER ${guard.split('.')[1]} ON "${kind.name}"`);
    for (const guard of guards) {
      if (known.has(`${kind.name}.${guard}`)) continue;
      await tx.query(definitionOf(guard, kind));
      // What a table held before it had its guard.
      if (guard === 'belay_register')
        await tx.query(`INSERT INTO "identity" (id, kind) SELECT id, $1 FROM "${kind.name}" ON CONFLICT DO NOTHING`, [
          kind.name,
        ]);
    }
  }
}
