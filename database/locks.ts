/** The line of operations before each resource, as the database has it. */
import type { LockMode } from '../model/kind.ts';
import { written } from './statement.ts';

/** Waits for the keys, in the order of their texts, and holds them until the transaction ends: shared, or where it is `alone` as the only one. */
export const lockKeys = written<never, { keys: string[]; alone: boolean[] }>(
  `SELECT CASE WHEN x THEN pg_advisory_xact_lock(hashtextextended(key, 1)) ELSE pg_advisory_xact_lock_shared(hashtextextended(key, 1)) END
   FROM (SELECT key, x FROM unnest($keys::text[], $alone::boolean[]) AS t(key, x) ORDER BY key) ordered`,
);

/** Which of the operations holds each of the resources: of several the first of the list. */
export const holdersOf = written<
  { kind: string; id: string; mode: LockMode; operationId: string },
  { kinds: string[]; ids: string[]; operationIds: readonly string[] }
>(
  `SELECT DISTINCT ON (m.kind, m.id) m.kind, m.id, l.mode, l."operationId" FROM unnest($kinds::text[], $ids::uuid[]) AS m(kind, id)
     JOIN "operationLock" l ON l."resourceId" = m.id AND l."resourceKind" = m.kind AND l.entered AND l."operationId" = ANY($operationIds::uuid[])
   ORDER BY m.kind, m.id, array_position($operationIds::uuid[], l."operationId")`,
);

/** In which modes others stand in line before resources, each in the line within a hold; S is looked for only where something `ending` would wait for it. */
export const modesBefore = written<
  { kind: string; id: string; mode: LockMode },
  {
    kinds: string[];
    ids: string[];
    within: (string | null)[];
    endingKinds: string[];
    endingIds: string[];
    endingWithin: (string | null)[];
  }
>(
  `SELECT DISTINCT l."resourceKind" AS kind, l."resourceId" AS id, l.mode FROM unnest($kinds::text[], $ids::uuid[], $within::uuid[]) AS m(kind, id, within)
     JOIN "operationLock" l ON l."resourceId" = m.id AND l."resourceKind" = m.kind AND l.mode <> 'S' AND l.within IS NOT DISTINCT FROM m.within
   UNION ALL SELECT m.kind, m.id, 'S' FROM unnest($endingKinds::text[], $endingIds::uuid[], $endingWithin::uuid[]) AS m(kind, id, within)
     WHERE EXISTS (SELECT 1 FROM "operationLock" l WHERE l."resourceId" = m.id AND l."resourceKind" = m.kind AND l.mode = 'S'
       AND l.within IS NOT DISTINCT FROM m.within)`,
);
