/** Every code of the table of problems, each provoked from outside. */
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { authenticator } from '../../api/authenticate.ts';
import { buildServer } from '../../api/server.ts';
import { openDatabase } from '../../database/database.ts';
import { type Api, type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { log } from '../../runtime/log.ts';
import { type ProblemCode, problemStatus } from '../../runtime/problem.ts';
import { openTemporal } from '../../temporal/connection.ts';
import { joinCloud } from '../support/cloud.ts';
import { failing } from '../support/failing.ts';
import { hold } from '../support/hold.ts';
import { follower } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';

// Read once, by the servers that this file starts itself: what the files before it have loaded knows other limits, and so do those behind it.
const loadAnew = await vi.hoisted(async () => {
  const { register } = await import('prom-client');
  const own = {
    BELAY_REQUESTS_PER_MINUTE: '2',
    BELAY_STREAMS_PER_KEY: '1',
    BELAY_BODY_SECONDS: '1',
    BELAY_QUERY_COST: '0',
  };
  const reload = (): void => {
    register.clear();
    vi.resetModules();
  };
  Object.assign(process.env, own);
  reload();
  return (): void => {
    for (const name of Object.keys(own)) delete process.env[name];
    reload();
  };
});
afterAll(loadAnew);

const address = inject('cloud');
const joined = joinCloud(address);
const { admin, cloud, removeInstance } = joined;
const { tenant } = cloud;
const nobody = '11111111-1111-4111-8111-111111111111';
const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key';

/** A refused request has a status; the error of an operation has none. */
interface Told {
  code: string | undefined;
  status?: number;
  text?: string;
}

async function asked(
  api: Api,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Told> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const response = await api.raw(method, path, text ?? null, {
    ...(text === undefined ? {} : { 'content-type': 'application/json' }),
    ...headers,
  });
  const answer = await response.text();
  expect(response.headers.get('content-type'), answer).toContain('application/problem+json');
  return { ...(JSON.parse(answer) as { code: string }), status: response.status, text: answer };
}

async function ended(accepted: Promise<OperationView>): Promise<Told> {
  const { error } = await admin.settled((await accepted).id);
  return { code: error?.code };
}

const until = follower(admin);

const silent = log.child({}, { level: 'silent' });

/** What a server of this file answers, over this database. */
async function served(databaseUrl: string, ask: (api: Api) => Promise<Told>): Promise<Told> {
  const database = openDatabase(databaseUrl, 1);
  const server = buildServer({
    database,
    open: database,
    search: database,
    temporal: openTemporal(),
    authenticator: authenticator(database),
    log: silent,
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await ask(openApi(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, address.token));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await database.close();
  }
}

const asFirst = (api: Api): Promise<Told> => asked(api, 'GET', '/v1/zones');
const web = (more: Record<string, unknown> = {}): Record<string, unknown> => instanceBody(cloud, 'web', more);
const volume = { name: 'v', zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 };

let instance: Resource & { rootVolumeId: string };
let attached: Resource;
beforeAll(async () => {
  instance = (await make(tenant, 'instances', web())) as typeof instance;
  attached = await make(tenant, 'volumes', volume);
  await tenant.done('POST', `/v1/volumes/${attached.id}/actions/attach`, { instanceId: instance.id });
});
afterAll(async () => {
  await tenant.done('POST', `/v1/volumes/${attached.id}/actions/detach`, {});
  for (const path of [`/v1/volumes/${attached.id}`, `/v1/instances/${instance.id}`]) {
    await tenant.done('DELETE', path);
    await tenant.done('POST', `${path}/actions/expunge`, {});
  }
});
const act = (verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.call('POST', `/v1/instances/${instance.id}/actions/${verb}`, body);

/** A migration that is held before this call while something is asked of it; what it ends with does not matter. */
async function whileMigrating(
  call: string,
  reached: (operation: OperationView) => boolean,
  ask: (id: string) => Promise<Told>,
): Promise<Told> {
  const letGo = await hold(address.simulatorUrl, call);
  const { id } = await act('migrate');
  try {
    await until(id, reached);
    return await ask(id);
  } finally {
    await letGo();
    await admin.settled(id);
  }
}
const moving = ({ steps }: OperationView): boolean => steps.some(({ name }) => name === 'hypervisor.migrate');

/** One way to each code; the type asks for a line as soon as there is a code more. */
const provoked: Record<ProblemCode, () => Promise<Told>> = {
  INVALID_ARGUMENT: () => asked(tenant, 'POST', '/v1/networks', {}),
  MALFORMED_REQUEST: () => asked(tenant, 'POST', '/v1/networks', '{"name": '),
  UNAUTHENTICATED: () => asked(admin.as(''), 'GET', '/v1/networks'),
  FORBIDDEN: () => asked(tenant, 'GET', '/v1/hosts'),
  NOT_FOUND: () => asked(tenant, 'GET', `/v1/networks/${nobody}`),
  METHOD_NOT_ALLOWED: () => asked(tenant, 'DELETE', '/v1/networks'),
  PAYLOAD_TOO_LARGE: () => asked(tenant, 'POST', '/v1/networks', { name: 'x'.repeat(1024 * 1024) }),
  UNSUPPORTED_MEDIA_TYPE: () => asked(tenant, 'POST', '/v1/networks', 'name=n', { 'content-type': 'text/plain' }),
  NAME_IN_USE: () => asked(admin, 'POST', '/v1/zones', { name: cloud.zone.name }),
  ADDRESS_IN_USE: () =>
    asked(tenant, 'POST', '/v1/subnets', { name: 's', networkId: cloud.network.id, cidr: '10.77.128.0/24' }),
  ALREADY_ATTACHED: () =>
    asked(tenant, 'POST', `/v1/volumes/${attached.id}/actions/attach`, { instanceId: instance.id }),
  INVALID_STATE: () => asked(tenant, 'POST', `/v1/instances/${instance.id}/actions/start`, {}),
  RESOURCE_BUSY: () =>
    whileMigrating('domain.migrate', moving, () =>
      asked(tenant, 'POST', `/v1/instances/${instance.id}/actions/reboot?onBusy=fail`, {}),
    ),
  async RESOURCE_FAULTED() {
    const id = crypto.randomUUID();
    await setRules(admin, [{ targetId: id, step: 'networkInterfaces.awaitUp', fault: 'undoFails' }]);
    const accepted = await tenant.call<OperationView>('POST', '/v1/instances', web({ requestedId: id }));
    await admin.settled(accepted.id);
    await setRules(admin, []);
    const told = await asked(tenant, 'POST', `/v1/instances/${id}/actions/stop`, {});
    await admin.call('POST', `/v1/operations/${accepted.id}/actions/retry`);
    await until(accepted.id, ({ endedAt }) => endedAt !== null);
    return told;
  },
  HAS_DEPENDENTS: () => asked(admin, 'DELETE', `/v1/zones/${cloud.zone.id}`),
  async PROTECTED() {
    const { items } = await admin.call<{ items: Resource[] }>('GET', '/v1/roles?filter=builtIn%20%3D%20true');
    return asked(admin, 'PATCH', `/v1/roles/${items[0]?.id}`, { description: 'another' });
  },
  // No service of this version manages resources of tenants; its mark is set as it would set it.
  async MANAGED() {
    const { id } = await tenant.call('POST', '/v1/key-pairs', { name: crypto.randomUUID(), publicKey });
    const database = new pg.Client({ connectionString: address.databaseUrl });
    await database.connect();
    const mark = (managedBy: object | null): Promise<unknown> =>
      database.query(`UPDATE "keyPair" SET "managedBy" = $2 WHERE id = $1`, [id, managedBy]);
    await mark({ kind: 'stack', id: nobody });
    const told = await asked(tenant, 'DELETE', `/v1/key-pairs/${id}`);
    await mark(null);
    await database.end();
    await tenant.call('DELETE', `/v1/key-pairs/${id}`);
    return told;
  },
  CANCEL_TOO_LATE: () =>
    whileMigrating(
      'domain.ensureAbsent',
      ({ pointOfNoReturnPassed }) => pointOfNoReturnPassed,
      (id) => asked(tenant, 'POST', `/v1/operations/${id}/actions/cancel`),
    ),
  REVISION_MISMATCH: () =>
    asked(admin, 'PATCH', `/v1/zones/${cloud.zone.id}`, { description: 'x' }, { 'if-match': '"999"' }),
  async PRECONDITION_FAILED() {
    const { id } = await tenant.call('POST', '/v1/images', {
      name: 'i',
      zoneId: cloud.zone.id,
      checksum: 'a'.repeat(64),
    });
    const type = { 'content-type': 'application/octet-stream' };
    const response = await tenant.raw('PUT', `/v1/images/${id}/content`, smallRawDisk(), type);
    const { code } = (await response.json()) as { code: string };
    await tenant.done('DELETE', `/v1/images/${id}`);
    return { code, status: response.status };
  },
  async IDEMPOTENCY_MISMATCH() {
    const key = { 'idempotency-key': crypto.randomUUID() };
    const { id } = await tenant.call('POST', '/v1/key-pairs', { name: crypto.randomUUID(), publicKey }, key);
    const told = await asked(tenant, 'POST', '/v1/key-pairs', { name: 'another', publicKey }, key);
    await tenant.call('DELETE', `/v1/key-pairs/${id}`);
    return told;
  },
  async QUOTA_EXCEEDED() {
    const limit = { scopeKind: 'project', scopeId: cloud.project.id, counter: 'keyPairs', limit: 0 };
    const { id } = await admin.call('POST', '/v1/quotas', { name: 'none', ...limit });
    const told = await asked(tenant, 'POST', '/v1/key-pairs', { name: 'over', publicKey });
    await admin.call('DELETE', `/v1/quotas/${id}`);
    return told;
  },
  async ACCOUNT_SUSPENDED() {
    await admin.call('POST', `/v1/accounts/${cloud.account.id}/actions/lock`, {});
    const told = await asked(tenant, 'POST', '/v1/key-pairs', { name: 'none', publicKey });
    await admin.call('POST', `/v1/accounts/${cloud.account.id}/actions/unlock`, {});
    return told;
  },
  async NO_CAPACITY() {
    const huge = { name: 'huge', vcpus: 512, memoryMib: 8_388_608, rootVolumeTypeId: cloud.volumeTypes[0]?.id };
    const { id } = await admin.call('POST', '/v1/instance-types', huge);
    const told = await asked(tenant, 'POST', '/v1/instances', web({ instanceTypeId: id }));
    await admin.call('DELETE', `/v1/instance-types/${id}`);
    return told;
  },
  async ADDRESS_EXHAUSTED() {
    const net = await make(tenant, 'networks', { name: 'small', zoneId: cloud.zone.id });
    const cidr = { cidr: '10.5.0.0/29', allocationRanges: [{ from: '10.5.0.2', to: '10.5.0.2' }] };
    const subnet = await make(tenant, 'subnets', { name: 'small', networkId: net.id, ...cidr });
    const two = [{ subnetId: subnet.id }, { subnetId: subnet.id }];
    const told = await asked(tenant, 'POST', '/v1/instances', web({ networkInterfaces: two }));
    await tenant.done('DELETE', `/v1/subnets/${subnet.id}`);
    await tenant.done('DELETE', `/v1/networks/${net.id}`);
    return told;
  },
  NOT_SUPPORTED: () => asked(tenant, 'POST', `/v1/volumes/${instance.rootVolumeId}/actions/detach`, {}),
  RATE_LIMITED: () =>
    served(address.databaseUrl, async (api) => {
      await api.call('GET', '/v1/zones');
      await api.call('GET', '/v1/zones');
      return asked(api, 'GET', '/v1/zones');
    }),
  TOO_MANY_OPEN: () =>
    served(address.databaseUrl, async (api) => {
      const first = await api.raw('GET', '/v1/events?follow=true', null);
      try {
        return await asked(api, 'GET', '/v1/events?follow=true');
      } finally {
        await first.body?.cancel();
      }
    }),
  TOO_SLOW: () =>
    served(address.databaseUrl, async (api) => {
      const body = new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode('{')) });
      const response = await api.raw('POST', '/v1/networks', body, { 'content-type': 'application/json' });
      const { code } = (await response.json()) as { code: string };
      return { code, status: response.status };
    }),
  QUERY_TOO_EXPENSIVE: () =>
    served(address.databaseUrl, (api) => asked(api, 'GET', '/v1/events?filter=project.events:(type%20:%20"a")')),
  HOST_UNREACHABLE: () => {
    const far = { name: 'far', clusterId: cloud.cluster.id, address: '127.0.0.1', sshPort: 1, sshPassword: 'x' };
    return ended(admin.call('POST', '/v1/hosts', far));
  },
  async HOST_FENCED() {
    const one = await failing(address, joined)(165);
    const files = { type: 'sharedMount', source: { path: '/srv/fenced' }, clusterIds: [cloud.cluster.id] };
    const { storageClass } = await make(admin, 'storage-pools', { name: 'fenced', storageClass: 'fenced', ...files });
    const { id: volumeTypeId } = await admin.call('POST', '/v1/volume-types', { name: 'fenced', storageClass });
    // Nobody is shut out of files, so it may still run there.
    const id = await one.deploy('fenced', { rootVolume: { volumeTypeId } });
    await one.fail();
    await one.done('failover');
    const told = await ended(admin.call('DELETE', `/v1/instances/${id}`));
    await one.done('failover', { confirmDead: true });
    await removeInstance(id);
    await one.remove();
    return told;
  },
  BACKEND_UNAVAILABLE: () => served('postgresql://127.0.0.1:1/nothing', asFirst),
  async TIMEOUT() {
    const guestsTake = (ms: number): Promise<unknown> =>
      fetch(`${address.simulatorUrl}/_sim/shutDown`, { method: 'PUT', body: JSON.stringify({ ms }) });
    await guestsTake(3_600_000);
    const told = await ended(act('stop', { mode: 'soft', timeoutSeconds: 1 }));
    await guestsTake(10);
    return told;
  },
  async SUPERSEDED() {
    // A host answers so to a worker whose lease has passed on; the attempt of the next one succeeds, so nobody sees it but here.
    const answer = { code: 'SUPERSEDED', message: 'the lease has passed on', retryable: false };
    const rule = { call: 'domain.reset', when: 'before', action: 'fail', problem: answer, times: 1 };
    await fetch(`${address.simulatorUrl}/_sim/rules`, { method: 'POST', body: JSON.stringify(rule) });
    return ended(act('reboot', { mode: 'force' }));
  },
  CANCELLED: async () => {
    const letGo = await hold(address.simulatorUrl, 'domain.migrate');
    const accepted = await act('migrate');
    await until(accepted.id, moving);
    await tenant.call('POST', `/v1/operations/${accepted.id}/actions/cancel`);
    const told = await ended(Promise.resolve(accepted));
    await letGo();
    return told;
  },
  PARTLY_FAILED: () => {
    const targets = { ids: [instance.id] };
    return ended(tenant.call('POST', '/v1/operations/actions/runMany', { action: 'instance.recover', targets }));
  },
  // A database that is there and knows none of our tables is a defect of ours, whatever it says.
  async INTERNAL() {
    const other = new URL(address.databaseUrl);
    other.pathname = '/postgres';
    const told = await served(other.href, asFirst);
    expect(told.text).not.toMatch(/relation|apiKey|SELECT|node_modules/);
    return told;
  },
};

test.each(Object.keys(problemStatus) as ProblemCode[])('%s', async (code) => {
  const told = await provoked[code]();
  expect(told.code).toBe(code);
  if (told.status !== undefined) expect(told.status).toBe(problemStatus[code]);
});
