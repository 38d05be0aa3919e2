/** Revoked is revoked: whatever an answer is, it ends when its caller may not have it any more. */
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { Api, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { code, peopleOf } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { bind, newAccount, newRole } = peopleOf(admin);
const zoneId = cloud.zone.id;

interface Follower {
  account: Resource;
  project: Resource;
  user: Resource;
  key: Resource & { token: string };
  grant: Resource;
  api: Api;
  images: Resource[];
}

const soon = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString();

/** Somebody of an account of their own, who sees one instance of the cloud's, and may upload into a project of its own. */
async function follower(ends: { key?: string; grant?: string } = {}): Promise<Follower> {
  const { account, project } = await newAccount('follower');
  const user = await admin.call('POST', '/v1/users', {
    name: 'f',
    userName: crypto.randomUUID(),
    accountId: account.id,
  });
  const grant = await bind(
    admin,
    role,
    ['user', user.id],
    ['account', account.id],
    ends.grant ? { expiresAt: ends.grant } : {},
  );
  // What is shared ends with the same grant, as far as this is about grants.
  await bind(admin, role, ['user', user.id], ['instance', instance.id], ends.grant ? { expiresAt: ends.grant } : {});
  await bind(admin, role, ['user', user.id], ['operation', waited], ends.grant ? { expiresAt: ends.grant } : {});
  const key = await admin.call<Follower['key']>('POST', '/v1/api-keys', {
    name: 'f',
    userId: user.id,
    ...(ends.key ? { expiresAt: ends.key } : {}),
  });
  const image = await admin.call('POST', '/v1/images', { name: 'f', zoneId, projectId: project.id });
  return { account, project, user, key, grant, api: admin.as(key.token), images: [image] };
}

/** Begins to read, and answers a promise of the end: how, and with what status. */
async function followed(api: Api, path: string): Promise<{ end: Promise<string> }> {
  const response = await api.raw('GET', path, null);
  expect([path, response.status]).toEqual([path, 200]);
  const read = async (): Promise<string> => {
    for await (const _ of response.body ?? []);
    return 'ended';
  };
  return { end: read().catch((error: unknown) => `broken: ${String(error)}`) };
}

/** Sends a little every while, and answers what it is told in the end. */
function uploading(api: Api, imageId: string): { begun: Promise<void>; told: Promise<string> } {
  const url = new URL(`${api.url}/v1/images/${imageId}/content`);
  const headers = { authorization: `Bearer ${api.token}`, 'content-type': 'application/octet-stream' };
  const sent = request(url, { method: 'PUT', headers });
  let timer: NodeJS.Timeout | undefined;
  const told = new Promise<string>((resolve) => {
    sent.on('response', async (response) => {
      clearInterval(timer);
      let text = '';
      for await (const chunk of response) text += String(chunk);
      resolve(`${response.statusCode} ${(JSON.parse(text) as { code?: string }).code}`);
      sent.destroy();
    });
    sent.on('error', (error) => resolve(`broken: ${error.message}`));
  });
  const begun = new Promise<void>((resolve) => {
    const disk = Buffer.alloc(256 * 1024);
    disk.set([0x55, 0xaa], 510);
    sent.write(disk, () => resolve());
    timer = setInterval(() => sent.write(Buffer.alloc(16 * 1024)), 100);
  });
  return { begun, told };
}

let instance: Resource;
let role: string;
/** An operation that does not end while this file runs. */
let waited: string;
let release: () => Promise<void>;

beforeAll(async () => {
  role = await newRole([
    'event.*',
    'instance.get',
    'instance.serialLog',
    'image.*',
    'operation.get',
    'network.*',
    'zone.*',
  ]);
  instance = await make(cloud.tenant, 'instances', instanceBody(cloud, 'followed'));
  const network = await make(cloud.tenant, 'networks', { name: 'held', zoneId });
  const client = await openClient(address.databaseUrl);
  const behind = crypto.randomUUID();
  await client.query(
    `INSERT INTO "operationLock" ("operationId", "resourceKind", "resourceId", mode, entered) VALUES ($1, 'network', $2, 'X', false)`,
    [behind, network.id],
  );
  waited = (await cloud.tenant.call('POST', `/v1/networks/${network.id}/actions/repair`, {})).id;
  release = async () => {
    await client.query('DELETE FROM "operationLock" WHERE "operationId" = $1', [behind]);
    await client.query(`SELECT pg_notify('belay_queue', '')`);
    await client.end();
    await admin.settled(waited);
    await cloud.tenant.done('DELETE', `/v1/networks/${network.id}`);
    await cloud.tenant.done('DELETE', `/v1/instances/${instance.id}`);
    await cloud.tenant.done('POST', `/v1/instances/${instance.id}/actions/expunge`, {});
  };
}, 120_000);
afterAll(() => release());

describe('a stream, a console, an upload and a wait end when', () => {
  const ways: [
    why: string,
    ends: { key?: number; grant?: number },
    revoke: (who: Follower) => Promise<unknown>,
    told: RegExp,
  ][] = [
    ['the key is deleted', {}, ({ key }) => admin.call('DELETE', `/v1/api-keys/${key.id}`), /^401 /],
    [
      'the key is switched off',
      {},
      ({ key }) => admin.call('PATCH', `/v1/api-keys/${key.id}`, { enabled: false }),
      /^401 /,
    ],
    [
      'the key may not be used from there any more',
      {},
      ({ key }) => admin.call('PATCH', `/v1/api-keys/${key.id}`, { allowedCidrs: ['10.0.0.0/8'] }),
      /^401 /,
    ],
    ['the user is disabled', {}, ({ user }) => admin.call('POST', `/v1/users/${user.id}/actions/disable`, {}), /^401 /],
    [
      'the account is locked',
      {},
      ({ account }) => admin.call('POST', `/v1/accounts/${account.id}/actions/lock`, {}),
      /^403 ACCOUNT_SUSPENDED$/,
    ],
    [
      'what was granted is withdrawn',
      {},
      async ({ user }) => {
        const filter = encodeURIComponent(`subjectId = "${user.id}"`);
        const { items } = await admin.call<{ items: Resource[] }>('GET', `/v1/role-bindings?filter=${filter}`);
        for (const { id } of items) await admin.call('DELETE', `/v1/role-bindings/${id}`);
      },
      /^403 FORBIDDEN$/,
    ],
    [
      'the role loses it',
      {},
      () => admin.call('PATCH', `/v1/roles/${role}`, { permissions: [{ effect: 'allow', pattern: 'zone.get' }] }),
      /^403 FORBIDDEN$/,
    ],
    ['the key ends', { key: 6 }, async () => {}, /^401 /],
    ['the grant ends', { grant: 6 }, async () => {}, /^403 FORBIDDEN$/],
  ];
  test.each(ways)('%s', async (_, ends, revoke, told) => {
    const whole = ['event.*', 'instance.get', 'instance.serialLog', 'image.*', 'operation.get', 'network.*', 'zone.*'];
    await admin.call('PATCH', `/v1/roles/${role}`, {
      permissions: whole.map((pattern) => ({ effect: 'allow', pattern })),
    });
    const who = await follower({
      ...(ends.key ? { key: soon(ends.key) } : {}),
      ...(ends.grant ? { grant: soon(ends.grant) } : {}),
    });
    const waiting = code(who.api, 'GET', `/v1/operations/${waited}?waitSeconds=60`);
    const events = await followed(who.api, '/v1/events?follow=true');
    const serial = await followed(who.api, `/v1/instances/${instance.id}/views/serialLog?follow=true`);
    const upload = uploading(who.api, String(who.images[0]?.id));
    await upload.begun;
    await revoke(who);
    expect(await events.end).toBe('ended');
    expect(await serial.end).toBe('ended');
    expect(await waiting).toMatch(told.source.startsWith('^403 FORB') ? /^40[34] / : told);
    expect(await upload.told).toMatch(told);
    await admin.done('DELETE', `/v1/images/${String(who.images[0]?.id)}`);
  });
});

test('who may not list events does not follow them either', async () => {
  const who = await follower();
  await admin.call('DELETE', `/v1/role-bindings/${who.grant.id}`);
  const narrow = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', {
    name: 'narrow',
    userId: who.user.id,
    permissions: ['instance.*'],
  });
  expect(await code(admin.as(narrow.token), 'GET', '/v1/events?follow=true')).toBe('403 FORBIDDEN');
});

test('what changes rights in the database is told to every server, whoever changed it', async () => {
  const who = await follower();
  const events = await followed(who.api, '/v1/events?follow=true');
  const client = await openClient(address.databaseUrl);
  await client.query(`UPDATE "account" SET state = 'disabled' WHERE id = $1`, [who.account.id]);
  await client.end();
  expect(await events.end).toBe('ended');
  expect(await code(who.api, 'GET', '/v1/networks')).toBe('403 ACCOUNT_SUSPENDED');
});
