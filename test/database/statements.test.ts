/** What the compiler can not see of statements, the database says: each is prepared on a migrated one. And none stands where nobody would see it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allStatements } from '../../database/statement.ts';
import { type Scene, setScene } from '../support/scene.ts';
import { shapedByCallers } from './shapedByCallers.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

const filesBelow = (folder: string): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));

/** Where statements may be used at all. */
const product = ['database', 'acceptance', 'api', 'activities', 'workers', 'runtime'].flatMap(filesBelow);

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene.stop());

test('every statement can be prepared on a migrated database', async () => {
  // Those that begin something when they are loaded are programs; they hold no statements.
  const users = product.filter((path) => /from '[./]*\/statement\.ts'/.test(readFileSync(join(root, path), 'utf8')));
  for (const path of users) await import(join(root, path));
  const statements = allStatements();
  expect(statements.length).toBeGreaterThan(users.length);
  const client = new pg.Client({ connectionString: scene.databaseUrl });
  await client.connect();
  const failed: string[] = [];
  for (const { name, text } of new Map(statements.map((one) => [one.name, one])).values())
    await client.query(`PREPARE ${name} AS ${text}`).catch((error: Error) => failed.push(`${error.message}: ${text}`));
  await client.end();
  expect(failed).toEqual([]);
}, 60_000);

/** What a statement begins with, where a text does. */
const statementText =
  /[`'"]\s*(?:SELECT\s+(?!\w+ (?:a|an|the)\b)|INSERT\s+INTO\s|UPDATE\s+["$\w]+[^`'"]*\sSET\s|DELETE\s+FROM\s|WITH\s+(?:RECURSIVE\s+)?\w+\s+AS\s|LOCK\s+TABLE\s|NOTIFY\s|LISTEN\s)/i;

const told = (path: string): string[] => {
  const text = readFileSync(join(root, path), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  return [
    ...(statementText.test(text) ? ['has the text of a statement'] : []),
    ...(/from 'kysely'/.test(text) ? ['imports kysely'] : []),
    ...(/import \{[^}]*\b(?:rowsOf|written)\b[^}]*\} from '[./]*\/database\/(?:database|statement)\.ts'/.test(text)
      ? ['runs a text']
      : []),
    ...(text.includes("/database/sql.ts'") ? ['makes a text'] : []),
    ...(/\$(?:query|execute)Raw/.test(text) ? ['runs a text'] : []),
  ];
};

test('no statement stands outside database/ but what callers shape', () => {
  const strangers = product.filter((path) => !path.startsWith('database/') && told(path).length > 0);
  expect(strangers.sort()).toEqual([...shapedByCallers].sort());
});
