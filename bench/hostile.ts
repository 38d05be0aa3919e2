/** One hostile tenant beside ten ordinary ones: what these feel of it. */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openDatabase, rowsOf } from '../database/database.ts';
import type { Api, Resource } from '../lab/api.ts';
import { startChild } from './child.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, percentile } from './figures.ts';
import type { HttpLoad, Load } from './load.ts';
import { requestOf } from './reads.ts';

const ordinaryCount = 10;
const seconds = 20;
const bindings = 800;
const keyPairs = 2_500;

interface Tenant {
  api: Api;
  token: string;
  project: Resource;
  user: Resource;
}

/** With an account of its own, whose owner it is. */
async function tenant({ admin }: BenchCloud, name: string): Promise<Tenant> {
  const listed = async (plural: string, filter: string): Promise<Resource> => {
    const page = await admin.call<{ items: Resource[] }>('GET', `/v1/${plural}?filter=${encodeURIComponent(filter)}`);
    const [first] = page.items;
    if (!first) throw new Error(`there is none of ${plural} with ${filter}`);
    return first;
  };
  const { id: domainId } = await listed('domains', 'name:*');
  const account = await admin.call('POST', '/v1/accounts', { name, domainId });
  const project = await listed('projects', `accountId = "${account.id}"`);
  const user = await admin.call('POST', '/v1/users', { name, userName: name, accountId: account.id });
  await admin.call('POST', '/v1/role-bindings', {
    name,
    subjectKind: 'user',
    subjectId: user.id,
    roleId: (await listed('roles', 'name = "accountOwner"')).id,
    targetKind: 'account',
    targetId: account.id,
  });
  const key = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', { name, userId: user.id });
  return { api: admin.as(key.token), token: key.token, project, user };
}

/** What an ordinary tenant does all day: looks, lists, finds, makes. */
const dayOf = ({ token, project }: Tenant, zoneId: string): string[] => {
  const network = JSON.stringify({ name: 'n', zoneId, projectId: project.id });
  return [
    requestOf('GET', `/v1/projects/${project.id}`, token),
    requestOf('GET', '/v1/zones', token),
    requestOf('GET', `/v1/networks?filter=${encodeURIComponent('name = "n"')}&pageSize=20`, token),
    requestOf('GET', '/v1/operations?pageSize=20', token),
    requestOf('POST', '/v1/networks', token, network),
  ];
};

/** p50 and p99 of all ordinary tenants together, each with one request at a time; refusals are counted and not hidden. */
async function ordinary(port: number, tenants: Tenant[], zoneId: string): Promise<{ ms: number[]; refused: number }> {
  const generator = startChild('load.ts');
  try {
    // All in one process: the requests of the ten go around over ten connections.
    const days = tenants.map((one) => dayOf(one, zoneId));
    const requests = (days[0] ?? []).flatMap((_, at) => days.map((day) => day[at] ?? ''));
    const load: HttpLoad = { kind: 'http', port, requests, connections: ordinaryCount, limit: { seconds } };
    const done = await generator.ask<Load>(load);
    const refused = Object.entries(done.statuses).reduce((sum, [status, n]) => sum + (status < '300' ? 0 : n), 0);
    return { ms: done.milliseconds, refused };
  } finally {
    await generator.stop();
  }
}

