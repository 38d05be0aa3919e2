/** The audit trail: whatever is refused is in it, with what was asked and no secret. */
import { expect, inject, test } from 'vitest';
import type { Api, ApiProblem, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { admin, cloud, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const nobody = '11111111-1111-4111-8111-111111111111';
const json = { 'content-type': 'application/json' };

interface Entry extends Resource {
  permission: string;
  outcome: string;
  code: string | null;
  input: unknown;
  resourceId: string | null;
}

const entriesOf = async (requestId: string): Promise<Entry[]> =>
  (
    await admin.call<{ items: Entry[] }>(
      'GET',
      `/v1/audit-entries?filter=${encodeURIComponent(`requestId = "${requestId}"`)}`,
    )
  ).items;

/** The code that a request is refused with, and what the trail has of it. */
async function refused(
  api: Api,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = json,
): Promise<{ code: string; entries: Pick<Entry, 'permission' | 'outcome' | 'code' | 'input'>[] }> {
  const requestId = crypto.randomUUID();
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const response = await api.raw(method, path, text, { ...headers, 'x-request-id': requestId });
  const { code } = (await response.json()) as ApiProblem;
  const entries = await entriesOf(requestId);
  return {
    code,
    entries: entries.map(({ permission, outcome, code: told, input }) => ({ permission, outcome, code: told, input })),
  };
}

test('a refused change leaves an entry with its code, on every route that changes something', async () => {
  const document = await admin.call<{ paths: Record<string, Record<string, { operationId: string }>> }>(
    'GET',
    '/v1/openapi.json',
  );
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => ['post', 'put', 'patch', 'delete'].includes(method) && path !== '/v1/query')
      .map((method) => [method.toUpperCase(), path.replaceAll(/\{\w+\}/g, nobody)] as const),
  );
  expect(routes.length).toBeGreaterThan(90);
  for (const [method, path] of routes) {
    const { entries } = await refused(tenant, method, `${path}?nonsense=1`);
    expect([method, path, entries]).toEqual([
      method,
      path,
      [
        {
          permission: expect.stringMatching(/^[a-zA-Z]+\.[a-zA-Z]+$/),
          outcome: 'denied',
          code: 'INVALID_ARGUMENT',
          input: null,
        },
      ],
    ]);
  }
});

test('whatever a change is refused for, the entry says so', async () => {
  const ended = await tenant.call<OperationView>('POST', '/v1/instances', instanceBody(cloud, 'refused'));
  await tenant.settled(ended.id);
  const instances = `/v1/instances/${ended.targetId}`;
  const image = await tenant.call('POST', '/v1/images', { name: 'i', zoneId: cloud.zone.id });
  const bytes = { 'content-type': 'application/octet-stream' };
  const cases: [string, string, Api, string, string, unknown?, Record<string, string>?][] = [
    [
      'operation.skipStep',
      'FORBIDDEN',
      tenant,
      'POST',
      `/v1/operations/${ended.id}/actions/skipStep`,
      { reason: 'because' },
    ],
    [
      'operation.skipStep',
      'INVALID_STATE',
      admin,
      'POST',
      `/v1/operations/${ended.id}/actions/skipStep`,
      { reason: 'because' },
    ],
    ['operation.retry', 'INVALID_STATE', admin, 'POST', `/v1/operations/${ended.id}/actions/retry`, {}],
    ['operation.cancel', 'CANCEL_TOO_LATE', tenant, 'POST', `/v1/operations/${ended.id}/actions/cancel`],
    ['operation.cancel', 'NOT_FOUND', tenant, 'POST', `/v1/operations/${nobody}/actions/cancel`],
    ['image.import', 'PRECONDITION_FAILED', tenant, 'PUT', `/v1/images/${image.id}/content`, 'QFI\u{fb}', bytes],
    ['image.import', 'NOT_FOUND', tenant, 'PUT', `/v1/images/${nobody}/content`, 'x', bytes],
    ['image.import', 'INVALID_STATE', admin, 'PUT', `/v1/images/${cloud.image.id}/content`, 'x', bytes],
    ['instance.start', 'INVALID_STATE', tenant, 'POST', `${instances}/actions/start`, {}],
    ['instance.stop', 'INVALID_ARGUMENT', tenant, 'POST', `${instances}/actions/stop`, { mode: 'gently' }],
    [
      'instance.stop',
      'INVALID_ARGUMENT',
      tenant,
      'POST',
      `${instances}/actions/stop`,
      {},
      { ...json, 'belay-callback-url': 'ftp://x' },
    ],
    ['instance.update', 'REVISION_MISMATCH', tenant, 'PATCH', instances, {}, { ...json, 'if-match': '"99999"' }],
    ['instance.update', 'MALFORMED_REQUEST', tenant, 'PATCH', instances, '{'],
    ['instance.update', 'UNSUPPORTED_MEDIA_TYPE', tenant, 'PATCH', instances, '{}', { 'content-type': 'text/plain' }],
    ['instance.delete', 'INVALID_ARGUMENT', tenant, 'DELETE', `${instances}?cascade=perhaps`, undefined, {}],
    ['zone.create', 'FORBIDDEN', tenant, 'POST', '/v1/zones', { name: 'mine' }],
  ];
  for (const [permission, code, api, method, path, body, headers] of cases) {
    const told = await refused(api, method, path, body, headers);
    expect([permission, told.code, told.entries]).toEqual([
      permission,
      code,
      [
        {
          permission,
          outcome: 'denied',
          code,
          input: expect.toSatisfy((input) => input === null || typeof input === 'object'),
        },
      ],
    ]);
  }
  await removeInstance(ended.targetId);
  await tenant.done('DELETE', `/v1/images/${image.id}`);
});

test('of what was asked the trail keeps what the kind knows, and of everything else the name alone', async () => {
  const inputOf = async (method: string, path: string, body: unknown): Promise<unknown> =>
    (await refused(admin, method, path, body)).entries[0]?.input;
  const secret = '-----BEGIN OPENSSH PRIVATE KEY-----';
  expect(
    await inputOf('POST', '/v1/hosts', {
      name: 'h',
      clusterId: nobody,
      address: 'sim://x',
      sshprivatekey: secret,
      sshPrivateKey: secret,
      sshUser: { secret },
      labels: { env: 'test', key: { secret } },
    }),
  ).toEqual({
    name: 'h',
    clusterId: nobody,
    address: 'sim://x',
    sshprivatekey: '***',
    sshPrivateKey: '***',
    sshUser: '***',
    labels: { env: 'test', key: '***' },
  });
  expect(
    await inputOf('POST', '/v1/instances', {
      source: { imageId: nobody, userdata: secret },
      dataVolumes: [{ sizeGib: 1, passphrase: secret }, secret],
      firmware: null,
      userData: secret,
    }),
  ).toEqual({
    source: { imageId: nobody, userdata: '***' },
    dataVolumes: [{ sizeGib: 1, passphrase: '***' }, '***'],
    firmware: null,
    userData: '***',
  });
  expect(await inputOf('PATCH', `/v1/hosts/${nobody}`, { sshPassword: secret, enabled: secret, sshPort: 22 })).toEqual({
    sshPassword: '***',
    enabled: '***',
    sshPort: 22,
  });
  expect(await inputOf('POST', `/v1/instances/${nobody}/actions/stop`, { mode: 'force', password: secret })).toEqual({
    mode: 'force',
    password: '***',
  });
});
