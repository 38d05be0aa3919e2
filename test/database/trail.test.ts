/** The audit trail: nothing of it is changed, taken out or cut off unseen, whatever becomes of its table; and what is old leaves it for a store, verifiably. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { archiveOld, readArchive } from '../../activities/platform/archive.ts';
import { trailKey } from '../../activities/platform/credentials.ts';
import {
  isGenuine,
  type Note,
  noteHead,
  sealAudit,
  wrongInArchives,
  wrongInTrail,
} from '../../activities/platform/trail.ts';
import { openStore } from '../../activities/storage/stores/index.ts';
import { type Database, insertAll, openDatabase, rowsOf } from '../../database/database.ts';
import { readSecret, writeSecret } from '../../database/secrets.ts';
import { platformOwner } from '../../database/wellKnown.ts';
import type { Simulator } from '../../lab/simulated/simulator.ts';
import { issueCertificate } from '../../runtime/certificate.ts';
import { type Scene, setScene } from '../support/scene.ts';
import { cloud } from '../unit/simulator/cloud.ts';

let scene: Scene;
let simulator: Simulator;
beforeAll(async () => {
  scene = await setScene();
  simulator = await cloud({ hosts: 1 });
});
afterAll(async () => {
  await scene?.stop();
  await simulator?.stop();
});

beforeEach(async () => {
  await scene.reset();
  await scene.stage.query(`DELETE FROM "auditNote"; DELETE FROM "archive"`);
  await set('trail.noteSeconds', 0);
  const { endpoint, region, bucket, accessKey, secretKey } = simulator.s3;
  await scene.stage.query(
    `UPDATE "backupStore" SET endpoint = $2, region = $3, bucket = $4, "accessKey" = $5, state = 'ready', enabled = true, "readOnly" = false WHERE id = $1`,
    [storeId(), endpoint, region, bucket, accessKey],
  );
  await writeSecret(scene.stage as never, { kind: 'backupStore', id: storeId() }, 'secretKey', secretKey);
});

const storeId = (): string => String(scene.ids.backupStore);
const set = (name: string, value: unknown): Promise<unknown> =>
  scene.stage.query(`UPDATE "setting" SET value = $2 WHERE name = $1`, [name, JSON.stringify(value)]);
const sql = (text: string, values: unknown[] = []): Promise<unknown> => scene.stage.query(text, values);

const sqlOn = (database: Database, text: string): Promise<unknown> => rowsOf(database.connections, text);
/** The key of an object in the path of a request to a store. */
const objectOf = (path = ''): string => decodeURIComponent(path.split('?')[0]?.split('/').slice(2).join('/') ?? '');

/** So many more entries, sealed. */
async function more(count: number, createdAt?: string): Promise<void> {
  await insertAll(scene.database.connections, {
    auditEntry: Array.from({ length: count }, (_, index) => ({
      id: crypto.randomUUID(),
      permission: 'zone.update',
      resourceKind: 'zone',
      resourceId: scene.ids.zone,
      input: { name: `€ ${index}`, nested: { b: 1, a: [null, 1.5] } },
      outcome: 'succeeded',
      createdAt: createdAt ?? new Date().toISOString(),
    })),
  });
  while ((await sealAudit(scene.database)) > 0);
}

async function note(): Promise<Note> {
  let told: Note | undefined;
  await noteHead(scene.database, (fresh) => {
    told = fresh;
  });
  if (!told) throw new Error('there was nothing new to note');
  return told;
}

const wrong = (...notes: Note[]): Promise<string[]> => wrongInTrail(scene.database, notes);