/** All that one tenant can think of, at once, until it is stopped. */
async function hostilities(bench: BenchCloud, hostile: Tenant, images: string[]): Promise<() => Promise<void>> {
  const { url } = hostile.api;
  const port = Number(new URL(url).port);
  const zoneId = bench.cloud.zone.id;
  const receiver = createServer(() => {});
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  const callback = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
  let stopping = false;
  const ended = new AbortController();
  const again = async (work: () => Promise<unknown>): Promise<void> => {
    while (!stopping) {
      await work().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const uploads = images.map((id) =>
    again(
      () =>
        new Promise<void>((resolve) => {
          const sent = request(`${url}/v1/images/${id}/content`, {
            method: 'PUT',
            headers: { authorization: `Bearer ${hostile.token}`, 'content-type': 'application/octet-stream' },
            signal: ended.signal,
          });
          sent.on('response', (response) => response.resume().once('end', () => sent.destroy()));
          sent.on('error', () => {}).once('close', resolve);
          sent.write(Buffer.alloc(1));
        }),
    ),
  );
  const asked = (path: string) => () =>
    fetch(`${url}${path}`, { headers: { authorization: `Bearer ${hostile.token}` }, signal: ended.signal }).then(
      (response) => response.arrayBuffer(),
    );
  const nested = 'NOT project.keyPairs:(NOT project.keyPairs:(name = "k2500"))';
  const terms = Array.from({ length: 60 }, (_, n) => `"no-${n}"`).join(' OR ');
  const searches = [nested, terms].flatMap((filter) =>
    Array.from({ length: 20 }, () => again(asked(`/v1/key-pairs?count=exact&filter=${encodeURIComponent(filter)}`))),
  );
  const streams = Array.from({ length: 200 }, () => again(asked('/v1/events?follow=true')));
  // Makes and reads as fast as it goes, over many connections; each make wants to be told at a receiver that hangs.
  const network = JSON.stringify({ name: 'f', zoneId, projectId: hostile.project.id });
  const create = requestOf('POST', '/v1/networks', hostile.token, network).replace(
    '\r\n\r\n',
    `\r\nBelay-Callback-Url: ${callback}\r\n\r\n`,
  );
  const generator = startChild('load.ts');
  const flood = generator.ask<Load>({
    kind: 'http',
    port,
    requests: [create, requestOf('GET', '/v1/networks?pageSize=100', hostile.token)],
    connections: 100,
    limit: { seconds: seconds + 10 },
  } satisfies HttpLoad);
  flood.catch(() => {});
  return async () => {
    stopping = true;
    ended.abort();
    await generator.stop();
    await Promise.all([...uploads, ...searches, ...streams]);
    receiver.closeAllConnections();
    receiver.close();
  };
}

/** Ten tenants alone, and beside one who does its worst; what they wait may at most double. */
export async function hostileTenant(bench: BenchCloud): Promise<Figure[]> {
  const { admin, cloud, stack } = bench;
  const tenants: Tenant[] = [];
  for (let n = 0; n < ordinaryCount; n++) tenants.push(await tenant(bench, `ordinary-${n}`));
  const hostile = await tenant(bench, 'hostile');
  const images: string[] = [];
  for (let n = 0; n < 155; n++)
    images.push(
      (
        await hostile.api.call('POST', '/v1/images', {
          name: 'i',
          zoneId: cloud.zone.id,
          projectId: hostile.project.id,
        })
      ).id,
    );
  const { items: settings } = await admin.call<{ items: (Resource & { value: string[] })[] }>(
    'GET',
    `/v1/settings?filter=${encodeURIComponent('name = "callback.deniedNetworks"')}`,
  );
  const [denied] = settings;
  if (!denied) throw new Error('there is a setting of denied networks');
  const value = denied.value.filter((network) => !network.startsWith('127.'));
  await admin.call('PATCH', `/v1/settings/${denied.id}`, { value });
  const database = openDatabase(stack.databaseUrl, 1);
  await rowsOf(
    database.connections,
    `INSERT INTO "keyPair" (id, "projectId", name, "publicKey", fingerprint)
     SELECT gen_random_uuid(), $1, 'k' || n, 'ssh-ed25519 x', 'f' || n FROM generate_series(1, ${keyPairs}) n`,
    [hostile.project.id],
  );
  await rowsOf(
    database.connections,
    `INSERT INTO "roleBinding" (id, name, state, "subjectKind", "subjectId", "roleId", "targetKind", "targetId")
     SELECT gen_random_uuid(), k.name, 'active', 'user', $1, r.id, 'keyPair', k.id
     FROM (SELECT id, name FROM "keyPair" WHERE "projectId" = $2 LIMIT ${bindings}) k, "role" r WHERE r.name = 'projectReader'`,
    [hostile.user.id, hostile.project.id],
  );
  await database.connections.query('ANALYZE');
  await database.close();
  const port = Number(new URL(stack.apiUrl).port);
  const zoneId = cloud.zone.id;
  await ordinary(port, tenants, zoneId);
  const alone = await ordinary(port, tenants, zoneId);
  const stop = await hostilities(bench, hostile, images);
  const beside = await ordinary(port, tenants, zoneId);
  await stop();
  return (
    [
      ['p50', 0.5],
      ['p99', 0.99],
    ] as const
  ).map(([name, share]) =>
    compared(
      `hostile.${name}`,
      percentile(beside.ms, share),
      percentile(alone.ms, share),
      'ms',
      { atMost: 2 },
      `${beside.ms.length} requests of ${ordinaryCount} ordinary tenants in ${seconds} s, one at a time each, ${beside.refused} refused, beside one with 155 one-byte uploads, 40 expensive searches, ${bindings} bindings, 200 streams, and a flood over 100 connections whose callbacks hang; against: the ten alone (${alone.ms.length} requests, ${alone.refused} refused)`,
    ),
  );
}
