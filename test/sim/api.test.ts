import { connect, createServer, type Server } from 'node:net';
import ssh2 from 'ssh2';
import { afterAll, describe, expect, inject, test } from 'vitest';
import type { ApiProblem, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { newSshKey } from '../../runtime/sshKey.ts';
import { joinCloud } from '../support/cloud.ts';
import { records, withoutRuns } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { tenant } = cloud;
const random = '11111111-1111-4111-8111-111111111111';

interface Asked {
  method?: string;
  path: string;
  body?: unknown;
  text?: string;
  headers?: Record<string, string>;
  as?: typeof tenant;
}

async function refusal({ method = 'POST', path, body, text, headers = {}, as = tenant }: Asked): Promise<ApiProblem> {
  const response = await as.raw(method, path, text ?? (body === undefined ? null : JSON.stringify(body)), {
    ...(body === undefined && text === undefined ? {} : { 'content-type': 'application/json' }),
    ...headers,
  });
  const answer = (await response.json()) as ApiProblem;
  expect(response.headers.get('content-type')).toContain('application/problem+json');
  expect(answer.status).toBe(response.status);
  return answer;
}

/** Refused with this code, at this field, and nothing is different afterwards. */
async function refuses(asked: Asked, status: number, code: string, field?: string): Promise<ApiProblem> {
  const before = withoutRuns(await records(address.databaseUrl));
  const problem = await refusal(asked);
  expect({ status: problem.status, code: problem.code, detail: problem.detail }).toMatchObject({ status, code });
  if (field !== undefined) expect(problem.violations?.map((violation) => violation.field)).toContain(field);
  expect(withoutRuns(await records(address.databaseUrl))).toEqual(before);
  return problem;
}

const web = (more: Record<string, unknown> = {}): Record<string, unknown> => instanceBody(cloud, 'web', more);
const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

/** A port that takes connections and does with them what `answer` says. */
async function listener(answer: 'hang' | 'garbage'): Promise<{ port: number; connections(): number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.on('error', () => {});
    if (answer === 'garbage') socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as { port: number }).port, connections: () => connections };
}

describe('a request that can not be understood', () => {
  const instances = '/v1/instances';
  test('malformed JSON', () => refuses({ path: instances, text: '{"name": ' }, 400, 'MALFORMED_REQUEST'));
  test('another content type', () =>
    refuses(
      { path: instances, text: 'name=web', headers: { 'content-type': 'text/plain' } },
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ));
  test('a name of 1 MiB', () =>
    refuses({ path: instances, body: web({ name: 'x'.repeat(1024 * 1024) }) }, 413, 'PAYLOAD_TOO_LARGE'));
  test('a name of 129 characters', () =>
    refuses({ path: instances, body: web({ name: 'x'.repeat(129) }) }, 422, 'INVALID_ARGUMENT', 'name'));
  test('an unknown field', () =>
    refuses({ path: instances, body: web({ colour: 'red' }) }, 422, 'INVALID_ARGUMENT', 'colour'));
  test('a field of another type', () =>
    refuses({ path: instances, body: web({ startOnCreate: 'yes' }) }, 422, 'INVALID_ARGUMENT', 'startOnCreate'));
  test('a missing field', () => refuses({ path: instances, body: { name: 'web' } }, 422, 'INVALID_ARGUMENT', 'zoneId'));
  test('an unknown parameter', () =>
    refuses({ path: `${instances}?colour=red`, body: web() }, 422, 'INVALID_ARGUMENT', 'colour'));
  test('a size out of range', () =>
    refuses(
      {
        path: '/v1/volumes',
        body: { name: 'v', zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 99_999_999 },
      },
      422,
      'INVALID_ARGUMENT',
      'sizeGib',
    ));
  test('a NUL character', () => refuses({ path: instances, text: '{"name":"a\\u0000b"}' }, 422, 'INVALID_ARGUMENT'));
  test('no credential', async () => {
    const response = await fetch(`${address.apiUrl}/v1/instances`);
    expect([response.status, ((await response.json()) as ApiProblem).code]).toEqual([401, 'UNAUTHENTICATED']);
  });
  test('credentials that nobody has, many at once: each is refused, and the server lives on', async () => {
    const wrong = (): Promise<Response> =>
      fetch(`${address.apiUrl}/v1/instances`, {
        headers: { authorization: `Bearer belay_${'0'.repeat(20)}_${'x'.repeat(43)}` },
      });
    const answers = await Promise.all(Array.from({ length: 20 }, wrong));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 401));
    expect((await fetch(`${address.apiUrl}/healthz`)).status).toBe(200);
  });
  test('a filter as long as the document allows is read, whatever its characters', async () => {
    const filter = `name = "${'\u{1F600}'.repeat(2_000)}"`;
    const { items } = await tenant.call<{ items: unknown[] }>(
      'GET',
      `${instances}?filter=${encodeURIComponent(filter)}`,
    );
    expect(items).toEqual([]);
  });
  test('a path that is longer than all of them together', () =>
    refuses({ method: 'GET', path: `${instances}?filter=${'x'.repeat(128 * 1024)}` }, 413, 'PAYLOAD_TOO_LARGE'));
  test('what is no HTTP', async () => {
    const { hostname, port } = new URL(address.apiUrl);
    const socket = connect(Number(port), hostname).setEncoding('utf8');
    socket.end('EHLO mail.example\r\n\r\n');
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n.*Content-Type: application\/problem\+json/s);
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({
      status: 400,
      code: 'MALFORMED_REQUEST',
    });
  });
  test('no such path', async () => {
    expect(await refusal({ method: 'GET', path: '/v1/nothing' })).toMatchObject({ status: 404, code: 'NOT_FOUND' });
  });
  test('a method that is not possible', async () => {
    expect(await refusal({ method: 'DELETE', path: '/v1/instances' })).toMatchObject({
      status: 405,
      code: 'METHOD_NOT_ALLOWED',
    });
  });
});

