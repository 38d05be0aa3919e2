/** Who asks with an address is told there when its operation has ended, and can tell that Belay told it. */
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { joinCloud } from '../support/cloud.ts';
import { setRules } from '../support/rollback.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);

interface Message {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

const messages: Message[] = [];
/** Answers that the receiver gives first, before it takes messages. */
const refusals: number[] = [];
/** Of messages to these none is taken. */
const refusedPaths = new Set<string>();
let receiver: Server;
let url: string;
let caller: typeof cloud.tenant;
let secret: string;
let deniedNetworks: Resource & { value: string[] };

const setting = (value: string[]): Promise<unknown> =>
  admin.call('PATCH', `/v1/settings/${deniedNetworks.id}`, { value });

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    messages.push({ path: request.url ?? '', headers: request.headers, body: text });
    response.statusCode = refusedPaths.has(request.url ?? '') ? 500 : (refusals.shift() ?? 204);
    response.end();
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  const filter = encodeURIComponent('name = "callback.deniedNetworks"');
  const { items } = await admin.call<{ items: (typeof deniedNetworks)[] }>('GET', `/v1/settings?filter=${filter}`);
  [deniedNetworks] = items as [typeof deniedNetworks];
  await setting(deniedNetworks.value.filter((network) => !network.startsWith('127.')));
  const { items: keys } = await cloud.tenant.call<{ items: (Resource & { userId: string })[] }>('GET', '/v1/api-keys');
  const key = await cloud.tenant.call<Resource & { token: string; callbackSecret: string }>('POST', '/v1/api-keys', {
    name: 'callbacks',
    userId: keys[0]?.userId,
  });
  caller = openApi(address.apiUrl, key.token);
  secret = key.callbackSecret;
});

afterAll(async () => {
  await setting(deniedNetworks.value);
  receiver.close();
});

const body = { name: 'told', projectId: cloud.project.id, zoneId: cloud.zone.id };

const createNetwork = (path: string, more: Record<string, unknown> = {}): Promise<OperationView> =>
  caller.call<OperationView>('POST', '/v1/networks', { ...body, ...more }, { 'Belay-Callback-Url': `${url}${path}` });

