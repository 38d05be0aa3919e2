/** Rights: what they are on, how long they last, and what can be made of them. */
import { beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { scopesOf } from '../../acceptance/caller.ts';
import { authenticator } from '../../api/authenticate.ts';
import { openDatabase } from '../../database/database.ts';
import type { Api, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import { joinCloud } from '../support/cloud.ts';
import { answer, code, nobody, type Person, peopleOf, rootDomain } from '../support/people.ts';
import { openClient } from '../support/postgres.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { bind, list, newAccount, newRole, person, roleId } = peopleOf(admin);
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF rights';
const zoneId = cloud.zone.id;
const soon = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString();
const keyFor = (by: Api, userId: string, more: object = {}): Promise<Resource & { token: string }> =>
  by.call('POST', '/v1/api-keys', { name: 'k', userId, ...more });
/** Waits until the same request is answered like this. */
const becomes = (wanted: string, api: Api, path: string): Promise<unknown> =>
  vi.waitUntil(async () => (await code(api, 'GET', path)) === wanted, { timeout: 30_000, interval: 100 });

let account: Resource;
let project: Resource;
let owner: Person;
let member: Person;
let network: Resource;
let stranger: Person;
let strangersProject: Resource;

beforeAll(async () => {
  ({ account, project } = await newAccount('rights'));
  owner = await person('owner', account.id, 'accountOwner', ['account', account.id]);
  member = await person('member', account.id, 'projectMember', ['project', project.id]);
  network = await make(member.api, 'networks', { name: 'n', zoneId });
  const elsewhere = await newAccount('strange');
  strangersProject = elsewhere.project;
  stranger = await person('stranger', elsewhere.account.id, 'accountOwner', ['account', elsewhere.account.id]);
}, 120_000);

describe('a grant is on one resource of one kind', () => {
  test('a role on a resource of the same id and another kind opens nothing', async () => {
    const client = await openClient(address.databaseUrl);
    // As it could be made by whoever chose its id; the API refuses that by itself.
    const keyPair = await stranger.api.call('POST', '/v1/key-pairs', { name: 'same', publicKey: key });
    await client.query('UPDATE "keyPair" SET id = $2 WHERE id = $1', [keyPair.id, network.id]);
    await bind(stranger.api, 'projectMember', ['user', stranger.user.id], ['keyPair', network.id]);
    const path = `/v1/networks/${network.id}`;
    expect(await code(stranger.api, 'GET', `/v1/key-pairs/${network.id}`)).toBe('200');
    expect(await code(stranger.api, 'GET', path)).toBe('404 NOT_FOUND');
    expect(await code(stranger.api, 'PATCH', path, { description: 'mine' })).toBe('404 NOT_FOUND');
    expect(await code(stranger.api, 'DELETE', path)).toBe('404 NOT_FOUND');
    expect(await code(stranger.api, 'GET', `${path}/views/deletePlan`)).toBe('404 NOT_FOUND');
    expect(await list(stranger.api, 'networks', `id = "${network.id}"`)).toEqual([]);
    expect(
      await code(stranger.api, 'POST', '/v1/subnets', { name: 's', networkId: network.id, cidr: '10.9.0.0/24' }),
    ).toBe('404 NOT_FOUND');
    await client.query('UPDATE "keyPair" SET id = $2 WHERE id = $1', [network.id, keyPair.id]);
    await client.end();
  });

  test('an id of another kind is no target, whoever binds', async () => {
    for (const [targetKind, targetId] of [
      ['keyPair', network.id],
      ['project', account.id],
      ['account', project.id],
      ['domain', account.id],
      ['instance', nobody],
    ])
      expect(
        await code(admin, 'POST', '/v1/role-bindings', {
          name: 'g',
          subjectKind: 'user',
          subjectId: member.user.id,
          roleId: await roleId('projectReader'),
          targetKind,
          targetId,
        }),
        targetKind,
      ).toBe('404 NOT_FOUND');
    const client = await openClient(address.databaseUrl);
    await expect(
      client.query(
        `INSERT INTO "roleBinding" (id, name, state, "subjectKind", "roleId", "targetKind", "targetId") VALUES (gen_random_uuid(), 'g', 'active', 'everyone', $1, 'keyPair', $2)`,
        [await roleId('projectReader'), network.id],
      ),
    ).rejects.toMatchObject({ code: '23503' });
    await client.end();
  });

  test('every kind that can be deleted takes the grants on it along, in the same statement', async () => {
    const client = await openClient(address.databaseUrl);
    const { rows } = await client.query<{ table: string }>(
      `SELECT tgrelid::regclass::text AS table FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.proname = 'belay_grants_go'`,
    );
    await client.end();
    expect(rows.map(({ table }) => table.replaceAll('"', '')).sort()).toEqual(
      expect.arrayContaining(allKinds.map(({ name }) => name)),
    );
  });

  test('grants on and to what is deleted are gone with it', async () => {
    const net = await make(member.api, 'networks', { name: 'goes', zoneId });
    const second = await owner.api.call('POST', '/v1/projects', { name: 'second', accountId: account.id });
    const guest = await person('guest', account.id, 'projectReader', ['project', second.id]);
    const onNetwork = await bind(owner.api, 'networkUser', ['project', second.id], ['network', net.id]);
    const [onProject] = await list(admin, 'role-bindings', `subjectId = "${guest.user.id}"`);
    const toSecond = await bind(owner.api, 'networkUser', ['project', second.id], ['network', network.id]);
    await member.api.done('DELETE', `/v1/networks/${net.id}`);
    expect(await code(admin, 'GET', `/v1/role-bindings/${onNetwork.id}`)).toBe('404 NOT_FOUND');
    expect(await code(admin, 'GET', `/v1/role-bindings/${toSecond.id}`)).toBe('200');
    expect(await code(owner.api, 'DELETE', `/v1/projects/${second.id}`)).toBe('204');
    expect(await code(admin, 'GET', `/v1/role-bindings/${onProject?.id}`)).toBe('404 NOT_FOUND');
    expect(await code(admin, 'GET', `/v1/role-bindings/${toSecond.id}`)).toBe('404 NOT_FOUND');
    const leaver = await person('leaver', account.id, 'projectReader', ['project', project.id]);
    const [theirs] = await list(admin, 'role-bindings', `subjectId = "${leaver.user.id}"`);
    await admin.call('DELETE', `/v1/users/${leaver.user.id}`);
    expect(await code(admin, 'GET', `/v1/role-bindings/${theirs?.id}`)).toBe('404 NOT_FOUND');
  });

  test('however many grants there are, rights are asked for once', async () => {
    const many = await person('many', account.id, 'projectReader', ['project', project.id]);
    const client = await openClient(address.databaseUrl);
    const database = openDatabase(address.databaseUrl, 2);
    const query = vi.spyOn(database.connections, 'query');
    const asked = async (): Promise<{ statements: number; grants: number; projects: number }> => {
      query.mockClear();
      const caller = await authenticator(database).authenticate(`Bearer ${many.api.token}`, '127.0.0.1');
      const { projects } = scopesOf(caller, 'network.get');
      return { statements: query.mock.calls.length, grants: caller.grants.length, projects: projects.size };
    };
    const few = await asked();
    await client.query(
      `INSERT INTO "project" (id, name, "accountId", state) SELECT gen_random_uuid(), 'many ' || n, $1, 'active' FROM generate_series(1, 400) n`,
      [account.id],
    );
    await client.query(
      `INSERT INTO "roleBinding" (id, name, state, "subjectKind", "subjectId", "roleId", "targetKind", "targetId")
       SELECT gen_random_uuid(), 'g', 'active', 'user', $1, $2, 'project', id FROM "project" WHERE "accountId" = $3 AND name LIKE 'many %'`,
      [many.user.id, await roleId('projectReader'), account.id],
    );
    const lots = await asked();
    expect(lots).toEqual({ statements: few.statements, grants: few.grants + 400, projects: few.projects + 400 });
    await client.query(`UPDATE "project" SET "deletedAt" = now() WHERE "accountId" = $1 AND name LIKE 'many %'`, [
      account.id,
    ]);
    expect(await asked()).toEqual(few);
    await client.end();
    await database.close();
  });
});

describe('only those who run the platform', () => {
  test('bind everybody', async () => {
    const body = async (targetKind: string, targetId: string) => ({
      name: 'g',
      subjectKind: 'everyone',
      roleId: await roleId('projectReader'),
      targetKind,
      targetId,
    });
    expect(await code(owner.api, 'POST', '/v1/role-bindings', await body('project', project.id))).toBe('403 FORBIDDEN');
    expect(await code(owner.api, 'POST', '/v1/role-bindings', await body('network', network.id))).toBe('403 FORBIDDEN');
    const domain = await admin.call('POST', '/v1/domains', { name: `d-${crypto.randomUUID()}`, parentId: rootDomain });
    const there = await newAccount('there', domain.id);
    const domainAdmin = await person('da', there.account.id, 'domainAdmin', ['domain', domain.id]);
    expect(await code(domainAdmin.api, 'POST', '/v1/role-bindings', await body('domain', domain.id))).toBe(
      '403 FORBIDDEN',
    );
    const made = await admin.call('POST', '/v1/role-bindings', await body('network', network.id));
    expect(await code(stranger.api, 'GET', `/v1/networks/${network.id}`)).toBe('200');
    await admin.call('DELETE', `/v1/role-bindings/${made.id}`);
    expect(await code(stranger.api, 'GET', `/v1/networks/${network.id}`)).toBe('404 NOT_FOUND');
  });

  test('publish an image, at its making or later', async () => {
    const body = { name: 'i', zoneId };
    expect(await code(member.api, 'POST', '/v1/images', { ...body, visibility: 'public' })).toBe('403 FORBIDDEN');
    expect(await code(owner.api, 'POST', '/v1/images', { ...body, visibility: 'public' })).toBe('403 FORBIDDEN');
    const image = await member.api.call('POST', '/v1/images', { ...body, visibility: 'private' });
    const path = `/v1/images/${image.id}`;
    expect(await code(member.api, 'PATCH', path, { visibility: 'public' })).toBe('403 FORBIDDEN');
    expect(await code(admin, 'PATCH', path, { visibility: 'public' })).toBe('200');
    expect(await code(member.api, 'PATCH', path, { visibility: 'private' })).toBe('200');
    await member.api.done('DELETE', path);
  });

  test('make others mean a foreign project: what is shared with all is never implied', async () => {
    const shared = await admin.call('POST', '/v1/role-bindings', {
      name: 'g',
      subjectKind: 'everyone',
      roleId: await roleId('projectMember'),
      targetKind: 'project',
      targetId: strangersProject.id,
    });
    const made = await member.api.call<Resource & { projectId: string }>('POST', '/v1/key-pairs', {
      name: 'mine',
      publicKey: key,
    });
    expect(made.projectId).toBe(project.id);
    await admin.call('DELETE', `/v1/role-bindings/${shared.id}`);
    const outsider = await person('outsider', account.id, 'projectMember', ['project', strangersProject.id]);
    expect(await code(outsider.api, 'POST', '/v1/key-pairs', { name: 'k', publicKey: key })).toBe(
      '422 INVALID_ARGUMENT',
    );
    expect(
      await code(outsider.api, 'POST', '/v1/key-pairs', { name: 'k', publicKey: key, projectId: strangersProject.id }),
    ).toBe('201');
  });
});

describe('what comes of a right', () => {
  test('a key makes none that lasts longer, may more, or is used from elsewhere', async () => {
    const expiresAt = soon(600);
    const { token } = await keyFor(admin, member.user.id, { expiresAt, allowedCidrs: ['127.0.0.0/8'] });
    const api = admin.as(token);
    const child = await keyFor(api, member.user.id);
    expect([new Date(String(child.expiresAt)).toISOString(), child.allowedCidrs]).toEqual([expiresAt, ['127.0.0.0/8']]);
    const body = { name: 'k', userId: member.user.id };
    for (const more of [
      { expiresAt: soon(3600) },
      { expiresAt: null },
      { allowedCidrs: [] },
      { allowedCidrs: ['0.0.0.0/0'] },
      { allowedCidrs: ['126.0.0.0/7'] },
      { allowedCidrs: ['127.0.0.1/32', '10.0.0.0/8'] },
    ])
      expect([more, await code(api, 'POST', '/v1/api-keys', { ...body, ...more })]).toEqual([more, '403 FORBIDDEN']);
    expect(
      await code(api, 'POST', '/v1/api-keys', { ...body, expiresAt: soon(60), allowedCidrs: ['127.0.0.1/32'] }),
    ).toBe('201');
  });

  test('a key lifts neither its own limits nor those of another beyond its own', async () => {
    const { id, token } = await keyFor(admin, member.user.id, { allowedCidrs: ['127.0.0.0/8'] });
    const api = admin.as(token);
    for (const allowedCidrs of [[], ['0.0.0.0/0'], ['10.0.0.0/8']])
      expect(await code(api, 'PATCH', `/v1/api-keys/${id}`, { allowedCidrs })).toBe('403 FORBIDDEN');
    const other = await keyFor(admin, member.user.id, { allowedCidrs: ['10.0.0.0/8'] });
    expect(await code(api, 'PATCH', `/v1/api-keys/${other.id}`, { allowedCidrs: [] })).toBe('403 FORBIDDEN');
    expect(await code(api, 'PATCH', `/v1/api-keys/${other.id}`, { allowedCidrs: ['10.1.0.0/16'] })).toBe('200');
    const narrow = admin.as((await keyFor(admin, member.user.id, { permissions: ['apiKey.*'] })).token);
    const wide = await keyFor(admin, member.user.id, { enabled: false });
    expect(await code(narrow, 'PATCH', `/v1/api-keys/${wide.id}`, { enabled: true })).toBe('403 FORBIDDEN');
    expect(await code(narrow, 'PATCH', `/v1/api-keys/${other.id}`, { allowedCidrs: ['127.0.0.0/8'] })).toBe(
      '403 FORBIDDEN',
    );
    const brief = admin.as((await keyFor(admin, member.user.id, { expiresAt: soon(600) })).token);
    expect(await code(brief, 'PATCH', `/v1/api-keys/${wide.id}`, { enabled: true })).toBe('403 FORBIDDEN');
    expect(await code(member.api, 'PATCH', `/v1/api-keys/${wide.id}`, { enabled: true })).toBe('200');
    expect(await code(narrow, 'PATCH', `/v1/api-keys/${wide.id}`, { enabled: false })).toBe('200');
  });

  test('who rules for a while gives what ends with it, to itself, to others, and as keys', async () => {
    const user = await person('temporary', account.id, 'projectReader', ['project', project.id]);
    const expiresAt = soon(600);
    const temporary = await bind(admin, 'accountOwner', ['user', user.user.id], ['account', account.id], { expiresAt });
    const given = await bind(user.api, 'accountOwner', ['user', user.user.id], ['account', account.id]);
    expect(new Date(String(given.expiresAt)).toISOString()).toBe(expiresAt);
    const body = {
      name: 'g',
      subjectKind: 'user',
      subjectId: member.user.id,
      roleId: await roleId('projectAdmin'),
      targetKind: 'project',
      targetId: project.id,
    };
    for (const later of [soon(3600), null])
      expect(await code(user.api, 'POST', '/v1/role-bindings', { ...body, expiresAt: later })).toBe('403 FORBIDDEN');
    for (const { id } of [temporary, given])
      for (const later of [soon(3600), null])
        expect(await code(user.api, 'PATCH', `/v1/role-bindings/${id}`, { expiresAt: later })).toBe('403 FORBIDDEN');
    expect(await code(user.api, 'PATCH', `/v1/role-bindings/${given.id}`, { expiresAt: soon(300) })).toBe('200');
    const foreign = await keyFor(user.api, member.user.id);
    expect(new Date(String(foreign.expiresAt)).getTime()).toBeLessThanOrEqual(Date.parse(expiresAt));
    const own = await keyFor(user.api, user.user.id);
    expect(own.expiresAt).toBeNull();
    const brief = admin.as((await keyFor(admin, owner.user.id, { expiresAt })).token);
    const planted = await bind(brief, 'projectReader', ['user', member.user.id], ['project', project.id]);
    expect(new Date(String(planted.expiresAt)).toISOString()).toBe(expiresAt);
  });

  test('an end that is over already is refused', async () => {
    const past = '2020-01-01T00:00:00Z';
    expect(await code(admin, 'POST', '/v1/api-keys', { name: 'k', userId: member.user.id, expiresAt: past })).toBe(
      '422 INVALID_ARGUMENT',
    );
    const grant = await bind(admin, 'projectReader', ['user', member.user.id], ['project', project.id]);
    expect(await code(admin, 'PATCH', `/v1/role-bindings/${grant.id}`, { expiresAt: past })).toBe(
      '422 INVALID_ARGUMENT',
    );
    const problem = await answer(admin, 'POST', '/v1/role-bindings', { ...grant, expiresAt: past });
    expect(problem.status).toBe(422);
  });

  test('who was a member for a while loses what the project was given', async () => {
    const second = await owner.api.call('POST', '/v1/projects', { name: 'brief', accountId: account.id });
    const net = await make(member.api, 'networks', { name: 'given', zoneId });
    await bind(owner.api, 'networkUser', ['project', second.id], ['network', net.id]);
    const user = await owner.api.call('POST', '/v1/users', {
      name: 'brief',
      userName: `brief-${crypto.randomUUID()}`,
      accountId: account.id,
    });
    await bind(owner.api, 'projectReader', ['user', user.id], ['project', second.id], { expiresAt: soon(4) });
    const api = admin.as((await keyFor(owner.api, user.id)).token);
    expect(await code(api, 'GET', `/v1/networks/${net.id}`)).toBe('200');
    await becomes('404 NOT_FOUND', api, `/v1/networks/${net.id}`);
    await member.api.done('DELETE', `/v1/networks/${net.id}`);
  });

  test('a role gains nothing that its editor does not hold wherever it is bound', async () => {
    const narrow = await newRole(['network.get', 'network.list']);
    const manager = await person('manager', cloud.account.id, await newRole(['role.*', 'network.*']), [
      'platform',
      null,
    ]);
    await bind(admin, narrow, ['user', manager.user.id], ['project', project.id]);
    const path = `/v1/roles/${narrow}`;
    const rules = (...patterns: string[]) => ({
      permissions: patterns.map((pattern) => ({ effect: 'allow', pattern })),
    });
    expect(await code(manager.api, 'PATCH', path, rules('network.get', '*.*'))).toBe('403 FORBIDDEN');
    expect(await code(manager.api, 'PATCH', path, rules('instance.get'))).toBe('403 FORBIDDEN');
    expect(await code(manager.api, 'PATCH', path, rules('network.*'))).toBe('200');
    expect(await code(admin, 'PATCH', path, rules('network.get', 'instance.get'))).toBe('200');
    expect(await code(manager.api, 'PATCH', path, rules('instance.get'))).toBe('200');
    const denied = { permissions: [...rules('*.*').permissions, { effect: 'deny', pattern: 'user.*' }] };
    expect(await code(admin, 'PATCH', path, denied)).toBe('200');
    expect(await code(manager.api, 'PATCH', path, rules('*.*'))).toBe('403 FORBIDDEN');
  });
});

test('in a locked account nothing is made or started, whoever asks; what runs goes on', async () => {
  const locked = await newAccount('locked');
  const someone = await person('someone', locked.account.id, 'projectMember', ['project', locked.project.id]);
  const net = await make(someone.api, 'networks', { name: 'n', zoneId });
  const subnet = await make(someone.api, 'subnets', { name: 's', networkId: net.id, cidr: '10.8.0.0/24' });
  const nic = { networkInterfaces: [{ subnetId: subnet.id }] };
  const running = await make(someone.api, 'instances', instanceBody(cloud, 'runs', nic));
  const stopped = await make(someone.api, 'instances', instanceBody(cloud, 'off', { ...nic, startOnCreate: false }));
  const cloudVolume = { zoneId, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 };
  const volume = await make(someone.api, 'volumes', { ...cloudVolume, name: 'v' });
  const gone = await make(someone.api, 'volumes', { ...cloudVolume, name: 'gone' });
  await someone.api.done('DELETE', `/v1/volumes/${gone.id}`);
  const destroyed = await make(someone.api, 'instances', instanceBody(cloud, 'lost', { ...nic, startOnCreate: false }));
  await someone.api.done('DELETE', `/v1/instances/${destroyed.id}`);
  // It has been larger than it is now.
  const shrunk = await make(someone.api, 'volumes', { ...cloudVolume, name: 'shrunk' });
  const small = await make(someone.api, 'snapshots', { name: 'small', volumeId: shrunk.id });
  await someone.api.done('POST', `/v1/volumes/${shrunk.id}/actions/resize`, { sizeGib: 2 });
  const large = await make(someone.api, 'snapshots', { name: 'large', volumeId: shrunk.id });
  const revert = `/v1/volumes/${shrunk.id}/actions/revert`;
  await someone.api.done('POST', revert, { snapshotId: small.id });
  await admin.call('POST', `/v1/accounts/${locked.account.id}/actions/lock`, {});
  for (const by of [someone.api, admin])
    for (const [path, body] of [
      ['/v1/networks', { name: 'n', zoneId, projectId: locked.project.id }],
      ['/v1/key-pairs', { name: 'k', publicKey: key, projectId: locked.project.id }],
      ['/v1/snapshots', { name: 's', volumeId: volume.id, projectId: locked.project.id }],
      [`/v1/instances/${stopped.id}/actions/start`, {}],
      [`/v1/volumes/${volume.id}/actions/resize`, { sizeGib: 2 }],
      [`/v1/volumes/${gone.id}/actions/recover`, {}],
      [`/v1/instances/${destroyed.id}/actions/recover`, {}],
      [revert, { snapshotId: large.id }],
    ] as const)
      expect(`${path} ${await code(by, 'POST', path, body)}`).toBe(`${path} 403 ACCOUNT_SUSPENDED`);
  for (const [path, body] of [
    ['/v1/projects', { name: 'p', accountId: locked.account.id }],
    ['/v1/users', { name: 'u', userName: 'u', accountId: locked.account.id }],
    ['/v1/api-keys', { name: 'k', userId: someone.user.id }],
  ] as const)
    expect(`${path} ${await code(admin, 'POST', path, body)}`).toBe(`${path} 403 ACCOUNT_SUSPENDED`);
  await someone.api.done('POST', revert, { snapshotId: small.id });
  await someone.api.done('POST', `/v1/instances/${running.id}/actions/reboot`, {});
  await someone.api.done('POST', `/v1/instances/${running.id}/actions/stop`, { mode: 'force' });
  // Somebody of a locked account works on in a project of another.
  await bind(admin, 'projectMember', ['user', someone.user.id], ['project', project.id]);
  expect(await code(someone.api, 'POST', '/v1/key-pairs', { name: 'k', publicKey: key, projectId: project.id })).toBe(
    '201',
  );
  for (const id of [running.id, stopped.id]) {
    await someone.api.done('DELETE', `/v1/instances/${id}`);
    await someone.api.done('POST', `/v1/instances/${id}/actions/expunge`, {});
  }
  await someone.api.done('DELETE', `/v1/volumes/${volume.id}`);
});

describe('what a change names needs the permission that this use takes', () => {
  let volume: Resource;
  let instance: Resource;
  let snapshot: Resource;
  let image: Resource;
  let subnet: Resource;
  let group: Resource;
  let addresses: Resource;
  let policy: Resource;
  const types = { zoneId, volumeTypeId: cloud.volumeTypes[0]?.id };

  beforeAll(async () => {
    volume = await make(member.api, 'volumes', { name: 'v', ...types, sizeGib: 1 });
    subnet = await make(member.api, 'subnets', { name: 's', networkId: network.id, cidr: '10.6.0.0/24' });
    group = await make(member.api, 'security-groups', { name: 'g', zoneId });
    addresses = await make(member.api, 'address-groups', { name: 'a', family: 4 });
    policy = await make(member.api, 'firewall-policies', { name: 'p' });
    const body = instanceBody(cloud, 'i', { startOnCreate: false, networkInterfaces: [{ subnetId: subnet.id }] });
    instance = await make(member.api, 'instances', body);
    snapshot = await make(member.api, 'snapshots', { name: 's', volumeId: volume.id });
    image = await member.api.call('POST', '/v1/images', { name: 'private', zoneId });
    const disk = new Uint8Array(1024 * 1024);
    disk.set([0x55, 0xaa], 510);
    const taken = await member.api.raw('PUT', `/v1/images/${image.id}/content`, disk);
    expect((await member.api.settled(((await taken.json()) as { id: string }).id)).state).toBe('succeeded');
    const mine = await make(stranger.api, 'networks', { name: 'mine', zoneId });
    const own = await make(stranger.api, 'subnets', { name: 'mine', networkId: mine.id, cidr: '10.5.0.0/24' });
    const ownVolume = await make(stranger.api, 'volumes', { name: 'mine', ...types, sizeGib: 1 });
    const web = (more: object): Record<string, unknown> =>
      instanceBody(cloud, 'w', { networkInterfaces: [{ subnetId: own.id }], startOnCreate: false, ...more });
    uses = [
      ['volume', volume.id, 'snapshot', '/v1/snapshots', { name: 's', volumeId: volume.id }],
      ['instance', instance.id, 'attach', `/v1/volumes/${ownVolume.id}/actions/attach`, { instanceId: instance.id }],
      [
        'snapshot',
        snapshot.id,
        'use',
        '/v1/volumes',
        { name: 'v', ...types, sizeGib: 1, source: { snapshotId: snapshot.id } },
      ],
      ['snapshot', snapshot.id, 'use', '/v1/instances', web({ source: { snapshotId: snapshot.id } })],
      ['image', image.id, 'use', '/v1/volumes', { name: 'v', ...types, sizeGib: 1, source: { imageId: image.id } }],
      ['image', image.id, 'use', '/v1/instances', web({ source: { imageId: image.id } })],
      ['network', network.id, 'addSubnet', '/v1/subnets', { name: 's', networkId: network.id, cidr: '10.4.0.0/24' }],
      ['subnet', subnet.id, 'use', '/v1/instances', web({ networkInterfaces: [{ subnetId: subnet.id }] })],
      [
        'securityGroup',
        group.id,
        'use',
        '/v1/instances',
        web({ networkInterfaces: [{ subnetId: own.id, securityGroupIds: [group.id] }] }),
      ],
      [
        'addressGroup',
        addresses.id,
        'use',
        '/v1/security-groups',
        {
          name: 'g',
          zoneId,
          rules: [{ direction: 'in', protocol: 'any', remoteAddressGroupId: addresses.id }],
        },
      ],
      [
        'securityGroup',
        group.id,
        'use',
        '/v1/security-groups',
        { name: 'g', zoneId, rules: [{ direction: 'in', protocol: 'any', remoteSecurityGroupId: group.id }] },
      ],
      [
        'addressGroup',
        addresses.id,
        'use',
        '/v1/firewall-policies',
        {
          name: 'p',
          rules: [
            { priority: 1, direction: 'in', action: 'deny', protocol: 'any', source: { addressGroupId: addresses.id } },
          ],
        },
      ],
      [
        'firewallPolicy',
        policy.id,
        'use',
        `/v1/networks/${mine.id}/actions/setFirewallPolicy`,
        { firewallPolicyId: policy.id },
      ],
    ];
  }, 120_000);
  /** Kind and id of what is named, the permission it needs, path and body of what names it. */
  let uses: [kind: string, id: string, use: string, path: string, body: object][];

  test('to see is not to use: a read share lets nothing be made of it', async () => {
    for (const [kind, id, use, path, body] of uses) {
      expect([kind, path, await code(stranger.api, 'POST', path, body)]).toEqual([kind, path, '404 NOT_FOUND']);
      const share = await bind(
        admin,
        await newRole([`${kind}.get`, `${kind}.list`]),
        ['user', stranger.user.id],
        [kind, id],
      );
      expect(await code(stranger.api, 'GET', `/v1/${kindOf(kind).plural}/${id}`)).toBe('200');
      const refused = await answer(stranger.api, 'POST', path, body);
      expect([kind, path, refused.status, refused.code]).toEqual([kind, path, 403, 'FORBIDDEN']);
      if (use === 'use' || use === 'attach') expect(refused.detail).toContain(`${kind}.${use}`);
      const project = { projectId: strangersProject.id };
      expect(
        await code(stranger.api, 'POST', path, { ...body, ...(path.includes('/actions/') ? {} : project) }),
      ).toMatch(/^40[34] /);
      await admin.call('DELETE', `/v1/role-bindings/${share.id}`);
    }
  });

  test('a share with the permission of this use is enough, and only for this use', async () => {
    for (const [kind, id, use, path, body] of uses) {
      const making = use === 'snapshot' ? ['snapshot.create'] : use === 'addSubnet' ? ['subnet.create'] : [];
      const role = await newRole([`${kind}.get`, `${kind}.${use}`, ...making]);
      const share = await bind(admin, role, ['user', stranger.user.id], [kind, id]);
      expect([kind, path, await code(stranger.api, 'POST', `${path}?dryRun=true`, body)]).toEqual([kind, path, '200']);
      await admin.call('DELETE', `/v1/role-bindings/${share.id}`);
    }
  });

  test("what a stranger makes of a shared volume is its owner's, who can delete all of it", async () => {
    const shared = await make(member.api, 'volumes', { name: 'shared', ...types, sizeGib: 1 });
    const role = await newRole(['volume.get', 'volume.snapshot', 'snapshot.create']);
    await bind(admin, role, ['user', stranger.user.id], ['volume', shared.id]);
    const asked = await stranger.api.call('POST', '/v1/snapshots', { name: 'theirs', volumeId: shared.id });
    const taken = await member.api.settled(asked.id);
    expect([taken.state, (await member.api.call('GET', `/v1/snapshots/${taken.targetId}`)).projectId]).toEqual([
      'succeeded',
      project.id,
    ]);
    expect(await code(stranger.api, 'GET', `/v1/snapshots/${taken.targetId}`)).toBe('404 NOT_FOUND');
    await member.api.done('DELETE', `/v1/snapshots/${taken.targetId}`);
    await member.api.done('DELETE', `/v1/volumes/${shared.id}`);
  });

  test('a key that may make things and use nothing makes nothing', async () => {
    const narrow = admin.as(
      (await keyFor(admin, member.user.id, { permissions: ['volume.create', 'zone.get', 'volumeType.get'] })).token,
    );
    expect(await code(narrow, 'POST', '/v1/volumes', { name: 'v', ...types, sizeGib: 1 })).toBe('403 FORBIDDEN');
  });
});

describe('who is of another account is invited', () => {
  const path = (id: string, verb = ''): string => `/v1/role-bindings/${id}${verb && `/actions/${verb}`}`;
  /** The owner grants something on its network; answers the grant. */
  const invite = (subject: [string, string], role = 'networkUser'): Promise<Resource> =>
    bind(owner.api, role, subject, ['network', network.id]);

  test('a user has nothing of it, and sees it in no list, before it accepts', async () => {
    const plain = await person('plain', account.id, 'billingManager', ['account', account.id]);
    const { account: far } = await newAccount('far');
    const user = await admin.call('POST', '/v1/users', { name: 'u', userName: 'u', accountId: far.id });
    const api = admin.as((await keyFor(admin, user.id)).token);
    const grant = await invite(['user', user.id]);
    expect(grant.state).toBe('pending');
    expect(await code(api, 'GET', `/v1/networks/${network.id}`)).toBe('404 NOT_FOUND');
    // Of one that has no role at all, lists are refused as ever.
    expect(await code(api, 'GET', '/v1/networks')).toBe('403 FORBIDDEN');
    expect((await list(api, 'role-bindings', 'state = "pending"')).map(({ id }) => id)).toEqual([grant.id]);
    for (const [by, wanted] of [
      [owner.api, '403 FORBIDDEN'],
      [plain.api, '404 NOT_FOUND'],
      [stranger.api, '404 NOT_FOUND'],
    ] as const)
      expect(await code(by, 'POST', path(grant.id, 'accept'), {})).toBe(wanted);
    expect(await code(api, 'POST', path(grant.id, 'accept'), {})).toBe('200');
    expect(await code(api, 'GET', `/v1/networks/${network.id}`)).toBe('200');
    expect(await code(api, 'POST', path(grant.id, 'accept'), {})).toBe('409 INVALID_STATE');
    expect(await code(api, 'POST', path(grant.id, 'decline'), {})).toBe('200');
    expect(await code(api, 'GET', `/v1/networks/${network.id}`)).toBe('404 NOT_FOUND');
  });

  test('an account and a project are asked through those who rule their grants', async () => {
    const theirs = await person('theirs', stranger.user.accountId as string, 'projectMember', [
      'project',
      strangersProject.id,
    ]);
    for (const subject of [
      ['account', String(stranger.user.accountId)],
      ['project', strangersProject.id],
    ] as [string, string][]) {
      const grant = await invite(subject);
      expect([subject[0], grant.state]).toEqual([subject[0], 'pending']);
      expect(await code(stranger.api, 'GET', `/v1/networks/${network.id}`)).toBe('404 NOT_FOUND');
      expect(await code(theirs.api, 'POST', path(grant.id, 'accept'), {})).toBe('404 NOT_FOUND');
      expect(await code(stranger.api, 'POST', path(grant.id, 'accept'), {})).toBe('200');
      expect(await code(theirs.api, 'GET', `/v1/networks/${network.id}`)).toBe('200');
      expect(await code(owner.api, 'DELETE', path(grant.id))).toBe('204');
      expect(await code(theirs.api, 'GET', `/v1/networks/${network.id}`)).toBe('404 NOT_FOUND');
    }
  });

  test('whom nobody knows is invited in the same words; whoever is within reach is granted at once', async () => {
    expect((await invite(['user', nobody])).state).toBe('pending');
    expect((await invite(['user', member.user.id])).state).toBe('active');
    expect((await bind(admin, 'networkUser', ['user', stranger.user.id], ['network', network.id])).state).toBe(
      'active',
    );
    const domain = await admin.call('POST', '/v1/domains', { name: `i-${crypto.randomUUID()}`, parentId: rootDomain });
    const [one, two] = [await newAccount('one', domain.id), await newAccount('two', domain.id)];
    const ruler = await person('ruler', one.account.id, 'domainAdmin', ['domain', domain.id]);
    const grant = await bind(ruler.api, 'projectReader', ['account', two.account.id], ['project', one.project.id]);
    expect(grant.state).toBe('active');
    const beyond = await bind(ruler.api, 'projectReader', ['account', account.id], ['project', one.project.id]);
    expect(beyond.state).toBe('pending');
  });

  test("the installation's own administrator can not give its role back", async () => {
    const [grant] = await list(admin, 'role-bindings', 'targetKind = "platform" AND name = "admin"');
    expect(await code(admin, 'POST', path(String(grant?.id), 'decline'), {})).toBe('409 PROTECTED');
  });
});

test('who runs the infrastructure follows its runbooks: of instances it sees where they are, and nothing that a guest said or was told', async () => {
  const { api } = await person('operator', (await newAccount('operators')).account.id, 'operator', ['platform', null]);
  const subnet = await make(member.api, 'subnets', { name: 's', networkId: network.id, cidr: '10.70.0.0/24' });
  const body = instanceBody(cloud, 'guest', {
    networkInterfaces: [{ subnetId: subnet.id }],
    userData: 'the password is swordfish',
  });
  const { id } = await make(member.api, 'instances', { ...body, projectId: project.id });
  const path = `/v1/instances/${id}`;
  const [seen] = await list(api, 'instances', `state = "running" AND id = "${id}"`);
  expect(seen).toMatchObject({ id, state: 'running', hostId: expect.any(String) });
  expect(await list(api, 'instances', 'state = "lost"')).toEqual([]);
  expect(JSON.stringify([seen, await api.call('GET', path)])).not.toContain('swordfish');
  for (const verb of ['settle', 'restartElsewhere'])
    expect([verb, await code(api, 'POST', `${path}/actions/${verb}?dryRun=true`, {})]).toEqual([verb, '200']);
  for (const verb of ['stop', 'reboot', 'migrate'])
    expect([verb, await code(api, 'POST', `${path}/actions/${verb}`, {})]).toEqual([verb, '403 FORBIDDEN']);
  expect(await code(api, 'GET', `${path}/views/serialLog`)).toBe('403 FORBIDDEN');
  expect(await code(api, 'POST', `${path}/actions/settle`, {})).toBe('202');
  await member.api.done('DELETE', path);
});