describe('a list that can not be understood', () => {
  const list = (query: string): Promise<ApiProblem> => refusal({ method: 'GET', path: `/v1/instances?${query}` });
  test('a filter names the position of its error', async () => {
    const problem = await list(`filter=${encodeURIComponent('name = "a" AND (state = "running"')}`);
    expect(problem).toMatchObject({ status: 400, code: 'MALFORMED_REQUEST' });
    expect(problem.violations?.[0]).toMatchObject({ field: 'filter', position: 33 });
  });
  test('an unknown field in a filter', async () => {
    expect((await list(`filter=${encodeURIComponent('colour = "red"')}`)).violations?.[0]).toMatchObject({
      field: 'filter',
      position: 0,
    });
  });
  test('a page token of another query', async () => {
    const first = await admin.call<{ nextPageToken: string }>('GET', '/v1/roles?pageSize=1');
    expect(await list(`pageSize=1&pageToken=${first.nextPageToken}`)).toMatchObject({
      status: 400,
      code: 'MALFORMED_REQUEST',
    });
  });
  test('a page size out of range', async () => {
    expect((await list('pageSize=501')).violations?.[0]).toMatchObject({ field: 'pageSize' });
  });
});

describe('a reference that does not fit', () => {
  test('a parent that is not there', () =>
    refuses(
      { path: '/v1/subnets', body: { name: 's', networkId: random, cidr: '10.0.0.0/24' } },
      404,
      'NOT_FOUND',
      'networkId',
    ));
  test('a parent that was deleted', async () => {
    const { id } = await make(tenant, 'networks', { name: 'gone', zoneId: cloud.zone.id });
    await tenant.done('DELETE', `/v1/networks/${id}`);
    await refuses(
      { path: '/v1/subnets', body: { name: 's', networkId: id, cidr: '10.0.0.0/24' } },
      404,
      'NOT_FOUND',
      'networkId',
    );
  });
  test('a parent that is not ready yet', async () => {
    const image = await admin.call('POST', '/v1/images', {
      name: 'late',
      zoneId: cloud.zone.id,
      projectId: cloud.project.id,
    });
    await refuses(
      { path: '/v1/instances', body: web({ source: { imageId: image.id } }) },
      409,
      'INVALID_STATE',
      'source.imageId',
    );
    await admin.done('DELETE', `/v1/images/${image.id}`);
  });
  test('two sources at once', () =>
    refuses(
      { path: '/v1/instances', body: web({ source: { imageId: cloud.image.id, snapshotId: random } }) },
      404,
      'NOT_FOUND',
    ));
  test('overlapping subnets', () =>
    refuses(
      { path: '/v1/subnets', body: { name: 's', networkId: cloud.network.id, cidr: '10.77.128.0/24' } },
      409,
      'ADDRESS_IN_USE',
      'cidr',
    ));
  test('a range with host bits', () =>
    refuses(
      { path: '/v1/subnets', body: { name: 's', networkId: cloud.network.id, cidr: '10.1.2.3/24' } },
      422,
      'INVALID_ARGUMENT',
      'cidr',
    ));
  test('a used address', async () => {
    const nic = { subnetId: cloud.subnet.id, address: '10.77.9.9' };
    const { targetId } = await tenant.done('POST', '/v1/instances', web({ networkInterfaces: [nic] }));
    await refuses({ path: '/v1/instances', body: web({ networkInterfaces: [nic] }) }, 409, 'ADDRESS_IN_USE');
    await tenant.done('DELETE', `/v1/instances/${targetId}`);
    await tenant.done('POST', `/v1/instances/${targetId}/actions/expunge`, {});
  });
  test('an exhausted subnet', async () => {
    const net = await make(tenant, 'networks', { name: 'small', zoneId: cloud.zone.id });
    const subnet = await make(tenant, 'subnets', {
      name: 'small',
      networkId: net.id,
      cidr: '10.5.0.0/29',
      allocationRanges: [{ from: '10.5.0.2', to: '10.5.0.2' }],
    });
    const body = web({ startOnCreate: false, networkInterfaces: [{ subnetId: subnet.id }] });
    const { targetId } = await tenant.done('POST', '/v1/instances', body);
    await refuses({ path: '/v1/instances', body }, 409, 'ADDRESS_EXHAUSTED');
    await tenant.done('DELETE', `/v1/instances/${targetId}?`);
  });
});

