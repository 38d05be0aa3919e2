/** One tenant does not stop the others: what stays open is counted, what is expensive is refused, and turns go around. */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { authenticator } from '../../api/authenticate.ts';
import { buildServer } from '../../api/server.ts';
import { openDatabase } from '../../database/database.ts';
import { type Api, openApi, type Resource } from '../../lab/api.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { log } from '../../runtime/log.ts';
import { openTemporal } from '../../temporal/connection.ts';
import { joinCloud } from '../support/cloud.ts';
import { maintainUntil } from '../support/maintenance.ts';
import { peopleOf } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { list: listOf, newAccount, person } = peopleOf(admin);
const zoneId = cloud.zone.id;
const bytesType = { 'content-type': 'application/octet-stream' };

interface Tenant {
  api: Api;
  project: Resource;
}

/** Somebody with an account of their own, of which nothing is open yet. */
async function tenant(name: string): Promise<Tenant> {
  const { account, project } = await newAccount(name);
  const { api } = await person(name, account.id, 'accountOwner', ['account', account.id]);
  return { api, project };
}

let client: Awaited<ReturnType<typeof openClient>>;
beforeAll(async () => {
  client = await openClient(address.databaseUrl);
});
afterAll(() => client.end());

const inStore = async (): Promise<string> => JSON.stringify((await simulatorInventory(address.simulatorUrl)).s3);

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
}

const announce = ({ project }: Tenant): Promise<Resource> =>
  admin.call('POST', '/v1/images', { name: 'slow', zoneId, projectId: project.id });

interface Answer {
  status: number;
  code: string | undefined;
  retryAfter: string | undefined;
}

interface Sending {
  /** When the first bytes are on their way. */
  begun: Promise<void>;
  answer: Promise<Answer>;
  end(bytes?: Uint8Array): void;
  breakOff(): void;
}

/** Begins an upload with the first bytes of a disk, and then sends nothing until it is told to. */
function sending({ url, token }: Api, imageId: string): Sending {
  const sent = request(new URL(`${url}/v1/images/${imageId}/content`), {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, ...bytesType },
  });
  const answer = new Promise<Answer>((resolve) => {
    sent.on('response', async (response) => {
      let text = '';
      for await (const chunk of response) text += String(chunk);
      resolve({
        status: response.statusCode ?? 0,
        code: (JSON.parse(text) as { code?: string }).code,
        retryAfter: response.headers['retry-after'],
      });
      sent.destroy();
    });
    sent.on('error', () => resolve({ status: 0, code: undefined, retryAfter: undefined }));
  });
  const begun = new Promise<void>((resolve) => sent.write(smallRawDisk().subarray(0, 1), () => resolve()));
  return { begun, answer, end: (bytes) => void sent.end(bytes), breakOff: () => void sent.destroy() };
}

const claimed = async (imageId: string): Promise<boolean> =>
  (await client.query('SELECT 1 FROM "upload" WHERE "imageId" = $1', [imageId])).rows.length > 0;

