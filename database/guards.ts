/**
 * What every table of resources is guarded by, made from the model: a new kind has its guards without a line of its own.
 *
 * - `belay_register` enters each new resource into `identity`, whose primary key makes ids unique over all kinds, for ever.
 * - `belay_state` refuses a change of state by anybody but the operation that enters or leaves the resource.
 */
import { columnsOf, isLocked } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { type Client, run } from './database.ts';

/** Names of the triggers that a kind's table has. Operations, events and the like have ids that nobody can choose. */
export function guardsOf(kind: Kind): string[] {
  const held = isLocked(kind) && columnsOf(kind).some(({ name }) => name === 'state');
  return [...(kind.readOnly ? [] : ['belay_register']), ...(held ? ['belay_state'] : [])];
}

const definitions: Record<string, (table: string) => string> = {
  belay_register: (table) => `CREATE TRIGGER belay_register AFTER INSERT ON "${table}"
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION belay_register()`,
  // An operation that enters sets its id where there was none, one that leaves takes its own away; nobody pushes another out.
  belay_state: (
    table,
  ) => `CREATE TRIGGER belay_state BEFORE UPDATE OF state, "currentOperationId" ON "${table}" FOR EACH ROW
    WHEN ((OLD.state <> NEW.state AND OLD."currentOperationId" IS NULL AND NEW."currentOperationId" IS NULL)
       OR OLD."currentOperationId" <> NEW."currentOperationId")
    EXECUTE FUNCTION belay_refuse_state()`,
};

/** Makes the triggers that are missing. Those that are there are left alone: making one waits for all who use the table. */
export async function ensureGuards(tx: Client): Promise<void> {
  const present = await run<{ guard: string }>(
    tx,
    `SELECT c.relname || '.' || t.tgname AS guard FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace`,
  );
  const known = new Set(present.map(({ guard }) => guard));
  for (const kind of allKinds)
    for (const guard of guardsOf(kind)) {
      const definition = definitions[guard];
      if (!definition || known.has(`${kind.name}.${guard}`)) continue;
      await tx.query(definition(kind.name));
      // What a table held before it had its guard.
      if (guard === 'belay_register')
        await tx.query(`INSERT INTO "identity" (id, kind) SELECT id, $1 FROM "${kind.name}" ON CONFLICT DO NOTHING`, [
          kind.name,
        ]);
    }
}