describe('the chain', () => {
  test('is whole, however many seal it at once, and whatever columns its table gets', async () => {
    await more(30);
    await Promise.all([more(20), more(20), more(20)]);
    expect(await wrong()).toEqual([]);
    await sql(`ALTER TABLE "auditEntry" ADD COLUMN IF NOT EXISTS "another" TEXT NOT NULL DEFAULT 'new'`);
    await more(10);
    expect(await wrong(await note())).toEqual([]);
    await sql(`ALTER TABLE "auditEntry" DROP COLUMN "another"`);
    expect(await wrong()).toEqual([]);
  });

  test('covers of its first form what it did before there were forms', async () => {
    await more(3);
    const { rows } = await scene.stage.query<{ now: string; before: string }>(
      `SELECT belay_audit_content(a) AS now, (to_jsonb(a) - 'sequence' - 'previousHash' - 'hash' - 'updatedAt' - 'revision' - 'form')::text AS before FROM "auditEntry" a`,
    );
    expect(rows).toHaveLength(3);
    for (const { now, before } of rows) expect(now).toBe(before);
  });

  test.each([
    ['changed', `UPDATE "auditEntry" SET outcome = 'denied' WHERE sequence = 5`, [/^entry 5 .*not as it was sealed/]],
    ['taken out', `DELETE FROM "auditEntry" WHERE sequence = 5`, [/^entry 6 .*entries before it are missing/]],
    ['given another form', `UPDATE "auditEntry" SET form = 2 WHERE sequence = 5`, [/^entry 5 .*not as it was sealed/]],
    [
      'sealed anew by itself',
      `UPDATE "auditEntry" a SET outcome = 'denied', hash = belay_audit_hash(jsonb_populate_record(a, '{"outcome":"denied"}')) WHERE sequence = 5`,
      [/^entry 6 .*does not follow the one before it/],
    ],
  ])('shows an entry that was %s', async (_, text, faults) => {
    await more(10);
    await sql(text);
    expect(await wrong()).toEqual(faults.map((fault) => expect.stringMatching(fault)));
  });
});

describe('a note of the head', () => {
  test('shows that the tail was cut off, or written anew, which the chain alone does not', async () => {
    await more(10);
    const early = await note();
    await more(10);
    const late = await note();
    expect(await wrong(early, late)).toEqual([]);
    await sql(`DELETE FROM "auditEntry" WHERE sequence > 15`);
    expect(await wrong()).toEqual([]);
    expect(await wrong(early, late)).toEqual([expect.stringContaining('the trail has no such entry any more')]);
    const lost: Note[] = [];
    await noteHead(
      scene.database,
      () => {},
      (one) => lost.push(one),
    );
    expect(lost).toEqual([late]);
    await more(10);
    expect(await wrong()).toEqual([]);
    expect(await wrong(early, late)).toEqual([expect.stringContaining('the trail has another entry there now')]);
  });

  test('is believed of the platform alone', async () => {
    await more(3);
    const true_ = await note();
    const { caCertificate } = await trailKey(scene.database);
    expect(isGenuine(true_, caCertificate)).toBe(true);
    for (const forged of [
      { ...true_, sequence: 2 },
      { ...true_, hash: 'f'.repeat(64) },
      { ...true_, at: '2020-01-01T00:00:00.000000Z' },
      { ...true_, signature: Buffer.from('no').toString('base64') },
      { ...true_, certificate: 'none' },
    ])
      expect(await wrong(forged)).toEqual([expect.stringContaining('is not signed by this installation')]);
    // The same authority stands behind the certificates of hosts: those say nothing of the trail.
    const key = await readSecret(scene.database, platformOwner, 'migrationCaKey');
    const { certificate } = await issueCertificate('a-host', ['a-host'], {
      certificate: caCertificate,
      key: key ?? '',
    });
    expect(isGenuine({ ...true_, certificate }, caCertificate)).toBe(false);
  });

  test('is made when the head has moved and the last one is old enough, once however many make it', async () => {
    await more(3);
    await set('trail.noteSeconds', 3600);
    const told: Note[] = [];
    const make = () => noteHead(scene.database, (fresh) => told.push(fresh));
    await Promise.all([make(), make(), make()]);
    expect(told).toHaveLength(1);
    await more(1);
    expect(await make()).toBe(false);
    await set('trail.noteSeconds', 0);
    expect(await make()).toBe(true);
    expect(await make()).toBe(false);
    expect(told.map(({ sequence }) => sequence)).toEqual([3, 4]);
  });

  test('lies in every store that takes bytes, under a name by time; without one it waits for one', async () => {
    await sql(`UPDATE "backupStore" SET "readOnly" = true`);
    await more(3);
    const first = await note();
    const keyOf = ({ at, sequence }: Note): string => `trail/${at.replaceAll(':', '-')}-${sequence}.json`;
    const stored = async (one: Note): Promise<unknown> => {
      const bytes = await (await openStore(scene.database, storeId())).get(keyOf(one));
      return bytes && JSON.parse(bytes.toString('utf8'));
    };
    expect(await stored(first)).toBeNull();
    await sql(`UPDATE "backupStore" SET "readOnly" = false`);
    await more(1);
    const second = await note();
    expect(await stored(first)).toEqual(first);
    expect(await stored(second)).toEqual(second);
    expect([keyOf(second), keyOf(first)].sort()).toEqual([keyOf(first), keyOf(second)]);
  });
});

