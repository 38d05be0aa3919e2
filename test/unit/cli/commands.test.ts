import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcesOf } from '../../../cli/document.ts';
import { type Api, belay, document, problem, startApi, step, succeeded, token } from './api.ts';

const zone = '11111111-1111-4111-8111-111111111111';
const project = '22222222-2222-4222-8222-222222222222';
const other = '33333333-3333-4333-8333-333333333333';

let api: Api;
let folder: string;

beforeEach(async () => {
  api = await startApi();
  folder = mkdtempSync(join(tmpdir(), 'belay-cli-'));
});

afterEach(async () => {
  await api.close();
  rmSync(folder, { recursive: true });
});

const last = (method: string) => api.requests.findLast((request) => request.method === method);

function catalogue(): void {
  api.add('zones', { id: zone, name: 'north' });
  api.add('instance-types', { name: 'small', vcpus: 1, memoryMib: 512 });
  api.add('images', { name: 'debian', state: 'ready' });
  api.add('subnets', { name: 'web', state: 'ready' });
  api.add('security-groups', { name: 'open', state: 'ready' });
  api.add('volume-types', { name: 'fast' });
}

const idNamed = (plural: string, name: string): unknown => api.rows.get(plural)?.find((row) => row.name === name)?.id;

describe('commands made from the document', () => {
  it('every kind has a command for each of its verbs, and each has help without an API', async () => {
    const nowhere = { url: 'http://127.0.0.1:1' };
    for (const resource of resourcesOf(document)) {
      const { code, out } = await belay(nowhere, [resource.plural, '--help']);
      expect(code, resource.plural).toBe(0);
      for (const verb of resource.verbs) expect(out).toMatch(new RegExp(`^  ${verb.name}\\b`, 'm'));
      for (const verb of resource.verbs)
        expect(
          (await belay(nowhere, [resource.plural, verb.name, '--help'])).code,
          `${resource.plural} ${verb.name}`,
        ).toBe(0);
    }
    expect(resourcesOf(document).flatMap(({ verbs }) => verbs).length).toBeGreaterThan(100);
  });

  it('an instance is created from names, dotted options and pairs', async () => {
    catalogue();
    const words = 'instances create --name web --zone-id north --instance-type-id small --source.image-id debian';
    const more = [
      '--network-interfaces',
      'subnetId=web,securityGroupIds=open',
      '--root-volume.size-gib',
      '20',
      '--no-start-on-create',
    ];
    const { code, err } = await belay(api, [
      ...words.split(' '),
      ...more,
      '--labels',
      'env=prod,tier=web',
      '--root-volume.volume-type-id',
      'fast',
    ]);
    expect(err).toContain('belay operations watch');
    expect(code).toBe(0);
    expect(last('POST')?.body).toEqual({
      name: 'web',
      zoneId: zone,
      instanceTypeId: idNamed('instance-types', 'small'),
      source: { imageId: idNamed('images', 'debian') },
      networkInterfaces: [
        { subnetId: idNamed('subnets', 'web'), securityGroupIds: [idNamed('security-groups', 'open')] },
      ],
      rootVolume: { sizeGib: 20, volumeTypeId: idNamed('volume-types', 'fast') },
      startOnCreate: false,
      labels: { env: 'prod', tier: 'web' },
    });
    expect(api.faults).toEqual([]);
  });

  it('a body from standard input is the base, and options come on top of it', async () => {
    const stdin = JSON.stringify({
      name: 'a',
      zoneId: zone,
      rules: [{ direction: 'in', protocol: 'tcp', fromPort: 22 }],
    });
    await belay(api, ['security-groups', 'create', '--from-file', '-', '--name', 'b'], { stdin });
    expect(last('POST')?.body).toEqual({ ...JSON.parse(stdin), name: 'b' });
    expect(api.faults).toEqual([]);
  });

  it('an update is a merge patch of what was named; --clear sets null; --if-revision goes into If-Match', async () => {
    const { id } = api.add('pods', { name: 'p', zoneId: zone, rack: '7', enabled: true });
    const words = ['pod', 'update', 'p', '--clear', 'rack', '--enabled=false', '--if-revision', '3', '-o', 'json'];
    const { code, out } = await belay(api, words);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ id, rack: null, enabled: false });
    expect(last('PATCH')?.body).toEqual({ rack: null, enabled: false });
    expect(last('PATCH')?.headers).toMatchObject({ 'content-type': 'application/merge-patch+json', 'if-match': '"3"' });
    expect(api.faults).toEqual([]);
  });

  it("a create takes the chosen project, and with --clear project-id none: the platform's own", async () => {
    const words = ['schedules', 'create', '--name', 'p', '--cron', '0 3 * * *', '--action', 'host.connect'];
    const rest = ['--targets.filter', 'name = "a"', '--retention.keep-last', '3'];
    await belay(api, [...words, ...rest, '--project-id', project]);
    expect(last('POST')).toMatchObject({
      path: '/v1/schedules',
      body: { projectId: project, cron: '0 3 * * *', targets: { filter: 'name = "a"' }, retention: { keepLast: 3 } },
    });
    await belay(api, [...words, ...rest, '--clear', 'project-id']);
    expect(last('POST')).toMatchObject({ body: { projectId: null } });
    expect(api.faults).toEqual([]);
  });

  it('a record is deleted by name', async () => {
    api.add('key-pairs', { name: 'mine', projectId: project });
    expect(await belay(api, ['key-pairs', 'delete', 'mine'])).toEqual({
      code: 0,
      out: '',
      err: 'key pair mine is deleted\n',
    });
    expect(api.rows.get('key-pairs')).toEqual([]);
    expect(api.faults).toEqual([]);
  });

  it('actions send a body only when there is something in it', async () => {
    api.add('instances', { name: 'web', state: 'running' });
    await belay(api, ['instances', 'start', 'web']);
    expect(last('POST')).toMatchObject({ path: expect.stringMatching(/actions\/start$/), body: undefined });
    await belay(api, ['instances', 'stop', 'web', '--mode', 'force', '--timeout-seconds', '5', '--on-busy', 'fail']);
    expect(last('POST')).toMatchObject({ body: { mode: 'force', timeoutSeconds: 5 }, query: { onBusy: 'fail' } });
    expect(api.faults).toEqual([]);
  });

  it('a dry run shows the plan and sends the parameter', async () => {
    api.add('instances', { name: 'web', state: 'running' });
    const { code, out } = await belay(api, ['instances', 'stop', 'web', '--dry-run', '--idempotency-key', 'k']);
    expect(code).toBe(0);
    expect(out).toContain('hypervisor.boot  libvirt  force off');
    expect(out).toContain('quota: instances=1');
    expect(last('POST')).toMatchObject({ query: { dryRun: 'true' }, headers: { 'idempotency-key': 'k' } });
  });
});

