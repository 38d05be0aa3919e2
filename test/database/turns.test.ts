/**
 * What an operation relied on when it was accepted is looked at again when its turn has come; and what others write meanwhile neither
 * takes anything from it nor loses anything to it. Drawn from the actions themselves.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { operations } from '../../activities/platform/operation.ts';
import type { StepPair } from '../../activities/step.ts';
import type { World } from '../../activities/world.ts';
import type { Database } from '../../database/database.ts';
import { kindOf } from '../../model/kinds.ts';
import { operationTypes, type Scene, setScene } from '../support/scene.ts';
import { watched } from '../support/watched.ts';

let scene: Scene;
let saga: ReturnType<typeof operations>;
beforeAll(async () => {
  scene = await setScene();
  saga = operations({ database: scene.database } as World);
});
afterAll(() => scene?.stop());

interface Lock {
  resourceKind: string;
  resourceId: string;
  mode: string;
  entered: boolean;
  fromStates: string[];
  fromState: string | null;
  conditions: { field: string; is: string | boolean | null }[];
}

/** The saga's own steps are told nothing by their context. */
const does = <I, O>(pair: StepPair<I, O>, input: I): Promise<O> => pair.do(input, {} as never);

const locksOf = async (operationId: string): Promise<Lock[]> =>
  (
    await scene.stage.query<Lock>('SELECT * FROM "operationLock" WHERE "operationId" = $1 ORDER BY ticket', [
      operationId,
    ])
  ).rows;

const idOf = (body: string): string => (JSON.parse(body) as { id: string }).id;

/** What an action holds of what is there, by type. */
const needs = new Map<string, Lock[]>();

async function needsOf(type: string): Promise<Lock[]> {
  await scene.setFor(type);
  const operationId = idOf((await scene.accept(type)).body);
  return (await locksOf(operationId)).filter((lock) => !(lock.entered && lock.fromState === null && lock.mode !== 'S'));
}

/** Accepted while somebody else ends all that it needs, so that it has to wait; then it is first in line. */
async function acceptedInLine(type: string): Promise<string> {
  const held = needs.get(type) ?? (await needsOf(type));
  needs.set(type, held);
  await scene.setFor(type);
  const other = crypto.randomUUID();
  for (const { resourceKind, resourceId } of held)
    await scene.stage.query(
      `INSERT INTO "operationLock" ("operationId", "resourceKind", "resourceId", mode) VALUES ($1, $2, $3, 'D')`,
      [other, resourceKind, resourceId],
    );
  const { body } = await scene.accept(type);
  await scene.stage.query('DELETE FROM "operationLock" WHERE "operationId" = $1', [other]);
  return idOf(body);
}

interface Break {
  what: string;
  codes: string[];
  set: string;
  value: unknown;
}

const codesOf: Record<string, string[]> = { deleteProtection: ['PROTECTED'], hostId: ['PRECONDITION_FAILED'] };

/** Every way in which what a lock relies on may be different by then. */
function breaksOf(lock: Lock): Break[] {
  const kind = kindOf(lock.resourceKind);
  const other = (kind.states ?? []).find((state) => !lock.fromStates.includes(state) && !['failed'].includes(state));
  return [
    { what: 'is gone', codes: ['NOT_FOUND'], set: 'deletedAt', value: new Date().toISOString() },
    { what: 'is faulted', codes: ['RESOURCE_FAULTED'], set: 'fault', value: '{"code":"INTERNAL"}' },
    ...(lock.mode === 'S' && kind.states?.includes('deleting')
      ? [{ what: 'is being deleted', codes: ['INVALID_STATE'], set: 'state', value: 'deleting' }]
      : []),
    ...(lock.fromStates.length > 0 && other
      ? [{ what: `is ${other}`, codes: ['INVALID_STATE'], set: 'state', value: other }]
      : []),
    ...lock.conditions.map(({ field, is }) => ({
      what: `has another ${field}`,
      codes: codesOf[field] ?? ['INVALID_STATE', 'ALREADY_ATTACHED', 'NOT_SUPPORTED'],
      set: field,
      value: field === 'role' ? 'root' : is === null ? scene.ids.instance : is === false ? true : crypto.randomUUID(),
    })),
  ];
}

describe('when the turn of an operation has come', () => {
  test('whatever it relied on is looked at again: what does not fit any more ends it, and nothing is left', async () => {
    const wrong: string[] = [];
    let count = 0;
    for (const type of operationTypes) {
      const locks = (await locksOf(await acceptedInLine(type))).filter(({ entered }) => !entered);
      for (const lock of locks)
        for (const { what, codes, set, value } of breaksOf(lock)) {
          const operationId = await acceptedInLine(type);
          // What is attached has a slot, and an instance one root.
          const slot =
            set === 'instanceId'
              ? `, "${lock.resourceKind === 'volume' ? 'deviceIndex' : 'index'}" = 9`
              : set === 'role'
                ? ', "instanceId" = gen_random_uuid(), "deviceIndex" = 0'
                : '';
          await scene.stage.query(`UPDATE "${lock.resourceKind}" SET "${set}" = $2${slot} WHERE id = $1`, [
            lock.resourceId,
            value,
          ]);
          const { refused } = await does(saga.begin, { operationId });
          const left = await locksOf(operationId);
          count += 1;
          const name = `${type}: ${lock.mode} on ${lock.resourceKind} that ${what}`;
          if (!refused || !codes.includes(refused.code)) wrong.push(`${name} → ${refused?.code ?? 'it began'}`);
          if (left.length > 0) wrong.push(`${name} → it kept ${left.length} locks`);
          const { rows } = await scene.stage.query<{ state: string }>('SELECT state FROM "operation" WHERE id = $1', [
            operationId,
          ]);
          if (rows[0]?.state !== 'failed') wrong.push(`${name} → it is ${rows[0]?.state}`);
        }
    }
    console.log(`${count} ways in which something is different when the turn has come`);
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(100);
  }, 300_000);
});