test('a person asks whether the trail is whole with one command, and brings notes from a log', async () => {
  const verify = async (): Promise<{ code: number; said: string }> => {
    const directory = mkdtempSync(join(tmpdir(), 'belay-notes-'));
    const file = join(directory, 'dispatcher.log');
    writeFileSync(
      file,
      `not json\n${JSON.stringify({ level: 30, note: kept, msg: 'the audit trail goes on from here' })}\n`,
    );
    try {
      const { stdout } = await promisify(execFile)(process.execPath, ['scripts/verify-trail.ts', '--archives', file], {
        env: { ...process.env, DATABASE_URL: scene.databaseUrl },
      });
      return { code: 0, said: stdout.trim() };
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string };
      return { code, said: stdout.trim() };
    } finally {
      rmSync(directory, { recursive: true });
    }
  };
  await more(3);
  const kept = await note();
  // Whoever cuts the table can cut this one too.
  await sql(`DELETE FROM "auditNote"`);
  expect(await verify()).toEqual({ code: 0, said: 'the audit trail is whole, and holds all 1 notes' });
  await sql(`DELETE FROM "auditEntry" WHERE sequence = 3`);
  expect(await verify()).toEqual({ code: 1, said: expect.stringMatching(/no such entry any more\n1 faults$/) });
}, 30_000);