describe('lists', () => {
  it('a table has the columns of the kind, and asks for no more', async () => {
    api.add('volumes', {
      id: zone,
      name: 'disk',
      state: 'ready',
      sizeGib: 2,
      createdAt: '2026-01-02T03:04:05.000000Z',
    });
    const { out } = await belay(api, ['volumes', 'list']);
    expect(out.split('\n').map((line) => line.trimEnd())).toEqual([
      'id                                    name  state  sizeGib  volumeType  instance  createdAt',
      `${zone}  disk  ready  2        -           -         2026-01-02 03:04:05Z`,
      '',
    ]);
    expect(api.requests[0]?.query.fields).toBe('id,name,state,sizeGib,volumeTypeId,instanceId,createdAt');
  });

  it('a list of instances shows addresses, and type, host and image by name', async () => {
    api.add('instance-types', { id: other, name: 'small' });
    api.add('images', { id: project, name: 'debian' });
    api.add('instances', {
      id: zone,
      name: 'web',
      state: 'running',
      instanceTypeId: other,
      hostId: '44444444-4444-4444-8444-444444444444',
      source: { imageId: project },
    });
    api.add('network-interfaces', { instanceId: zone, address: '10.0.0.5' });
    api.add('network-interfaces', { instanceId: zone, address: '10.1.0.5' });
    api.handle('GET /v1/hosts', () => problem(403, 'FORBIDDEN', 'not yours'));
    const { out } = await belay(api, ['instances', 'list']);
    const [head, line] = out.split('\n').map((text) => text.trim().split(/ {2,}/));
    expect(head).toEqual(['id', 'name', 'state', 'addresses', 'instanceType', 'host', 'image', 'createdAt']);
    // What may not be listed stays an id.
    const shown = ['10.0.0.5,10.1.0.5', 'small', '44444444-4444-4444-8444-444444444444', 'debian'];
    expect(line?.slice(0, 7)).toEqual([zone, 'web', 'running', ...shown]);
    expect(api.faults).toEqual([]);
  });

  it('ids whose kind stands beside them are shown by name; programs and chosen columns get the ids', async () => {
    api.add('operations', { id: zone, type: 'subnet.create', targetKind: 'subnet', targetId: other, progress: 100 });
    api.add('subnets', { id: other, name: 'front' });
    expect((await belay(api, ['operations', 'list'])).out).toMatch(/ target .*\n.* front /);
    expect((await belay(api, ['operations', 'list', '--columns', 'targetId'])).out).toContain(other);
    expect(JSON.parse((await belay(api, ['operations', 'list', '-o', 'json'])).out).items[0].targetId).toBe(other);
  });

  it('--all follows the pages, 500 at a time; without it the rest is pointed at', async () => {
    for (let n = 0; n < 1_203; n++) api.add('volumes', { name: `v${n}`, state: 'available', sizeGib: 1 });
    const all = await belay(api, ['volumes', 'list', '--all', '--count', '-o', 'id']);
    expect(all.out.trim().split('\n').length).toBe(1_203);
    expect(all.err).toBe('1203 of 1203 volumes\n');
    expect(api.requests.map(({ query }) => query.pageSize)).toEqual(['500', '500', '500']);
    expect(api.requests.map(({ query }) => query.count)).toEqual(['exact', undefined, undefined]);
    const page = await belay(api, ['volumes', 'list', '--page-size', '2', '--count']);
    expect(page.err).toBe('2 of 1203 volumes; more with --all, or --page-token 2\n');
    expect(api.faults).toEqual([]);
  });

  it('with a project chosen, a list is of that project, and its own filter stays whole', async () => {
    await belay(api, ['volumes', 'list', '--filter', 'sizeGib > 1 OR sizeGib < 5'], {
      env: { BELAY_PROJECT: project },
    });
    expect(last('GET')?.query.filter).toBe(`projectId = "${project}" AND (sizeGib > 1 OR sizeGib < 5)`);
    await belay(api, ['images', 'list'], { env: { BELAY_PROJECT: project } });
    expect(last('GET')?.query.filter).toBe(`(projectId = "${project}" OR visibility = "public")`);
    await belay(api, ['volumes', 'list', '--all-projects'], { env: { BELAY_PROJECT: project } });
    expect(last('GET')?.query.filter).toBeUndefined();
    await belay(api, ['zones', 'list'], { env: { BELAY_PROJECT: project } });
    expect(last('GET')?.query.filter).toBeUndefined();
  });

  it('--columns picks columns, also a label, and refuses one that is not there', async () => {
    api.add('instances', { name: 'web', labels: { env: 'prod' } });
    const { out } = await belay(api, ['instances', 'list', '--columns', 'name,labels.env']);
    expect(out).toBe('name  labels.env\nweb   prod\n');
    expect(last('GET')?.query.fields).toBe('name,labels');
    expect(await belay(api, ['instances', 'list', '--columns', 'nam'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('there is no column nam'),
    });
  });
});

describe('names', () => {
  it('an ambiguous name is refused with the candidates', async () => {
    const [a, b] = [
      api.add('volumes', { name: 'data', projectId: project }),
      api.add('volumes', { name: 'data', projectId: other }),
    ];
    const { code, err } = await belay(api, ['volumes', 'get', 'data']);
    expect(code).toBe(2);
    expect(err).toContain('2 volumes are named "data"');
    expect(err).toContain(String(a.id));
    expect(err).toContain(String(b.id));
  });

  it('of several, the one in the chosen project is meant', async () => {
    const own = api.add('volumes', { name: 'data', projectId: project });
    api.add('volumes', { name: 'data', projectId: other });
    api.add('projects', { id: project, name: 'web' });
    const { out } = await belay(api, ['volumes', 'get', 'data', '--project', 'web', '-o', 'id']);
    expect(out).toBe(`${own.id}\n`);
  });

  it('quotes, backslashes and asterisks in a name stand for themselves', async () => {
    const { id } = api.add('volumes', { name: 'a "b" \\ *' });
    expect((await belay(api, ['volumes', 'get', 'a "b" \\ *', '-o', 'id'])).out).toBe(`${id}\n`);
    expect(last('GET')?.path).toBe(`/v1/volumes/${id}`);
    expect(api.requests[0]?.query.filter).toBe('name = "a \\"b\\" \\\\ \\*"');
  });

  it('a kind without names wants the id', async () => {
    expect(await belay(api, ['operations', 'get', 'mine'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('has no name to find it by'),
    });
  });

  it('what an id refers to is told by the name of its property', async () => {
    api.add('domains', { id: other, name: 'ROOT' });
    api.add('projects', { id: project, name: 'web' });
    await belay(api, ['domains', 'create', '--name', 'x', '--parent-id', 'ROOT']);
    expect(last('POST')?.body).toMatchObject({ parentId: other });
    const limit = ['--counter', 'instances', '--limit', '5', '--name', 'q'];
    await belay(api, ['quotas', 'create', '--scope-kind', 'project', '--scope-id', 'web', ...limit]);
    expect(last('POST')?.body).toMatchObject({ scopeId: project });
    expect(api.faults).toEqual([]);
  });

  it('what the ids of a scan, and of targets, refer to is told by its scope, and by the action on them', async () => {
    api.add('hosts', { id: other, name: 'node-1' });
    await belay(api, ['findings', 'scan', '--scope', 'host', '--id', 'node-1']);
    expect(last('POST')?.body).toEqual({ scope: 'host', id: other });
    api.add('clusters', { id: zone, name: 'kvm-1' });
    api.add('volumes', { id: project, name: 'data' });
    const schedule = ['schedules', 'create', '--name', 's', '--cron', '0 3 * * *', '--clear', 'project-id'];
    await belay(api, [...schedule, '--action', 'cluster.rollingMaintenance', '--targets.ids', 'kvm-1']);
    expect(last('POST')?.body).toMatchObject({ targets: { ids: [zone] } });
    await belay(api, [...schedule, '--action', 'snapshot.create', '--targets.ids', 'data']);
    expect(last('POST')?.body).toMatchObject({ targets: { ids: [project] } });
    await belay(api, ['operations', 'run-many', '--action', 'host.connect', '--targets.ids', `node-1,${zone}`]);
    expect(last('POST')?.body).toMatchObject({ targets: { ids: [other, zone] } });
    expect(api.faults).toEqual([]);
    const { out } = await belay(api, ['findings', 'scan', '--help']);
    expect(out).toContain('--id <id|name>');
  });
});

describe('waiting', () => {
  it('shows the steps as they end, then prints the resource', async () => {
    const { id } = api.add('instances', { name: 'web', state: 'stopped' });
    api.script = [
      { state: 'running', steps: [step('placement.reserve', 'done'), step('hypervisor.boot', 'running')] },
      succeeded(step('placement.reserve', 'done'), step('hypervisor.boot', 'done', { attempts: 2 })),
    ];
    const { code, out, err } = await belay(api, ['instances', 'start', 'web', '--wait', '-o', 'json']);
    expect(code).toBe(0);
    const operation = api.rows.get('operations')?.[0]?.id;
    expect(err).toBe(
      `  ✓ placement.reserve 0.4 s\n  ✓ hypervisor.boot 0.4 s, attempt 2\ninstance.start of ${id} succeeded after 1.5 s, as operation ${operation}\n`,
    );
    expect(JSON.parse(out)).toMatchObject({ id, name: 'web' });
    expect(api.faults).toEqual([]);
  });

  it('on a terminal, what runs stands in a line that is written over', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    api.script = [
      { state: 'running', progress: 40, steps: [step('hypervisor.boot', 'running', { attempts: 3 })] },
      succeeded(step('hypervisor.boot', 'done')),
    ];
    const { err } = await belay(api, ['instances', 'start', 'web', '--wait'], { isTTY: true });
    expect(err).toContain('  … hypervisor.boot (attempt 3) 40 %\r\u001b[K  \u001b[32m✓\u001b[0m hypervisor.boot');
  });

  it('a rollback is shown step by step', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    const error = { code: 'CANCELLED', message: 'cancelled on request', step: null };
    api.script = [
      { state: 'rollingBack', steps: [step('placement.reserve', 'done'), step('hypervisor.boot', 'failed')] },
      {
        state: 'cancelled',
        error,
        endedAt: '2026-01-02T03:04:06.500Z',
        steps: [step('placement.reserve', 'undone'), step('hypervisor.boot', 'undone')],
      },
    ];
    const { code, err } = await belay(api, ['instances', 'start', 'web', '--wait']);
    expect(code).toBe(1);
    const lines = [
      '✓ placement.reserve 0.4 s',
      '✗ hypervisor.boot failed',
      '↩ placement.reserve undone',
      '↩ hypervisor.boot undone',
    ];
    expect(err).toMatch(new RegExp(lines.map((line) => `  ${line}\n`).join('')));
    expect(err).toContain('error: cancelled on request (CANCELLED)');
  });

  it('a failed operation gives code, message and step, and exit code 1', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    const error = { code: 'NO_CAPACITY', message: 'no host has 4096 MiB free', step: 'placement.reserve' };
    api.script = [
      { state: 'failed', endedAt: '2026-01-02T03:04:06.000Z', error, steps: [step('placement.reserve', 'failed')] },
    ];
    const { code, out, err } = await belay(api, ['instances', 'start', 'web', '--wait']);
    expect(code).toBe(1);
    expect(out).toBe('');
    expect(err).toContain('✗ placement.reserve');
    expect(err).toContain('error: no host has 4096 MiB free (NO_CAPACITY)\n  step: placement.reserve\n');
  });

  it('a stuck operation ends the wait and says what an operator can do', async () => {
    const { id } = api.add('operations', {
      type: 'volume.delete',
      targetKind: 'volume',
      targetId: zone,
      state: 'stuck',
    });
    const { code, err } = await belay(api, ['operations', 'watch', String(id)]);
    expect(code).toBe(1);
    expect(err).toContain(`belay operations retry ${id}`);
  });

  it('what was deleted is not printed', async () => {
    const { id } = api.add('volumes', { name: 'v', state: 'available' });
    api.script = [succeeded()];
    const { code, out, err } = await belay(api, ['volumes', 'delete', 'v', '--wait']);
    const operation = api.rows.get('operations')?.[0]?.id;
    expect({ code, out, err }).toEqual({
      code: 0,
      out: '',
      err: `volume.delete of ${id} succeeded after 1.5 s, as operation ${operation}\n`,
    });
  });

  it('times out with exit code 6 and leaves the operation alone', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    const { code, err } = await belay(api, ['instances', 'start', 'web', '--wait', '--timeout', '1s']);
    expect(code).toBe(6);
    expect(err).toMatch(/has not ended after 1 seconds; it goes on/);
  });

  it('Ctrl-C ends the wait with 130 and says how to go on', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    const interruption = new AbortController();
    api.handle('GET /v1/operations/{id}', () => {
      interruption.abort();
      return undefined;
    });
    const { code, err } = await belay(api, ['instances', 'start', 'web', '--wait'], { signal: interruption.signal });
    expect(code).toBe(130);
    expect(err).toContain('the operation goes on: belay operations watch');
    expect(api.requests.some(({ path }) => path.endsWith('/actions/cancel'))).toBe(false);
  });

  it('bears that the API is away for a moment', async () => {
    api.add('instances', { name: 'web', state: 'stopped' });
    let calls = 0;
    api.handle('GET /v1/operations/{id}', (_, response) => {
      calls += 1;
      if (calls === 1) return void response.destroy();
      return calls === 2 ? problem(503, 'BACKEND_UNAVAILABLE', 'the database does not answer') : undefined;
    });
    api.script = [succeeded()];
    expect((await belay(api, ['instances', 'start', 'web', '--wait'])).code).toBe(0);
    expect(calls).toBe(3);
  });
});