describe('a change whose time has not come', () => {
  test('deleting what others hang on tells them', async () => {
    const problem = await refuses(
      { method: 'DELETE', path: `/v1/zones/${cloud.zone.id}`, as: admin },
      409,
      'HAS_DEPENDENTS',
    );
    expect(problem.blockers).not.toEqual([]);
  });
  test('a protected resource', async () => {
    const { targetId } = await tenant.done('POST', '/v1/volumes', {
      name: 'kept',
      zoneId: cloud.zone.id,
      volumeTypeId: cloud.volumeTypes[0]?.id,
      sizeGib: 1,
      deleteProtection: true,
    });
    await refuses({ method: 'DELETE', path: `/v1/volumes/${targetId}` }, 409, 'PROTECTED');
    await tenant.call('PATCH', `/v1/volumes/${targetId}`, { deleteProtection: false });
    await tenant.done('DELETE', `/v1/volumes/${targetId}`);
    await tenant.done('POST', `/v1/volumes/${targetId}/actions/expunge`, {});
  });
  test('an old revision', async () => {
    await refuses(
      {
        method: 'PATCH',
        path: `/v1/zones/${cloud.zone.id}`,
        body: { domainName: 'a.example' },
        headers: { 'if-match': '"999"' },
        as: admin,
      },
      412,
      'REVISION_MISMATCH',
    );
  });
  test('a name that is in use', () =>
    refuses({ path: '/v1/zones', body: { name: 'home' }, as: admin }, 409, 'NAME_IN_USE', 'name'));
  test('no capacity says what was missing where, and leaves nothing', async () => {
    const type = await admin.call('POST', '/v1/instance-types', {
      name: 'huge',
      vcpus: 512,
      memoryMib: 8_388_608,
      rootVolumeTypeId: cloud.volumeTypes[0]?.id,
    });
    const before = withoutRuns(await records(address.databaseUrl));
    const body = { ...web({ instanceTypeId: type.id }), projectId: cloud.project.id };
    const accepted = await admin.raw('POST', '/v1/instances', JSON.stringify(body), {
      'content-type': 'application/json',
    });
    const answer = (await accepted.json()) as OperationView & ApiProblem;
    const problem = accepted.status === 202 ? (await admin.settled(answer.id)).error : answer;
    expect(problem?.code).toBe('NO_CAPACITY');
    expect(problem?.droppedBy).toMatchObject({ vcpus: expect.any(Number), memoryMib: expect.any(Number) });
    expect(withoutRuns(await records(address.databaseUrl))).toEqual(before);
    await admin.call('DELETE', `/v1/instance-types/${type.id}`);
  });
  test('a full quota', async () => {
    const limit = await admin.call('POST', '/v1/quotas', {
      name: 'volumes',
      scopeKind: 'project',
      scopeId: cloud.project.id,
      counter: 'volumes',
      limit: 0,
    });
    const problem = await refuses(
      {
        path: '/v1/volumes',
        body: { name: 'v', zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 },
      },
      403,
      'QUOTA_EXCEEDED',
    );
    expect(problem).toMatchObject({ counter: 'volumes', limit: 0, asked: 1 });
    await admin.call('DELETE', `/v1/quotas/${limit.id}`);
  });
  test('migration to where it runs, and two exclusive actions at once', async () => {
    const { targetId } = await tenant.done('POST', '/v1/instances', web());
    const { hostId } = await admin.call<Resource & { hostId: string }>('GET', `/v1/instances/${targetId}`);
    await refuses(
      { path: `/v1/instances/${targetId}/actions/migrate`, body: { hostId }, as: admin },
      422,
      'INVALID_ARGUMENT',
      'hostId',
    );
    await refuses({ path: `/v1/instances/${targetId}/actions/start`, body: {} }, 409, 'INVALID_STATE');
    const moving = await tenant.call<OperationView>('POST', `/v1/instances/${targetId}/actions/migrate`, {});
    expect(
      await refusal({ path: `/v1/instances/${targetId}/actions/reboot?onBusy=fail`, body: { mode: 'force' } }),
    ).toMatchObject({ status: 409, code: 'RESOURCE_BUSY' });
    expect((await tenant.settled(moving.id)).state).toBe('succeeded');
    await tenant.done('DELETE', `/v1/instances/${targetId}`);
    await tenant.done('POST', `/v1/instances/${targetId}/actions/expunge`, {});
  });
});

