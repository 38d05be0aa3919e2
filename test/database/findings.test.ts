/** A finding is one row, however many see it at once; it is told when it was seen often enough, and when it is over. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../database/database.ts';
import { openFindings, type Sighting, see, seenNoMore } from '../../database/findings.ts';
import { deleteOldFindings } from '../../database/old.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

const atOnce = 12;
let own: OwnInstallation;
let database: Database;
let sighting: Sighting;

beforeAll(async () => {
  own = await ownInstallation(atOnce);
  ({ database } = own);
}, 60_000);
afterAll(async () => {
  await own.close();
});
beforeEach(() => {
  sighting = {
    class: 'risk',
    severity: 'warning',
    what: 'hostUnreachable',
    resourceKind: 'host',
    resourceId: crypto.randomUUID(),
    system: 'host',
    expected: 'it answers',
    actual: 'it does not',
  };
});

const rows = async (): Promise<Record<string, unknown>[]> =>
  (await database.connections.query('SELECT * FROM "finding" WHERE "resourceId" = $1', [sighting.resourceId])).rows;
const told = async (): Promise<string[]> =>
  (
    await database.connections.query<{ type: string }>(
      `SELECT e.type FROM "event" e JOIN "finding" f ON f.id = e."resourceId" WHERE f."resourceId" = $1 ORDER BY e."createdAt"`,
      [sighting.resourceId],
    )
  ).rows.map(({ type }) => type);
const over = (): Promise<void> =>
  seenNoMore(database.connections, {
    resourceKind: 'host',
    resourceIds: [sighting.resourceId],
    what: ['hostUnreachable'],
  });
const change = (text: string): Promise<unknown> =>
  database.connections.query(`UPDATE "finding" SET ${text} WHERE "resourceId" = $1`, [sighting.resourceId]);

test('many who see it at once make one row, and tell it once', async () => {
  await Promise.all(Array.from({ length: atOnce }, () => see(database.connections, sighting)));
  expect(await rows()).toMatchObject([{ state: 'open', sightings: atOnce }]);
  expect(await told()).toEqual(['finding.opened']);
});

test('what needs two sightings is told at the second, and what went between was nothing', async () => {
  await see(database.connections, sighting, { needed: 2 });
  expect(await rows()).toMatchObject([{ state: 'sighted', openedAt: null }]);
  await over();
  await see(database.connections, sighting, { needed: 2 });
  expect(await rows()).toMatchObject([{ state: 'sighted', sightings: 1 }]);
  expect(await told()).toEqual([]);
  await Promise.all(Array.from({ length: atOnce }, () => see(database.connections, sighting, { needed: 2 })));
  expect(await rows()).toMatchObject([{ state: 'open', sightings: atOnce + 1 }]);
  expect(await told()).toEqual(['finding.opened']);
});

test('it goes once, and opens anew in the same row when it is seen again', async () => {
  await see(database.connections, sighting);
  const [first] = await rows();
  await Promise.all(Array.from({ length: atOnce }, over));
  expect(await rows()).toMatchObject([{ state: 'gone', id: first?.id }]);
  await see(database.connections, { ...sighting, severity: 'critical' });
  expect(await rows()).toMatchObject([{ state: 'open', id: first?.id, sightings: 1, severity: 'critical' }]);
  expect(await told()).toEqual(['finding.opened', 'finding.gone', 'finding.opened']);
});

test('an ignored one stays ignored until its time is over', async () => {
  await see(database.connections, sighting);
  await change(`state = 'ignored', "ignoredUntil" = now() + interval '1 hour'`);
  await see(database.connections, sighting);
  expect(await rows()).toMatchObject([{ state: 'ignored', sightings: 2 }]);
  await change(`"ignoredUntil" = now() - interval '1 second'`);
  await see(database.connections, sighting);
  expect(await rows()).toMatchObject([{ state: 'open' }]);
});

test('open ones are counted, and those that have been over for long are forgotten', async () => {
  await see(database.connections, { ...sighting, class: 'orphan', severity: 'critical' });
  expect(await openFindings(database.connections)).toContainEqual({
    class: 'orphan',
    severity: 'critical',
    count: '1',
  });
  await change(`"updatedAt" = now() - interval '91 days'`);
  await deleteOldFindings(database.connections);
  expect(await rows()).toHaveLength(1);
  await change(`state = 'gone', "updatedAt" = now() - interval '91 days'`);
  await deleteOldFindings(database.connections);
  expect(await rows()).toEqual([]);
});
