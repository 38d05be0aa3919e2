/**
 * Two acceptances at the same moment: each pair of actions whose holds meet is brought to the very place where both have looked at
 * the line and neither has written yet. The pairs come from the actions themselves.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Change } from '../../acceptance/change.ts';
import type { Database } from '../../database/database.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { operationTypes, type Scene, setScene } from '../support/scene.ts';
import { watched } from '../support/watched.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
});
afterAll(() => scene?.stop());

interface Lock {
  operationId: string;
  resourceKind: string;
  resourceId: string;
  mode: 'S' | 'X' | 'D';
  entered: boolean;
  fresh: boolean;
}

const locks = async (): Promise<Lock[]> =>
  (
    await scene.stage.query<Lock>(
      `SELECT l."operationId", l."resourceKind", l."resourceId", l.mode, l.entered, (l.entered AND l."fromState" IS NULL AND l.mode <> 'S') AS fresh FROM "operationLock" l ORDER BY l.ticket`,
    )
  ).rows;

const meets = (a: Lock, b: Lock): boolean =>
  a.resourceKind === b.resourceKind &&
  a.resourceId === b.resourceId &&
  (a.mode === 'D' || b.mode === 'D' || (a.mode === 'X' && b.mode === 'X'));

/** Each waits before its first insert until the other is there too, or has ended, or waits for a lock of the first: no time is involved. */
function meetingPlace(database: Database): (session: 0 | 1) => { database: Database; ended(): void } {
  const place = ['on the way', 'on the way'] as ('on the way' | 'there' | 'ended')[];
  const pids: (number | undefined)[] = [undefined, undefined];
  const blocked = async (pid: number | undefined): Promise<boolean> =>
    pid !== undefined &&
    (await scene.stage.query(`SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted`, [pid])).rows.length > 0;
  return (session) => {
    const other = session === 0 ? 1 : 0;
    const arrive = async (): Promise<void> => {
      place[session] = 'there';
      while (place[other] === 'on the way' && !(await blocked(pids[other])))
        await new Promise((resolve) => setImmediate(resolve));
    };
    return {
      database: watched(
        database,
        async (statement) => {
          if (/INSERT INTO "(operation|auditEntry)"/.test(statement)) await arrive();
        },
        (client) => {
          pids[session] = (client as unknown as { processID: number }).processID;
        },
      ),
      ended: () => {
        place[session] = 'ended';
      },
    };
  };
}

async function race(a: string, b: string, ...more: Partial<Change>[]): Promise<void> {
  const meet = meetingPlace(scene.database);
  const sessions = ([a, b] as const).map(async (type, index) => {
    const at = meet(index as 0 | 1);
    try {
      await scene.accept(type, more[index] ?? {}, at.database);
    } catch (error) {
      // One may be refused because of the other: that is an answer, too.
      if ((error as Error).name !== 'Problem') throw error;
    } finally {
      at.ended();
    }
  });
  await Promise.all(sessions);
}

/** What an action holds of what is there, when it is accepted alone. */
async function holdsOf(type: string): Promise<Lock[] | null> {
  if (!(await scene.setFor(type))) return null;
  await scene.accept(type);
  return (await locks()).filter(({ fresh }) => !fresh);
}

const rounds = Number(process.env.BELAY_PAIR_ROUNDS ?? 1);

describe('two acceptances that meet before either has written', () => {
  test('every action is accepted in a scene that fits it, so that none is left out', async () => {
    const unfit: string[] = [];
    for (const type of operationTypes) if ((await holdsOf(type)) === null) unfit.push(type);
    expect(unfit).toEqual([]);
  }, 120_000);

  test('of every pair whose holds meet one enters and the other waits or is refused', async () => {
    const holds = new Map<string, Lock[]>();
    for (const type of operationTypes) holds.set(type, (await holdsOf(type)) ?? []);
    const pairs = operationTypes.flatMap((a) =>
      operationTypes
        .filter((b) => (holds.get(a) ?? []).some((one) => (holds.get(b) ?? []).some((two) => meets(one, two))))
        .map((b) => [a, b] as const),
    );
    let raced = 0;
    const wrong: string[] = [];
    for (const [a, b] of pairs)
      for (let round = 0; round < rounds; round++) {
        await scene.reset();
        // Of those that need different states of one resource, one is refused whatever the other does.
        if (!(await scene.setFor(a)) || (a !== b && (!(await scene.suit(b, 3)) || !(await scene.suit(a, 1))))) continue;
        raced += 1;
        await race(a, b);
        const all = await locks();
        for (const [index, one] of all.entries())
          for (const two of all.slice(index + 1))
            if (one.operationId !== two.operationId && meets(one, two) && one.entered && two.entered)
              wrong.push(`${a} with ${b}: both entered ${one.resourceKind} ${one.resourceId}`);
      }
    console.log(`${pairs.length} pairs whose holds meet, ${raced} races`);
    expect(wrong).toEqual([]);
    expect(raced).toBeGreaterThan(pairs.length / 3);
  }, 600_000);
});

test('nothing is made in a project whose account is just being deleted', async () => {
  for (let round = 0; round < 10; round++) {
    await scene.reset();
    const { body } = await scene.accept('account.create', {
      body: { name: `account ${round}`, domainId: wellKnown.rootDomain },
    });
    const { id } = JSON.parse(body) as { id: string };
    const { rows } = await scene.stage.query<{ id: string }>(`SELECT id FROM "project" WHERE "accountId" = $1`, [id]);
    const network = { body: { name: 'n', zoneId: scene.ids.zone, projectId: rows[0]?.id } };
    const deletion = { targetId: id, body: undefined };
    if (round % 2 === 0) await race('network.create', 'account.delete', network, deletion);
    else await race('account.delete', 'network.create', deletion, network);
    const orphans = await scene.stage.query(
      `SELECT 1 FROM "network" n JOIN "project" p ON p.id = n."projectId" WHERE n."deletedAt" IS NULL AND p."deletedAt" IS NOT NULL`,
    );
    expect(orphans.rows).toEqual([]);
  }
});

test('an image is not announced in a store that is just being deleted, though it does not name it', async () => {
  for (let round = 0; round < 10; round++) {
    await scene.setFor('backupStore.delete');
    const image = { body: { name: 'i', zoneId: scene.ids.zone, projectId: wellKnown.rootProject } };
    if (round % 2 === 0) await race('image.create', 'backupStore.delete', image);
    else await race('backupStore.delete', 'image.create', {}, image);
    const lost = await scene.stage.query(
      `SELECT 1 FROM "image" i JOIN "backupStore" b ON b.id = i."backupStoreId" WHERE i."deletedAt" IS NULL AND b.state <> 'ready'`,
    );
    expect(lost.rows).toEqual([]);
  }
});