describe('an image', () => {
  const announce = (more: Record<string, unknown> = {}): Promise<Resource> =>
    tenant.call('POST', '/v1/images', { name: 'disk', zoneId: cloud.zone.id, ...more });
  const send = async (id: string, bytes: Uint8Array): Promise<ApiProblem> => {
    const response = await tenant.raw('PUT', `/v1/images/${id}/content`, bytes, {
      'content-type': 'application/octet-stream',
    });
    return (await response.json()) as ApiProblem;
  };
  const qcow2 = (backing: boolean): Uint8Array => {
    const head = Buffer.alloc(65_536);
    head.write('QFI\xfb', 0, 'latin1');
    head.writeUInt32BE(3, 4);
    if (backing) {
      head.writeBigUInt64BE(512n, 8);
      head.writeUInt32BE(11, 16);
      head.write('/etc/passwd', 512);
    }
    head.writeUInt32BE(16, 20);
    head.writeBigUInt64BE(1_048_576n, 24);
    head.writeUInt32BE(104, 100);
    return head;
  };
  for (const [what, bytes, more] of [
    ['text is no disk', Buffer.from('hello, world\n'.repeat(100)), {}],
    ['a backing file is refused', qcow2(true), {}],
    ['a lie about the format is refused', smallRawDisk(), { format: 'qcow2' }],
    ['another checksum is refused', smallRawDisk(), { checksum: 'a'.repeat(64) }],
  ] as const)
    test(what, async () => {
      const { id } = await announce(more);
      expect((await send(id, bytes)).code).toMatch(/PRECONDITION_FAILED|INVALID_ARGUMENT/);
      expect((await tenant.call('GET', `/v1/images/${id}`)).state).toBe('awaitingUpload');
      await tenant.done('DELETE', `/v1/images/${id}`);
    });
  test('an upload that stops half-way leaves the image waiting', async () => {
    const { id } = await announce();
    const stop = new AbortController();
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(smallRawDisk().subarray(0, 70_000));
        setTimeout(() => stop.abort(), 300);
      },
    });
    await fetch(`${address.apiUrl}/v1/images/${id}/content`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${tenant.token}`, 'content-type': 'application/octet-stream' },
      body,
      duplex: 'half',
      signal: stop.signal,
    } as RequestInit).catch(() => {});
    expect((await tenant.call('GET', `/v1/images/${id}`)).state).toBe('awaitingUpload');
    await tenant.done('DELETE', `/v1/images/${id}`);
  });
});

describe('a host that can not be reached', () => {
  const add = async (more: Record<string, unknown>): Promise<OperationView> => {
    const accepted = await admin.call<OperationView>('POST', '/v1/hosts', {
      name: 'far',
      clusterId: cloud.cluster.id,
      address: '127.0.0.1',
      sshPassword: 'x',
      ...more,
    });
    return admin.settled(accepted.id);
  };
  test('refuses: the operation fails and leaves nothing', async () => {
    const before = withoutRuns(await records(address.databaseUrl));
    const ended = await add({ sshPort: 1 });
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'HOST_UNREACHABLE']);
    expect(withoutRuns(await records(address.databaseUrl))).toEqual(before);
  });
  test.each(['hang', 'garbage'] as const)('does not answer in SSH (%s): two attempts, and no more', async (answer) => {
    const { port, connections } = await listener(answer);
    const ended = await add({ sshPort: port });
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'HOST_UNREACHABLE']);
    expect(connections()).toBe(2);
  });
  test('shows another key than the one that was given: one attempt, without a log-in', async () => {
    const keys = [0, 1].map(() => newSshKey());
    let connections = 0;
    const logIns: string[] = [];
    const server = new ssh2.Server({ hostKeys: [keys[0]?.private ?? ''] }, (client) => {
      connections += 1;
      client.on('error', () => {}).on('authentication', ({ method }) => logIns.push(method));
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const ended = await add({ sshPort: port, sshHostKey: keys[1]?.public });
    server.close();
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'PRECONDITION_FAILED']);
    expect([connections, logIns]).toEqual([1, []]);
  });
  test('has an address that another host has', () =>
    refuses(
      {
        path: '/v1/hosts',
        body: { name: 'twin', clusterId: cloud.cluster.id, address: cloud.hosts[0]?.address },
        as: admin,
      },
      409,
      'ADDRESS_IN_USE',
      'address',
    ));
});

describe('the same request again', () => {
  const key = { 'idempotency-key': `again-${crypto.randomUUID()}` };
  test('with its key gives the first answer, with another body a refusal', async () => {
    const body = {
      name: 'once',
      publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF once',
    };
    const first = await tenant.call('POST', '/v1/key-pairs', body, key);
    expect(await tenant.call('POST', '/v1/key-pairs', body, key)).toEqual(first);
    expect(await refusal({ path: '/v1/key-pairs', body: { ...body, name: 'twice' }, headers: key })).toMatchObject({
      status: 422,
      code: 'IDEMPOTENCY_MISMATCH',
    });
    await tenant.call('DELETE', `/v1/key-pairs/${first.id}`);
  });
});

describe('a tenant and another', () => {
  test('neither learns that the other is there', async () => {
    const account = await admin.call('POST', '/v1/accounts', {
      name: `other-${Date.now()}`,
      domainId: '00000000-0000-4000-8000-000000000002',
    });
    const { items } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/projects?filter=${encodeURIComponent(`accountId = "${account.id}"`)}`,
    );
    const user = await admin.call('POST', '/v1/users', { name: 'u', userName: 'u', accountId: account.id });
    const { items: roles } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/roles?filter=${encodeURIComponent('name = "projectMember"')}`,
    );
    await admin.call('POST', '/v1/role-bindings', {
      name: 'u',
      subjectKind: 'user',
      subjectId: user.id,
      roleId: roles[0]?.id,
      targetKind: 'project',
      targetId: items[0]?.id,
    });
    const { token } = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', {
      name: 'k',
      userId: user.id,
    });
    const other = admin.as(token);
    const same = async (
      path: (id: string) => string,
      method = 'GET',
      body?: (id: string) => unknown,
    ): Promise<void> => {
      const answers = await Promise.all(
        [cloud.network.id, random].map(async (id) => {
          const { requestId: _, ...problem } = await refusal({
            method,
            path: path(id),
            ...(body ? { body: body(id) } : {}),
            as: other,
          });
          return JSON.parse(JSON.stringify(problem).replaceAll(id, 'ID')) as unknown;
        }),
      );
      expect(answers[0]).toEqual(answers[1]);
    };
    await same((id) => `/v1/networks/${id}`);
    await same((id) => `/v1/networks/${id}`, 'DELETE');
    await same(
      (id) => `/v1/networks/${id}/actions/repair`,
      'POST',
      () => ({}),
    );
    await same(
      () => '/v1/subnets',
      'POST',
      (id) => ({ name: 's', networkId: id, cidr: '10.0.0.0/24' }),
    );
    for (const filter of [`id = "${cloud.network.id}"`, `projectId = "${cloud.project.id}"`])
      expect(
        (await other.call<{ items: unknown[] }>('GET', `/v1/networks?filter=${encodeURIComponent(filter)}`)).items,
      ).toEqual([]);
    expect((await other.call<{ items: unknown[] }>('GET', '/v1/operations')).items).toEqual([]);
    expect((await other.call<{ items: unknown[] }>('GET', '/v1/events')).items).toEqual([]);
    expect(await refusal({ method: 'GET', path: '/v1/hosts', as: other })).toMatchObject({
      status: 403,
      code: 'FORBIDDEN',
    });
    expect(
      await refusal({
        path: '/v1/role-bindings',
        body: { name: 'me', subjectKind: 'user', subjectId: user.id, roleId: roles[0]?.id, targetKind: 'platform' },
        as: other,
      }),
    ).toMatchObject({ status: 403 });
    await admin.call('POST', `/v1/accounts/${account.id}/actions/lock`, {});
    expect(
      await refusal({ path: '/v1/networks', body: { name: 'n', zoneId: cloud.zone.id }, as: other }),
    ).toMatchObject({ code: 'ACCOUNT_SUSPENDED' });
    await admin.call('POST', `/v1/users/${user.id}/actions/disable`, {});
    expect(await refusal({ method: 'GET', path: '/v1/networks', as: other })).toMatchObject({
      status: 401,
      code: 'UNAUTHENTICATED',
    });
  });
});

describe('reading', () => {
  test('pages hold every row once, in order, and count them', async () => {
    const seen: string[] = [];
    let token = '';
    do {
      const page = await admin.call<{ items: Resource[]; nextPageToken: string | null; count: number }>(
        'GET',
        `/v1/roles?orderBy=name&pageSize=3&count=exact&fields=name${token ? `&pageToken=${token}` : ''}`,
      );
      seen.push(...page.items.map(({ name }) => name));
      expect(page.count).toBeGreaterThanOrEqual(13);
      token = page.nextPageToken ?? '';
    } while (token !== '');
    expect(seen).toEqual([...new Set(seen)]);
    expect(seen.length).toBeGreaterThanOrEqual(13);
  });
  test('filters cross relations', async () => {
    const { items } = await admin.call<{ items: Resource[] }>(
      'GET',
      `/v1/hosts?filter=${encodeURIComponent('cluster.zone.name = "home" AND name = "host-1"')}`,
    );
    expect(items.map(({ name }) => name)).toEqual(['host-1']);
  });
  test('several lists come from one snapshot', async () => {
    const answer = await tenant.call<Record<string, { items: Resource[] }>>('POST', '/v1/query', {
      nets: { kind: 'network', filter: `id = "${cloud.network.id}"` },
      types: { kind: 'instanceType', pageSize: 1 },
    });
    expect(answer.nets?.items.map(({ id }) => id)).toEqual([cloud.network.id]);
    expect(answer.types?.items).toHaveLength(1);
  });
  test('a dry run answers the plan and changes nothing', async () => {
    const before = withoutRuns(await records(address.databaseUrl));
    const plan = await tenant.call<{ steps: unknown[]; quotaDelta: Record<string, number> }>(
      'POST',
      '/v1/instances?dryRun=true',
      web(),
    );
    expect(plan.steps.length).toBeGreaterThan(3);
    expect(plan.quotaDelta).toMatchObject({ instances: 1, volumes: 1 });
    expect(withoutRuns(await records(address.databaseUrl))).toEqual(before);
  });
  test('the audit trail is one unbroken chain', async () => {
    const { default: pg } = await import('pg');
    const client = new pg.Client({ connectionString: address.databaseUrl });
    await client.connect();
    const broken = await client.query(
      `SELECT sequence FROM (SELECT sequence, "previousHash", lag(hash) OVER (ORDER BY sequence) AS before, lag(sequence) OVER (ORDER BY sequence) AS last FROM "auditEntry" WHERE sequence IS NOT NULL) c
       WHERE "previousHash" <> coalesce(before, '') OR sequence <> coalesce(last, 0) + 1`,
    );
    const many = await client.query(`SELECT count(*)::int AS n FROM "auditEntry" WHERE sequence IS NOT NULL`);
    await client.end();
    expect(broken.rows).toEqual([]);
    expect((many.rows[0] as { n: number }).n).toBeGreaterThan(10);
  });
  test('a member that a patch sets to null returns to its default', async () => {
    const path = `/v1/clusters/${cloud.cluster.id}`;
    const patched = async (migration: Record<string, unknown>): Promise<unknown> =>
      (await admin.call<Resource & { migration: unknown }>('PATCH', path, { migration })).migration;
    expect(await patched({ bandwidthBytesPerSec: 2_000_000, autoConverge: true })).toEqual({
      bandwidthBytesPerSec: 2_000_000,
      autoConverge: true,
    });
    expect(await patched({ bandwidthBytesPerSec: null, autoConverge: true })).toEqual({
      bandwidthBytesPerSec: null,
      autoConverge: true,
    });
  });
  test('health, metrics and reference answer without a credential', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics', '/docs', '/v1/openapi.json', '/v1/about'])
      expect((await fetch(`${address.apiUrl}${path}`)).status).toBe(200);
  });
});
