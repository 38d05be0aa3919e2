/** Whose turn it is. */

import { columnsOf } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { partsOfType } from '../model/operationName.ts';
import type { StartOperation } from '../model/platform/operation.ts';
import { Problem } from '../runtime/problem.ts';
import type { Database } from './database.ts';
import { from, isAmong, statement, statementOfKind, tableOf, type Values, written } from './statement.ts';

/** An operation whose workflow has not begun is asked for again after so long: who was about to ask may have died. */
export const askAgainSeconds = 10;

/** Taken at a time, all projects together; one of each where there are more projects. */
export const readyAtOnce = 200;

export interface ReadyOperation {
  id: string;
  type: string;
  targetKind: string;
  targetId: string;
  projectId: string | null;
  input: Record<string, unknown>;
  parentOperationId: string | null;
}

/** What is in no project is the platform's, which takes its turns like one. */
const owner = `coalesce(o."projectId", '00000000-0000-0000-0000-000000000000')`;

/**
 * First in line on everything they touch, and not asked for lately: of each project that has something queued, an even share, so that a
 * thousand of one delay nobody else's first. Only a deletion waits for pins, so that no other operation looks at the pins of a resource: there
 * may be thousands. What a child does inside the hold of an operation above it waits for what others do there, and for nobody else. Each project is found behind the one before it, each operation looks for its locks by itself, each lock for those before it
 * (OFFSET 0), and the list is made once: joined as the planner likes, by what the tables held before a burst, this ran for minutes.
 */
export const readyOnes = written<ReadyOperation & { createdAt: Date; projects: number }, { askAgainSeconds: number }>(
  `WITH RECURSIVE waiting AS (
       (SELECT ${owner} AS owner FROM "operation" o WHERE o.state = 'queued' ORDER BY ${owner} LIMIT 1)
       UNION ALL
       SELECT (SELECT ${owner} FROM "operation" o WHERE o.state = 'queued' AND ${owner} > w.owner ORDER BY ${owner} LIMIT 1)
       FROM waiting w WHERE w.owner IS NOT NULL
     ), among AS MATERIALIZED (SELECT count(owner) AS projects FROM waiting
     ), ready AS MATERIALIZED (
       SELECT mine.id FROM waiting w CROSS JOIN LATERAL (
         SELECT o.id FROM "operation" o
         WHERE o.state = 'queued' AND ${owner} = w.owner AND (o."dispatchAt" IS NULL OR o."dispatchAt" < now())
           AND NOT EXISTS (
             SELECT 1 FROM "operationLock" mine WHERE mine."operationId" = o.id AND (
               EXISTS (SELECT 1 FROM "operationLock" earlier WHERE earlier."resourceId" = mine."resourceId" AND earlier."resourceKind" = mine."resourceKind"
                 AND earlier.ticket < mine.ticket AND earlier."operationId" <> mine."operationId" AND earlier.within IS NOT DISTINCT FROM mine.within
                 AND earlier.mode <> 'S' AND (mine.mode <> 'S' OR earlier.mode = 'D') OFFSET 0)
               OR (mine.mode = 'D' AND EXISTS (SELECT 1 FROM "operationLock" earlier WHERE earlier."resourceId" = mine."resourceId"
                 AND earlier."resourceKind" = mine."resourceKind" AND earlier.ticket < mine.ticket AND earlier."operationId" <> mine."operationId" AND earlier.within IS NOT DISTINCT FROM mine.within OFFSET 0))) OFFSET 0)
         ORDER BY ${owner}, o."createdAt" LIMIT greatest(1, ${readyAtOnce} / (SELECT projects FROM among)) FOR UPDATE SKIP LOCKED) mine
       WHERE w.owner IS NOT NULL)
     UPDATE "operation" o SET "dispatchAt" = now() + make_interval(secs => $askAgainSeconds) FROM ready, among WHERE o.id = ready.id
     RETURNING o.id, o.type, o."targetKind", o."targetId", o."projectId", o.input, o."parentOperationId", o."createdAt", among.projects::int AS projects`,
);

/** Every project's first, then every project's second …: the order in which they are begun. */
export function inTurns<Of extends { projectId: string | null }>(inOrder: readonly Of[]): Of[] {
  const before = new Map<string | null, number>();
  const rounds: Of[][] = [];
  for (const one of inOrder) {
    const round = before.get(one.projectId) ?? 0;
    before.set(one.projectId, round + 1);
    const started = rounds[round] ?? [];
    rounds[round] = started;
    started.push(one);
  }
  return rounds.flat();
}

/**
 * Takes the operations whose turn it is, in their order; nobody else gets them for the next ten seconds. There may be more where some
 * project has used its whole share.
 */
export async function readyOperations({
  connections,
}: Database): Promise<{ operations: ReadyOperation[]; more: boolean }> {
  const rows = await readyOnes(connections, { askAgainSeconds });
  const operations = inTurns(rows.sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime()));
  const share = Math.max(1, Math.floor(readyAtOnce / (rows[0]?.projects ?? 1)));
  const taken = new Map<string | null, number>();
  for (const { projectId } of operations) taken.set(projectId, (taken.get(projectId) ?? 0) + 1);
  return { operations, more: [...taken.values()].some((count) => count >= share) };
}

/** The workflow's own input is what acceptance wrote into the operation. */
export function startOfReady(operation: ReadyOperation, names: ReadonlyMap<string, string>): StartOperation {
  const { id, type, targetKind, targetId, projectId, input } = operation;
  const { kindName } = partsOfType(type);
  return {
    id,
    type,
    targetKind,
    targetId,
    projectId,
    input: { ...input, [`${kindName}Id`]: targetId },
    targetName: names.get(targetId) ?? targetId,
  };
}

const readyById = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select(['id', 'type', 'targetKind', 'targetId', 'projectId', 'input', 'parentOperationId'])
    .where('id', '=', p.id)
    .$narrowType<Pick<ReadyOperation, 'type' | 'targetKind' | 'targetId' | 'input'>>(),
);

/** The same of one that was accepted just now. */
export async function startOf(database: Database, id: string): Promise<StartOperation> {
  const [operation] = await readyById(database.connections, { id });
  if (!operation) throw new Problem('NOT_FOUND', `there is no operation ${id}`);
  return startOfReady(operation, await targetNames(database, [operation]));
}

const isNamed = (kind: Kind): boolean => columnsOf(kind).some(({ name }) => name === 'name');

const namesOf = statementOfKind(
  (kind, p: Values<{ ids: string[] }>) =>
    from
      .selectFrom(tableOf(kind))
      .select(['t.id', 't.name'])
      .where((eb) => isAmong(eb.ref('t.id'), p.ids)),
  isNamed,
);

/** What the targets of these operations are called, by id. */
export async function targetNames(
  { connections }: Database,
  operations: readonly ReadyOperation[],
): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const kind of new Set(operations.map(({ targetKind }) => targetKind))) {
    if (!isNamed(kindOf(kind))) continue;
    const ids = operations.flatMap(({ targetKind, targetId }) => (targetKind === kind ? [targetId] : []));
    for (const { id, name } of await namesOf(kindOf(kind))(connections, { ids })) names.set(id, name);
  }
  return names;
}