describe('uploads', () => {
  test('hold no connection to the database, and a key has so many open and no more', async () => {
    const who = await tenant('uploader');
    const images = await Promise.all(Array.from({ length: 9 }, () => announce(who)));
    const open = images.slice(0, 8).map(({ id }) => sending(who.api, id));
    for (const { id } of images.slice(0, 8)) await until(() => claimed(id));
    // All that API, workers and dispatcher have: none waits in a transaction, none holds an advisory lock of a session.
    const { rows } = await client.query(
      `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       UNION ALL SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND state_change < now() - interval '5 seconds'`,
    );
    expect(rows).toEqual([]);
    const last = String(images[8]?.id);
    const refused = await who.api.raw('PUT', `/v1/images/${last}/content`, smallRawDisk(), bytesType);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5']);
    expect(((await refused.json()) as { code: string }).code).toBe('TOO_MANY_OPEN');
    // Whoever breaks off gives the place back, and leaves nothing.
    open[0]?.breakOff();
    await until(async () => !(await claimed(String(images[0]?.id))));
    const taken = await who.api.raw('PUT', `/v1/images/${last}/content`, smallRawDisk(), bytesType);
    expect(taken.status).toBe(202);
    await who.api.settled(((await taken.json()) as Resource).id);
    for (const one of open.slice(1)) one.breakOff();
    for (const { id } of images) {
      await until(async () => !(await claimed(id)));
      await who.api.done('DELETE', `/v1/images/${id}`);
      expect(await inStore()).not.toContain(id);
    }
  });

  test('that hardly move end, and are told why; nothing of them stays', async () => {
    const who = await tenant('loris');
    const { id } = await announce(who);
    const upload = sending(who.api, id);
    await upload.begun;
    expect(await upload.answer).toMatchObject({ status: 408, code: 'TOO_SLOW' });
    expect(await inStore()).not.toContain(id);
    await until(async () => !(await claimed(id)));
    await who.api.done('DELETE', `/v1/images/${id}`);
  });

  test('of one image are one at a time', async () => {
    const who = await tenant('twice');
    const { id } = await announce(who);
    const disk = smallRawDisk();
    const answers = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const response = await who.api.raw('PUT', `/v1/images/${id}/content`, disk, bytesType);
        return { status: response.status, ...((await response.json()) as { code?: string; id: string }) };
      }),
    );
    const won = answers.filter(({ status }) => status === 202);
    expect(won).toHaveLength(1);
    for (const { status, code } of answers.filter((one) => one.status !== 202))
      expect([status, code === 'RESOURCE_BUSY' || code === 'INVALID_STATE']).toEqual([409, true]);
    await who.api.settled(String(won[0]?.id));
    expect((await who.api.call('GET', `/v1/images/${id}`)).state).toBe('ready');
    await who.api.done('DELETE', `/v1/images/${id}`);
    expect(await inStore()).not.toContain(id);
  });

  test('of a server that died are thrown away, and the image takes another one', async () => {
    const who = await tenant('orphan');
    const { id } = await announce(who);
    const upload = sending(who.api, id);
    await until(() => claimed(id));
    // As if this server had not been heard of for twenty seconds: when it comes back, the claim is not its own any more.
    await client.query(`UPDATE "upload" SET "expiresAt" = now() - interval '1 second' WHERE "imageId" = $1`, [id]);
    await maintainUntil(address.temporalAddress, 'endAbandonedUploads', async () => !(await claimed(id)));
    const next = await who.api.raw('PUT', `/v1/images/${id}/content`, smallRawDisk(), bytesType);
    expect(next.status).toBe(202);
    await who.api.settled(((await next.json()) as Resource).id);
    upload.end();
    expect((await upload.answer).status).toBeGreaterThanOrEqual(400);
    expect((await who.api.call('GET', `/v1/images/${id}`)).state).toBe('ready');
    await who.api.done('DELETE', `/v1/images/${id}`);
    expect(await inStore()).not.toContain(id);
  });

  test('end with their image, while bytes still come', async () => {
    const who = await tenant('deleted');
    const { id } = await announce(who);
    const upload = sending(who.api, id);
    await until(() => claimed(id));
    await who.api.done('DELETE', `/v1/images/${id}`);
    expect((await upload.answer).status).toBeGreaterThanOrEqual(400);
    expect(await inStore()).not.toContain(id);
  });
});