type Moment = 'begin' | 'stuck' | 'resume' | 'succeed' | 'fail';

const problem = { code: 'INTERNAL', message: 'broken on purpose', step: null };
const transition = async (moment: Moment, operationId: string): Promise<unknown> => {
  const steps = { operationId, steps: [] };
  if (moment === 'begin') return does(saga.begin, { operationId });
  if (moment === 'stuck') return does(saga.stuck, { ...steps, problem, committed: false });
  if (moment === 'resume') return does(saga.resume, { ...steps, rollingBack: false, skipped: null });
  if (moment === 'succeed') return does(saga.succeed, { ...steps, result: null });
  return does(saga.fail, { ...steps, problem, cancelled: false });
};

/** What only the operation may write. */
const owned = ['state', 'currentOperationId', 'fault', 'deletedAt', 'sizeGib', 'hostId', 'instanceId', 'deviceIndex'];

async function picture(locks: Lock[]): Promise<string> {
  const rows: unknown[] = [];
  for (const { resourceKind, resourceId } of locks) {
    const { rows: found } = await scene.stage.query<{ row: Record<string, unknown> }>(
      `SELECT row_to_json(t) AS row FROM "${resourceKind}" t WHERE id = $1`,
      [resourceId],
    );
    const row = found[0]?.row ?? {};
    // What an operation makes has another id each time.
    if (row.instanceId && !Object.values(scene.ids).includes(String(row.instanceId))) row.instanceId = 'made';
    rows.push(
      owned.map((name) => [resourceKind, name, name === 'deletedAt' ? row[name] !== null : (row[name] ?? null)]),
    );
  }
  return JSON.stringify(rows);
}

/** A database whose transactions stop before they write the columns of a row, until they are let go. */
function stoppingBeforeWrite(database: Database): { database: Database; arrived: Promise<void>; go(): void } {
  let arrive = (): void => {};
  let go = (): void => {};
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const gone = new Promise<void>((resolve) => {
    go = resolve;
  });
  return {
    arrived,
    go: () => go(),
    database: watched(database, async (statement) => {
      if (!statement.includes('json_populate_record(')) return;
      arrive();
      await gone;
    }),
  };
}

/** What is not made by people has no labels, but a note. */
const patches = { note: { note: 'touched' }, labels: { labels: { touched: 'yes' } } };

describe('a PATCH beside an operation', () => {
  test('leaves the record as the operation makes it, whatever moment of it the PATCH has read and whenever it writes', async () => {
    const wrong: string[] = [];
    let count = 0;
    for (const type of operationTypes)
      for (const end of ['succeed', 'fail'] as const) {
        const moments: Moment[] = ['begin', 'stuck', 'resume', end];
        await scene.setFor(type);
        const plain = idOf((await scene.accept(type)).body);
        const held = (await locksOf(plain)).filter(({ mode }) => mode !== 'S');
        for (const moment of moments) await transition(moment, plain);
        const wanted = await picture(held);
        for (const [index, { resourceKind }] of held.entries()) {
          const kind = kindOf(resourceKind);
          // A PATCH that is an operation stands in line like any other.
          if (kind.actions.update?.mode !== 'sync') continue;
          for (const at of moments) {
            await scene.setFor(type);
            const touched = kindOf(resourceKind).fields.note ? 'note' : 'labels';
            const operationId = idOf((await scene.accept(type)).body);
            const locks = (await locksOf(operationId)).filter(({ mode }) => mode !== 'S');
            const targetId = locks[index]?.resourceId ?? '';
            for (const moment of moments) {
              if (moment !== at) {
                await transition(moment, operationId);
                continue;
              }
              const stop = stoppingBeforeWrite(scene.database);
              const patch = scene.accept(`${resourceKind}.update`, { targetId, body: patches[touched] }, stop.database);
              await Promise.race([stop.arrived, patch]);
              await transition(moment, operationId);
              stop.go();
              // What has ended can not be patched any more: that is an answer, too.
              await patch.catch((error: Error) => {
                if (error.name !== 'Problem') throw error;
              });
            }
            count += 1;
            const name = `${type} that ${end}s, ${resourceKind} patched at ${at}`;
            const now = await picture(locks);
            if (now !== wanted) wrong.push(`${name}: ${now} instead of ${wanted}`);
            const { rows } = await scene.stage.query<{ value: string | null; gone: boolean }>(
              `SELECT ${touched}::text AS value, "deletedAt" IS NOT NULL AS gone FROM "${resourceKind}" WHERE id = $1`,
              [targetId],
            );
            if (rows[0] && !rows[0].gone && !rows[0].value?.includes('touched'))
              wrong.push(`${name}: what was patched is lost`);
          }
        }
      }
    console.log(`${count} PATCHes beside operations`);
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(200);
  }, 600_000);
});
