/** What a caller may is asked of the database in two statements, whoever it is: the key, and all that was given. */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Caller, may, scopesOf } from '../../acceptance/caller.ts';
import { authenticator } from '../../api/authenticate.ts';
import type { Database } from '../../database/database.ts';
import { hashOf } from '../../database/token.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { type Scene, setScene } from '../support/scene.ts';

const bindings = 800;

let scene: Scene;
const userId = crypto.randomUUID();
const accessKey = randomBytes(10).toString('hex');
const secret = randomBytes(32).toString('base64url');
const projects: string[] = [];

beforeAll(async () => {
  scene = await setScene();
  const { stage } = scene;
  const roleId = crypto.randomUUID();
  await stage.query(`INSERT INTO "role" (id, name, permissions) VALUES ($1, 'reader', $2)`, [
    roleId,
    JSON.stringify([{ effect: 'allow', pattern: 'network.*' }]),
  ]);
  await stage.query(
    `INSERT INTO "user" (id, "accountId", name, "userName", state) VALUES ($1, $2, 'u', 'u', 'active')`,
    [userId, wellKnown.rootAccount],
  );
  await stage.query(
    `INSERT INTO "apiKey" (id, "accountId", "userId", name, "accessKey", "secretHash") VALUES (gen_random_uuid(), $1, $2, 'k', $3, $4)`,
    [wellKnown.rootAccount, userId, accessKey, hashOf(secret)],
  );
  // Every second one is given to the user, the others to everybody, as a stranger would like to.
  for (let n = 0; n < bindings; n++) projects.push(crypto.randomUUID());
  await stage.query(
    `INSERT INTO "project" (id, "accountId", name, state) SELECT id, $2, 'p-' || id, 'active' FROM unnest($1::uuid[]) AS id`,
    [projects, crypto.randomUUID()],
  );
  await stage.query(
    `INSERT INTO "roleBinding" (id, name, state, "subjectKind", "subjectId", "roleId", "targetKind", "targetId")
     SELECT gen_random_uuid(), 'b', 'active', CASE WHEN n % 2 = 0 THEN 'everyone' ELSE 'user' END, CASE WHEN n % 2 = 1 THEN $2::uuid END, $3, 'project', id
     FROM unnest($1::uuid[]) WITH ORDINALITY AS given(id, n)`,
    [projects, userId, roleId],
  );
}, 60_000);
afterAll(() => scene.stop());

/** Authenticates, and tells what was asked of the database for it. */
async function authenticated(): Promise<{ caller: Caller; asked: string[] }> {
  const asked: string[] = [];
  const { database } = scene;
  const connections = {
    query: (statement: pg.QueryConfig) => {
      asked.push(statement.text);
      return database.connections.query(statement);
    },
  } as unknown as pg.Pool;
  const counted: Database = { ...database, connections };
  const caller = await authenticator(counted).authenticate(`Bearer belay_${accessKey}_${secret}`, '127.0.0.1');
  return { caller, asked };
}

test(`the rights of ${bindings} bindings are one statement`, async () => {
  const { caller, asked } = await authenticated();
  expect(asked.filter((text) => text.includes('"roleBinding"'))).toHaveLength(1);
  // The key, its rights, and that it was used.
  expect(asked).toHaveLength(3);
  expect(scopesOf(caller, 'network.get').projects).toEqual(new Set(projects));
  expect(projects.every((projectId) => may(caller, 'network.get', { projectId }))).toBe(true);
  expect(may(caller, 'network.get', { projectId: crypto.randomUUID() })).toBe(false);
});

test('as many statements as without any binding', async () => {
  const { asked: many } = await authenticated();
  await scene.stage.query(`UPDATE "roleBinding" SET "deletedAt" = now() WHERE "targetKind" = 'project'`);
  const { asked: none, caller } = await authenticated();
  expect(none).toEqual(many);
  expect(scopesOf(caller, 'network.get').projects.size).toBe(0);
});