describe('what stays open', () => {
  test('streams: so many for a key, more when one has ended', async () => {
    const { api } = await tenant('streamer');
    const follow = () => api.raw('GET', '/v1/events?follow=true', null);
    const streams = await Promise.all(Array.from({ length: 16 }, follow));
    expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200));
    const refused = await follow();
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5']);
    expect(((await refused.json()) as { code: string }).code).toBe('TOO_MANY_OPEN');
    // Another one's are its own.
    const other = await tenant('other');
    const second = await other.api.raw('GET', '/v1/events?follow=true', null);
    expect(second.status).toBe(200);
    await second.body?.cancel();
    await streams[0]?.body?.cancel();
    await until(async () => {
      const again = await follow();
      await again.body?.cancel();
      return again.status === 200;
    });
    for (const stream of streams.slice(1)) await stream.body?.cancel();
  });

  test('a wait more than a key may have is refused; a change that would wait is taken', async () => {
    const { api, project } = await tenant('waiter');
    const network = await api.call('POST', '/v1/networks', { name: 'n', zoneId, projectId: project.id });
    await api.settled(network.id);
    const [held] = (await api.call<{ items: Resource[] }>('GET', '/v1/networks')).items;
    const networkId = String(held?.id);
    const behind = crypto.randomUUID();
    await client.query(
      `INSERT INTO "operationLock" ("operationId", "resourceKind", "resourceId", mode, entered) VALUES ($1, 'network', $2, 'X', false)`,
      [behind, networkId],
    );
    const { id } = await api.call('POST', `/v1/networks/${networkId}/actions/repair`, {});
    // One more than a key may have: whichever comes last is refused, the others stay open.
    const ended = new AbortController();
    const waits = Array.from({ length: 257 }, () =>
      fetch(`${api.url}/v1/operations/${id}?waitSeconds=60`, {
        headers: { authorization: `Bearer ${api.token}` },
        signal: ended.signal,
      }).then(
        ({ status }) => status,
        () => 0,
      ),
    );
    expect(await Promise.race(waits)).toBe(429);
    const taken = await api.raw('DELETE', `/v1/networks/${networkId}`, null, { Prefer: 'wait=60' });
    expect([taken.status, taken.headers.get('preference-applied')]).toEqual([202, null]);
    ended.abort();
    await Promise.all(waits);
    await until(async () => (await api.raw('GET', `/v1/operations/${id}?waitSeconds=1`, null)).status === 200);
    await client.query('DELETE FROM "operationLock" WHERE "operationId" = $1', [behind]);
    await client.query(`SELECT pg_notify('belay_queue', '')`);
    await api.settled(((await taken.json()) as Resource).id);
  });
});