async function received(path: string, times = 1): Promise<Message[]> {
  for (;;) {
    const found = messages.filter((message) => message.path === path);
    if (found.length >= times) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('the end of an operation is told once, signed with the secret of the key that asked', async () => {
  const { id } = await createNetwork('/once');
  const [message] = (await received('/once')) as [Message];
  const headers = message.headers as Record<string, string>;
  const told = new Webhook(secret).verify(message.body, headers) as { type: string; data: OperationView };
  expect(told).toMatchObject({ type: 'operation.succeeded', data: { id, state: 'succeeded', type: 'network.create' } });
  expect(headers['webhook-id']).toBe(id);
  expect(() => new Webhook(secret).verify(`${message.body} `, headers)).toThrow(WebhookVerificationError);
  // The row goes with the delivery: nothing is left that could be told again.
  const database = new pg.Client({ connectionString: address.databaseUrl });
  await database.connect();
  try {
    for (;;) {
      const { rowCount } = await database.query('SELECT 1 FROM "callback" WHERE "operationId" = $1', [id]);
      if (rowCount === 0) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    await database.end();
  }
  expect(messages.filter(({ path }) => path === '/once')).toHaveLength(1);
});

test('a receiver that fails first is told again, under the same id', async () => {
  refusals.push(500);
  const { id } = await createNetwork('/again');
  const twice = await received('/again', 2);
  expect(twice.map(({ headers }) => headers['webhook-id'])).toEqual([id, id]);
});

test('nothing is told any more to whoever asked with a key that is not let in any more, or has lost its right', async () => {
  const database = new pg.Client({ connectionString: address.databaseUrl });
  await database.connect();
  const { items: keys } = await cloud.tenant.call<{ items: (Resource & { userId: string })[] }>('GET', '/v1/api-keys');
  const endings: Record<string, (id: string) => Promise<unknown>> = {
    off: (id) => cloud.tenant.call('PATCH', `/v1/api-keys/${id}`, { enabled: false }),
    deleted: (id) => cloud.tenant.call('DELETE', `/v1/api-keys/${id}`),
    expired: (id) => database.query(`UPDATE "apiKey" SET "expiresAt" = now() WHERE id = $1`, [id]),
    narrowed: (id) => database.query(`UPDATE "apiKey" SET permissions = '["keyPair.*"]' WHERE id = $1`, [id]),
    stillGood: async () => {},
  };
  try {
    const outcomes = Object.entries(endings).map(async ([name, end]) => {
      const key = await cloud.tenant.call<Resource & { token: string }>('POST', '/v1/api-keys', {
        name,
        userId: keys[0]?.userId,
      });
      const path = `/ended-${name}`;
      // Told once, and refused by the receiver: it would be told again.
      refusedPaths.add(path);
      const { id } = await openApi(address.apiUrl, key.token).call<OperationView>('POST', '/v1/networks', body, {
        'Belay-Callback-Url': `${url}${path}`,
      });
      await received(path);
      await end(key.id);
      refusedPaths.delete(path);
      const waits = async (): Promise<boolean> =>
        ((await database.query('SELECT 1 FROM "callback" WHERE "operationId" = $1', [id])).rowCount ?? 0) > 0;
      while (await waits()) await new Promise((resolve) => setTimeout(resolve, 50));
      return [name, messages.filter((message) => message.path === path).length];
    });
    expect(Object.fromEntries(await Promise.all(outcomes))).toEqual({
      off: 1,
      deleted: 1,
      expired: 1,
      narrowed: 1,
      stillGood: 2,
    });
  } finally {
    await database.end();
  }
});

test('a failed operation is told as failed', async () => {
  const requestedId = crypto.randomUUID();
  await setRules(admin, [{ targetId: requestedId, step: 'networks.make', fault: 'failBefore', times: 1 }]);
  try {
    const { id } = await createNetwork('/failed', { requestedId });
    const [message] = (await received('/failed')) as [Message];
    expect(JSON.parse(message.body)).toMatchObject({ type: 'operation.failed', data: { id, state: 'failed' } });
  } finally {
    await setRules(admin, []);
  }
});

test.each([
  ['nonsense', 'no address'],
  ['file:///etc/passwd', 'another protocol'],
  ['http://user:word@example.net/', 'credentials'],
  [`https://example.net/${'a'.repeat(2048)}`, 'too long'],
])('%s is refused: %s', async (given) => {
  const response = await caller.raw('POST', '/v1/networks', JSON.stringify(body), {
    'content-type': 'application/json',
    'Belay-Callback-Url': given,
  });
  expect(response.status).toBe(422);
  expect(await response.json()).toMatchObject({
    code: 'INVALID_ARGUMENT',
    violations: [{ field: 'Belay-Callback-Url' }],
  });
});

test.each([
  'http://127.0.0.2.:80/',
  'http://10.0.0.1/',
  'http://0x0a000001/',
  'http://100.64.0.1/',
  'http://169.254.169.254/latest/meta-data',
  'https://[fd00::1]/',
  'https://[::ffff:10.0.0.1]/',
  'https://[64:ff9b::a00:1]/',
  'https://[2002:a00:1::]/',
])(
  '%s, which is in a denied network, is refused at once, also by a dry run, and nothing is accepted',
  async (given) => {
    await setting(deniedNetworks.value);
    try {
      for (const query of ['', '?dryRun=true']) {
        const requestedId = crypto.randomUUID();
        const response = await caller.raw('POST', `/v1/networks${query}`, JSON.stringify({ ...body, requestedId }), {
          'content-type': 'application/json',
          'Belay-Callback-Url': given,
        });
        expect(await response.json()).toMatchObject({
          status: 422,
          code: 'INVALID_ARGUMENT',
          violations: [{ field: 'Belay-Callback-Url' }],
        });
        expect((await caller.raw('GET', `/v1/networks/${requestedId}`)).status).toBe(404);
      }
    } finally {
      await setting(deniedNetworks.value.filter((network) => !network.startsWith('127.')));
    }
  },
);

test('localhost is refused as long as loopback is denied', async () => {
  const ask = async (): Promise<number> =>
    (
      await caller.raw('POST', '/v1/networks?dryRun=true', JSON.stringify(body), {
        'content-type': 'application/json',
        'Belay-Callback-Url': 'http://localhost:1/',
      })
    ).status;
  expect(await ask()).toBe(200);
  await setting(deniedNetworks.value);
  expect(await ask()).toBe(422);
  await setting(deniedNetworks.value.filter((network) => !network.startsWith('127.')));
});

test('a network that is none is no setting', async () => {
  const response = await admin.raw(
    'PATCH',
    `/v1/settings/${deniedNetworks.id}`,
    JSON.stringify({ value: ['10.0.0.0/33'] }),
    {
      'content-type': 'application/merge-patch+json',
    },
  );
  expect(response.status).toBe(422);
});
