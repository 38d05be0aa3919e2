/** What is asked of a process of the control plane stays asked, however long it or the database is away; and nobody is called lost by one that was away itself. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { beat, noteDrained, noteLost, register } from '../../database/controlNodes.ts';
import { type Database, openDatabase } from '../../database/database.ts';
import { lostAfterSeconds } from '../../model/platform/controlNode.ts';
import { type OwnDatabase, ownDatabase } from '../support/ownDatabase.ts';

let own: OwnDatabase;
let database: Database;
let id: string;
beforeAll(async () => {
  own = await ownDatabase();
  database = openDatabase(own.url, 4);
}, 60_000);
afterAll(async () => {
  await database.close();
  await own.drop();
});
beforeEach(async () => {
  id = crypto.randomUUID();
  await register(database.connections, { id, name: 'node', role: 'control', address: 'here', version: '1' });
});

const query = (text: string, values: unknown[]) => database.connections.query(text, values);
const beats = () => beat(database.connections, { id, load: 0 });
const seen = async () => (await query(`SELECT state, "stateBefore" FROM "controlNode" WHERE id = $1`, [id])).rows[0];
const set = (state: string, silentSeconds = 0): Promise<unknown> =>
  query(`UPDATE "controlNode" SET state = $2, "lastHeartbeatAt" = now() - make_interval(secs => $3) WHERE id = $1`, [
    id,
    state,
    silentSeconds,
  ]);

test.each(['up', 'draining', 'drained'])(
  'one that is %s when it is lost is so again once it is heard',
  async (state) => {
    await set(state, lostAfterSeconds + 1);
    const lost = await noteLost(database.connections, { seconds: lostAfterSeconds });
    expect(lost.map((one) => one.id)).toContain(id);
    expect(await seen()).toEqual({ state: 'lost', stateBefore: state });
    expect(await beats()).toEqual([{ state, wasHeard: false }]);
    expect(await seen()).toEqual({ state, stateBefore: null });
    expect(await beats()).toEqual([{ state, wasHeard: true }]);
  },
);

test('one that was lost while it drained is drained when all has ended', async () => {
  await set('draining', lostAfterSeconds + 1);
  await noteLost(database.connections, { seconds: lostAfterSeconds });
  expect(await noteDrained(database.connections, { id })).toEqual([]);
  await beats();
  expect(await noteDrained(database.connections, { id })).toHaveLength(1);
  expect(await seen()).toMatchObject({ state: 'drained' });
});