describe('an archive', () => {
  const long = '2020-01-01T00:00:00Z';
  const counts = async (): Promise<Record<string, number>> => {
    const { rows } = await scene.stage.query<Record<string, number>>(
      `SELECT (SELECT count(*)::int FROM "auditEntry") AS "auditEntry", (SELECT count(*)::int FROM "event") AS event, (SELECT count(*)::int FROM "operation") AS operation`,
    );
    return rows[0] ?? {};
  };
  const archives = async (kind: string): Promise<{ id: string; objectKey: string; count: number }[]> =>
    (
      await scene.stage.query<{ id: string; objectKey: string; count: number }>(
        `SELECT id, "objectKey", count FROM "archive" WHERE kind = $1 ORDER BY "createdAt"`,
        [kind],
      )
    ).rows;

  test('takes the oldest entries in small batches, and the chain and its notes hold over the cut', async () => {
    await more(1500, long);
    const early = await note();
    await more(1000, long);
    const cut = await note();
    await more(5);
    const late = await note();
    expect(await archiveOld(scene.database)).toBe(1000);
    expect(await wrong(early, cut, late)).toEqual([]);
    while ((await archiveOld(scene.database)) > 0);
    expect(await counts()).toMatchObject({ auditEntry: 5 });
    expect((await archives('auditEntry')).map(({ count }) => count)).toEqual([1000, 1000, 500]);
    expect(await wrong(early, cut, late)).toEqual([]);
    expect(await wrongInArchives(scene.database)).toEqual([]);
    await more(5);
    expect(await wrong(early, cut, late, await note())).toEqual([]);
    await sql(`DELETE FROM "auditEntry" WHERE sequence = 2501`);
    expect(await wrong()).toEqual([expect.stringContaining('entries before it are missing')]);
  });

  test('never takes the newest, which the next one follows', async () => {
    await more(3, long);
    while ((await archiveOld(scene.database)) > 0);
    expect(await counts()).toMatchObject({ auditEntry: 1 });
    await more(1);
    expect(await wrong(await note())).toEqual([]);
  });

  test('that was changed, or is gone, shows', async () => {
    await more(5, long);
    await more(1);
    await archiveOld(scene.database);
    const [archive] = await archives('auditEntry');
    await sql(`UPDATE "archive" SET sha256 = 'other'`);
    expect(await wrongInArchives(scene.database)).toEqual([
      `${archive?.objectKey}: it is not as it was written`,
      `${archive?.objectKey} does not end with entry 5`,
    ]);
    await sql(`UPDATE "archive" SET "objectKey" = 'nowhere'`);
    expect(await wrongInArchives(scene.database)).toContain('nowhere: it is gone from its store');
  });

  test('is not made without a store, and nothing is removed then, nor when the store does not answer', async () => {
    await more(5, long);
    await more(1);
    await sql(`UPDATE "backupStore" SET enabled = false`);
    expect(await archiveOld(scene.database)).toBe(0);
    await sql(`UPDATE "backupStore" SET enabled = true, bucket = 'no-such-bucket', revision = revision + 1`);
    await expect(archiveOld(scene.database)).rejects.toThrow('did not take');
    expect(await counts()).toMatchObject({ auditEntry: 6 });
    await sql(`UPDATE "backupStore" SET revision = revision + 1`);
  });

  test('is written while nothing is held, and takes nothing that was changed or taken meanwhile', async () => {
    await more(5, long);
    await more(1);
    const { endpoint } = simulator.s3;
    /** Stands before the store: what is to happen while a row's archive is on its way. */
    let meanwhile: () => Promise<unknown> = async () => {};
    const objects: string[] = [];
    const before = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      if (request.method === 'PUT') {
        objects.push(String(request.url));
        await meanwhile();
      }
      const onward = httpRequest(
        new URL(request.url ?? '/', endpoint),
        { method: request.method, headers: request.headers, setHost: false },
        (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
        },
      );
      onward.end(Buffer.concat(chunks));
    });
    await new Promise<void>((resolve) => before.listen(0, '127.0.0.1', resolve));
    const { port } = before.address() as AddressInfo;
    // A revision that no client was made for.
    await sql(`UPDATE "backupStore" SET endpoint = $1, revision = revision + 1000`, [`http://127.0.0.1:${port}`]);
    const single = openDatabase(scene.databaseUrl, 1, { byIndex: true, waitMs: 5_000 });
    try {
      // The one connection that there is is free.
      meanwhile = () => sqlOn(single, `UPDATE "auditEntry" SET code = 'OTHER' WHERE sequence = 3`);
      expect(await archiveOld(single)).toBe(0);
      expect([await counts(), await archives('auditEntry')]).toMatchObject([{ auditEntry: 6 }, []]);
      const store = await openStore(scene.database, storeId());
      expect(await store.get(objectOf(objects[0]))).toBeNull();

      // Two at once: each row leaves once.
      await sql(`UPDATE "auditEntry" SET code = NULL WHERE sequence = 3`);
      let arrived = 0;
      let letBoth = (): void => {};
      const both = new Promise<void>((resolve) => {
        letBoth = resolve;
      });
      meanwhile = () => {
        arrived += 1;
        if (arrived === 2) letBoth();
        return both;
      };
      expect((await Promise.all([archiveOld(single), archiveOld(scene.database)])).toSorted()).toEqual([0, 5]);
      expect(await counts()).toMatchObject({ auditEntry: 1 });
      expect((await archives('auditEntry')).map(({ count }) => count)).toEqual([5]);
      expect(await wrongInArchives(scene.database)).toEqual([]);
    } finally {
      await single.close();
      await sql(`UPDATE "backupStore" SET endpoint = $1, revision = revision + 1000`, [endpoint]);
      before.close();
    }
  });

  test('takes ended operations and events that are old, and nothing else of theirs', async () => {
    const nobody = crypto.randomUUID();
    const operation = (state: string, endedAt: string | null) => ({
      id: crypto.randomUUID(),
      type: 'zone.update',
      state,
      endedAt,
      createdAt: long,
    });
    const recent = new Date().toISOString();
    const called = operation('failed', long);
    const old = operation('succeeded', long);
    await insertAll(scene.database.connections, {
      operation: [old, called, operation('succeeded', recent), operation('running', null), operation('stuck', null)],
      callback: [{ operationId: called.id, apiKeyId: nobody, accountId: nobody, url: 'http://example.net/' }],
      event: [1, 2, 3].map((sequence) => ({
        id: crypto.randomUUID(),
        type: 'zone.updated',
        sequence,
        createdAt: sequence < 3 ? long : recent,
      })),
    });
    await archiveOld(scene.database);
    expect(await counts()).toMatchObject({ operation: 4, event: 1 });
    const [kept] = await archives('operation');
    expect(await readArchive(scene.database, String(kept?.id))).toMatchObject([{ id: old.id, state: 'succeeded' }]);
    const [events] = await archives('event');
    expect(await readArchive(scene.database, String(events?.id))).toMatchObject([{ sequence: 1 }, { sequence: 2 }]);
    // The id of an operation stays taken.
    await expect(scene.accept('zone.create', { body: { name: 'z', requestedId: old.id } })).rejects.toMatchObject({
      code: 'NAME_IN_USE',
    });
  });
});