describe('exit codes and errors', () => {
  it.each<[number, string, number]>([
    [409, 'INVALID_STATE', 1],
    [403, 'QUOTA_EXCEEDED', 1],
    [404, 'NOT_FOUND', 3],
    [401, 'UNAUTHENTICATED', 4],
    [403, 'FORBIDDEN', 4],
    [500, 'INTERNAL', 1],
  ])('a refusal %i %s ends with %i', async (status, code, exit) => {
    api.handle('GET /v1/zones', () => problem(status, code, 'no'));
    const ran = await belay(api, ['zones', 'list']);
    expect(ran.code).toBe(exit);
    expect(ran.err).toContain(`error: no (${code})`);
    expect(ran.err).toContain('request: request-1');
  });

  it('violations are told per field', async () => {
    const violations = [
      { field: 'cidr', message: 'is no range' },
      { field: 'filter', message: 'expected a value', position: 7 },
    ];
    api.handle('POST /v1/subnets', () => problem(422, 'INVALID_ARGUMENT', 'two things are wrong', { violations }));
    const { err } = await belay(api, [
      'subnets',
      'create',
      '--name',
      's',
      '--network-id',
      zone,
      '--cidr',
      '10.0.0.0/24',
    ]);
    expect(err).toBe(
      'error: two things are wrong (INVALID_ARGUMENT)\n  cidr: is no range\n  filter: expected a value (column 8)\n  request: request-1\n',
    );
  });

  it.each<[string, string[], RegExp]>([
    ['an unknown command', ['instancez', 'list'], /unknown command 'instancez'/],
    ['an unknown option', ['zones', 'list', '--colour'], /unknown option '--colour'/],
    ['a missing argument', ['zones', 'get'], /missing required argument/],
    ['a missing property', ['subnets', 'create', '--name', 's'], /--network-id, --cidr are needed/],
    [
      'text for a number',
      ['volumes', 'create', '--size-gib', 'ten'],
      /--size-gib takes a whole number|--size-gib takes a number/,
    ],
    ['a word that is no choice', ['images', 'create', '--format', 'iso'], /--format takes one of raw, qcow2/],
    ['an empty update', ['zones', 'update', zone], /nothing to change/],
    ['an address that is none', ['zones', 'list', '--url', 'cloud'], /cloud is no address/],
    ['an unknown profile', ['zones', 'list', '--profile', 'nope'], /there is no profile nope/],
  ])('%s ends with 2', async (_, words, message) => {
    const { code, err } = await belay(api, words);
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(api.requests).toEqual([]);
  });

  it('a name that nothing has ends with 3', async () => {
    expect(await belay(api, ['zones', 'get', 'south'])).toMatchObject({
      code: 3,
      err: 'error: there is no zone named "south", or you may not see it\n',
    });
  });

  it('an API that does not answer ends with 5', async () => {
    const { code, err } = await belay({ url: 'http://127.0.0.1:1' }, ['zones', 'list']);
    expect(code).toBe(5);
    expect(err).toContain('http://127.0.0.1:1 can not be reached');
  });

  it('an address where something else answers ends with 5', async () => {
    api.handle(
      'GET /v1/zones',
      (_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    );
    expect((await belay(api, ['zones', 'list'])).code).toBe(5);
    api.handle('GET /v1/zones', (_, response) => void response.writeHead(502).end('bad gateway'));
    expect((await belay(api, ['zones', 'list'])).code).toBe(5);
  });

  it('waits and asks again when it asked too often', async () => {
    let refusals = 1;
    api.handle('GET /v1/zones', () =>
      refusals-- > 0 ? problem(429, 'RATE_LIMITED', 'too often', { retryAfterSeconds: 1 }) : undefined,
    );
    expect((await belay(api, ['zones', 'list'])).code).toBe(0);
  });

  it('help exit-codes lists them', async () => {
    const { code, out } = await belay(api, ['help', 'exit-codes']);
    expect(code).toBe(0);
    for (const exit of [0, 1, 2, 3, 4, 5, 6, 130]) expect(out).toMatch(new RegExp(`^ +${exit}  `, 'm'));
  });

  it('the token is never printed', async () => {
    const commands = [
      ['about'],
      ['zones', 'list'],
      ['configure', '--list'],
      ['zones', 'get', 'x'],
      ['completion', 'bash'],
    ];
    for (const words of commands) {
      const { out, err } = await belay(api, words, { env: { BELAY_DEBUG: '1' } });
      expect(out + err).not.toContain(token);
    }
  });
});

describe('images', () => {
  it('create --file announces the image and sends its bytes', async () => {
    const file = join(folder, 'disk.raw');
    const bytes = Buffer.alloc(3_000_000, 'disk');
    writeFileSync(file, bytes);
    api.handle('PUT /v1/images/{id}/content', ({ path }) => ({
      $status: 202,
      ...api.add('operations', {
        type: 'image.import',
        targetKind: 'image',
        targetId: path.split('/')[3],
        state: 'queued',
      }),
    }));
    api.script = [succeeded(step('images.publish', 'done'))];
    const ran = await belay(api, [
      'images',
      'create',
      '--name',
      'i',
      '--zone-id',
      zone,
      '--file',
      file,
      '--wait',
      '-o',
      'json',
    ]);
    expect(ran.code).toBe(0);
    expect(JSON.parse(ran.out)).toMatchObject({ name: 'i' });
    expect(ran.err).toContain('sent 2.9 MiB');
    const put = last('PUT');
    expect(put?.headers['content-length']).toBe(String(bytes.length));
    expect(
      createHash('sha256')
        .update(put?.bytes ?? '')
        .digest('hex'),
    ).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(api.faults).toEqual([]);
  });

  it('upload takes standard input, and a refusal is told as such', async () => {
    const { id } = api.add('images', { name: 'i', state: 'ready' });
    api.handle('PUT /v1/images/{id}/content', () =>
      problem(409, 'INVALID_STATE', 'its bytes were uploaded already', { fits: ['awaitingUpload'] }),
    );
    const { code, err } = await belay(api, ['images', 'upload', 'i', '-'], { stdin: 'bytes' });
    expect(code).toBe(1);
    expect(err).toContain('error: its bytes were uploaded already (INVALID_STATE)\n  possible when: awaitingUpload');
    expect(last('PUT')).toMatchObject({ path: `/v1/images/${id}/content` });
    expect(last('PUT')?.bytes.toString()).toBe('bytes');
  });

  it('a refusal that comes before all bytes were sent is heard', async () => {
    const file = join(folder, 'large.raw');
    writeFileSync(file, Buffer.alloc(40_000_000));
    const { id } = api.add('images', { name: 'i' });
    const refusal = JSON.stringify(problem(401, 'UNAUTHENTICATED', 'no valid credential'));
    const { createServer } = await import('node:http');
    const early = createServer((_, response) => {
      response.writeHead(401, { 'content-type': 'application/problem+json', connection: 'close' });
      response.end(refusal);
    });
    await new Promise<void>((resolve) => early.listen(0, '127.0.0.1', resolve));
    const { port } = early.address() as { port: number };
    const { code } = await belay({ url: `http://127.0.0.1:${port}` }, ['images', 'upload', String(id), file]);
    early.closeAllConnections();
    early.close();
    expect(code).toBe(4);
  });

  it('nothing is announced when the file can not be read', async () => {
    expect(
      (await belay(api, ['images', 'create', '--name', 'i', '--zone-id', zone, '--file', join(folder, 'no')])).code,
    ).toBe(2);
    expect(api.requests).toEqual([]);
  });
});

describe('streams', () => {
  const event = (sequence: number): string =>
    `id: ${sequence}\nevent: instance.started\ndata: ${JSON.stringify({ id: zone, type: 'instance.started', sequence, resourceKind: 'instance', resourceId: other, severity: 'info' })}\n\n`;

  it('events follow goes on behind the last event after a cut, until Ctrl-C', async () => {
    const interruption = new AbortController();
    const from: unknown[] = [];
    api.handle('GET /v1/events', ({ headers }, response) => {
      from.push(headers['last-event-id']);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': following\n\n');
      response.write(event(from.length * 2 - 1));
      const text = event(from.length * 2);
      // Cut in the middle of a line.
      response.write(text.slice(0, 30));
      if (from.length === 1) response.end(text.slice(30));
      else response.write(text.slice(30));
    });
    const { code, out } = await belay(api, ['events', 'follow', '-o', 'json', '--filter', 'severity = "info"'], {
      signal: interruption.signal,
      onOutput: (text) => text.includes('"sequence":4') && interruption.abort(),
    });
    expect(code).toBe(130);
    expect(
      out
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { sequence: number }).sequence),
    ).toEqual([1, 2, 3, 4]);
    expect(from).toEqual([undefined, '2']);
    expect(last('GET')?.query).toEqual({ follow: 'true', filter: 'severity = "info"' });
  });

  it('console passes on what the guest says', async () => {
    api.add('instances', { name: 'web' });
    api.handle('GET /v1/instances/{id}/views/serialLog', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      response.write(Buffer.from('Booting \u00e4').subarray(0, 9));
      response.end(Buffer.from('Booting \u00e4').subarray(9));
    });
    expect(await belay(api, ['console', 'web', '--no-follow'])).toEqual({ code: 0, out: 'Booting ä', err: '' });
    expect(last('GET')?.query).toEqual({ follow: 'false' });
  });

  it('a view of a resource is a command like another', async () => {
    const id = api.add('instances', { name: 'web' }).id;
    const plan = { deletable: true, takes: [{ kind: 'instance', id, name: 'web', by: 'target' }] };
    api.handle('GET /v1/instances/{id}/views/deletePlan', () => plan);
    const { code, out } = await belay(api, ['instances', 'delete-plan', 'web', '-o', 'json']);
    expect([code, JSON.parse(out)]).toEqual([0, plan]);
    // A text is no record: `belay console` shows it.
    expect((await belay(api, ['instances', '--help'])).out).not.toContain('serial-log');
  });

  it('query sends named lists from standard input', async () => {
    api.handle('POST /v1/query', ({ body }) => ({
      up: { items: [{ id: zone, name: 'north' }], nextPageToken: null, asked: body },
    }));
    const stdin = '{"up":{"kind":"zone"}}';
    expect(JSON.parse((await belay(api, ['query'], { stdin })).out).up.asked).toEqual(JSON.parse(stdin));
    expect((await belay(api, ['query', '-o', 'table'], { stdin })).out).toMatch(/^up\nid +name/);
    expect(api.faults).toEqual([]);
  });
});