describe('lists', () => {
  const nested = 'NOT project.keyPairs:(NOT project.keyPairs:(name = "k2500"))';

  test('that would take the database are refused before they begin, with what to do', async () => {
    const { api, project } = await tenant('expensive');
    await client.query(
      `INSERT INTO "keyPair" (id, "projectId", name, "publicKey", fingerprint)
       SELECT gen_random_uuid(), $1, 'k' || n, 'ssh-ed25519 x', 'f' || n FROM generate_series(1, 2500) n`,
      [project.id],
    );
    await client.query('ANALYZE "keyPair"');
    const response = await api.raw('GET', `/v1/key-pairs?filter=${encodeURIComponent(nested)}`, null);
    const problem = (await response.json()) as { code: string; detail: string; violations: { field: string }[] };
    expect([response.status, problem.code]).toEqual([422, 'QUERY_TOO_EXPENSIVE']);
    expect(problem.detail).toContain('Follow fewer relations');
    // The same in many lists at once, and in a stream.
    const many = await api.raw('POST', '/v1/query', JSON.stringify({ all: { kind: 'key-pairs', filter: nested } }), {
      'content-type': 'application/json',
    });
    expect([many.status, await many.json()]).toMatchObject([422, { violations: [{ field: 'all.filter' }] }]);
    // What is modest is answered.
    const { items } = await api.call<{ items: Resource[] }>(
      'GET',
      `/v1/key-pairs?filter=${encodeURIComponent('project.name:* AND name = "k7"')}`,
    );
    expect(items).toHaveLength(1);
    await client.query('DELETE FROM "keyPair" WHERE "projectId" = $1', [project.id]);
    await client.query('ANALYZE "keyPair"');
  });

  test('with filters, streams and plain requests do not take each other’s connections', async () => {
    const [database, open, search] = [1, 1, 1].map((size) =>
      openDatabase(address.databaseUrl, size, { waitMs: 500 }),
    ) as [ReturnType<typeof openDatabase>, ReturnType<typeof openDatabase>, ReturnType<typeof openDatabase>];
    const server = buildServer({
      database,
      open,
      search,
      temporal: openTemporal(),
      authenticator: authenticator(database),
      log: log.child({}, { level: 'silent' }),
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const api = openApi(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, address.token);
    const asked = async (path: string): Promise<number> => {
      const response = await api.raw('GET', path, null);
      await response.body?.cancel();
      return response.status;
    };
    const paths = ['/v1/zones', '/v1/zones?filter=name:*', '/v1/events?follow=true'];
    try {
      expect(await Promise.all(paths.map(asked))).toEqual([200, 200, 200]);
      for (const [taken, wanted] of [
        [search, [200, 503, 200]],
        [open, [200, 200, 503]],
      ] as const) {
        const held = await taken.connections.connect();
        expect(await Promise.all(paths.map(asked))).toEqual(wanted);
        held.release();
      }
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await Promise.all([database, open, search].map((one) => one.close()));
    }
  });
});

test('a receiver that hangs holds the places of its own account, and nobody else’s', async () => {
  const setting = 'name = "callback.deniedNetworks"';
  const [denied] = (await listOf(admin, 'settings', setting)) as (Resource & { value: string[] })[];
  if (!denied) throw new Error('there is a setting of denied networks');
  const loopback = denied.value.filter((network) => network.startsWith('127.'));
  const hanging = new Set<string>();
  let told = (): void => {};
  const otherIsTold = new Promise<void>((resolve) => {
    told = resolve;
  });
  const receiver = createServer((message, response) => {
    const { pathname } = new URL(message.url ?? '/', 'http://receiver');
    if (pathname === '/hangs') {
      const id = String(message.headers['webhook-id']);
      hanging.add(id);
      response.once('close', () => hanging.delete(id));
      return;
    }
    response.writeHead(204).end();
    told();
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  await admin.call('PATCH', `/v1/settings/${denied.id}`, {
    value: denied.value.filter((network) => !loopback.includes(network)),
  });
  const network = ({ api, project }: Tenant, path: string) =>
    api.call(
      'POST',
      '/v1/networks',
      { name: 'told', zoneId, projectId: project.id },
      { 'Belay-Callback-Url': `${url}${path}` },
    );
  try {
    const hostile = await tenant('hangs');
    const other = await tenant('listens');
    const made = await Promise.all(Array.from({ length: 12 }, () => network(hostile, '/hangs')));
    for (const { id } of made) await hostile.api.settled(id);
    await until(async () => hanging.size > 0);
    await network(other, '/listens');
    await otherIsTold;
    // Nobody had to give up for that: the others hang as before, as many as an account has places.
    expect(hanging.size).toBeGreaterThan(0);
    expect(hanging.size).toBeLessThanOrEqual(4);
  } finally {
    await admin.call('PATCH', `/v1/settings/${denied.id}`, { value: denied.value });
    receiver.closeAllConnections();
    receiver.close();
  }
});

test('an operation of one project waits for no more than one of another’s, however many that has', async () => {
  const flood = await tenant('flood');
  const other = await tenant('calm');
  const network = ({ api, project }: Tenant) =>
    api.call('POST', '/v1/networks', { name: 'n', zoneId, projectId: project.id });
  const many = await Promise.all(Array.from({ length: 150 }, () => network(flood)));
  const one = await network(other);
  const startOf = async ({ api }: Tenant, id: string): Promise<number> => {
    const { state, startedAt } = await api.settled(id);
    expect(state).toBe('succeeded');
    return Date.parse(startedAt ?? '');
  };
  const start = await startOf(other, one.id);
  const starts = await Promise.all(many.map(({ id }) => startOf(flood, id)));
  // It came last, and was not begun last.
  expect(starts.filter((time) => time > start).length).toBeGreaterThan(0);
});
