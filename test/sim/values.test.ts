/** Values through the whole API: in as they were meant, out in one form, the same at every later reading. */
import { gzipSync } from 'node:zlib';
import { describe, expect, inject, test } from 'vitest';
import type { ApiProblem, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { allKinds } from '../../model/kinds.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { admin, cloud, removeInstance } = joinCloud(address);
const { tenant } = cloud;

async function ask(
  method: string,
  path: string,
  body?: unknown,
  as = tenant,
): Promise<{ status: number; answer: Resource & ApiProblem }> {
  const text = body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body);
  const response = await as.raw(method, path, text, text === null ? {} : { 'content-type': 'application/json' });
  const answer = await response.text();
  return { status: response.status, answer: (answer === '' ? {} : JSON.parse(answer)) as Resource & ApiProblem };
}
const fieldsOf = ({ answer }: { answer: ApiProblem }): string[] => (answer.violations ?? []).map(({ field }) => field);
const list = async (plural: string, query: string): Promise<Resource[]> =>
  (await admin.call<{ items: Resource[] }>('GET', `/v1/${plural}?${query}`)).items;
const filtered = async (plural: string, filter: string, more = ''): Promise<Resource[]> =>
  list(plural, `filter=${encodeURIComponent(filter)}${more}`);

const told = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/;
/** Everything in an answer that looks like an instant and is not in the one form. */
function otherInstants(value: unknown, path: string): string[] {
  if (typeof value === 'string')
    return /^\d{4}-\d{2}-\d{2}[T ]\d/.test(value) && !told.test(value) ? [`${path} ${value}`] : [];
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, member]) => otherInstants(member, `${path}.${key}`));
}

describe('text', () => {
  const network = (more: Record<string, unknown>) => ({ name: 'v', zoneId: cloud.zone.id, ...more });
  test('that can not be kept is refused where it stands, before anything else', async () => {
    for (const [body, field] of [
      ['{"name":"a\\u0000b"}', 'name'],
      [`{"name":"a","labels":{"k\\ud800":"v"}}`, 'labels.k\u{FFFD}'],
      [`{"name":"a","note":"\\udc00"}`, 'note'],
      [`{"nothing":[{"deep":"\\ud83d"}]}`, 'nothing.0.deep'],
    ] as const)
      for (const path of ['/v1/networks?dryRun=true', '/v1/key-pairs?dryRun=true', '/v1/query']) {
        const refused = await ask('POST', path, body);
        expect([refused.status, refused.answer.code]).toEqual([422, 'INVALID_ARGUMENT']);
        expect(fieldsOf(refused)).toEqual([field]);
      }
    const filter = await ask('GET', `/v1/networks?filter=${encodeURIComponent('name = "a\0"')}`);
    expect(filter.status).toBe(400);
  });

  test('that spells a NUL is kept as it is', async () => {
    const { id } = await make(tenant, 'networks', network({ note: 'printf "\\u0000"' }));
    expect((await ask('GET', `/v1/networks/${id}`)).answer.note).toBe('printf "\\u0000"');
    await tenant.done('DELETE', `/v1/networks/${id}`);
  });

  test('that is no JSON is refused in words that are ours', async () => {
    for (const [body, words] of [
      ['{"name": ', 'it ends too early'],
      ['{"name": x}', 'not written as RFC 8259 asks'],
      ['name=web', 'not written as RFC 8259 asks'],
      ['[[[['.repeat(20_000), /nested too deeply|ends too early/],
    ] as const) {
      const { status, answer } = await ask('POST', '/v1/networks', body);
      expect([status, answer.code]).toEqual([400, 'MALFORMED_REQUEST']);
      expect(answer.detail).toMatch(words);
      expect(answer.detail).not.toMatch(/token|JSON at|Expected|call stack/);
    }
  });
});

describe('a PATCH', () => {
  test('takes labels away, returns fields to their defaults, and answers what is then read', async () => {
    const { id } = (
      await ask(
        'POST',
        '/v1/volume-types',
        {
          name: 'patched',
          storageClass: 'fast',
          enabled: false,
          description: 'x',
          labels: { env: 'prod', keep: 'y' },
        },
        admin,
      )
    ).answer;
    const path = `/v1/volume-types/${id}`;
    const patch = async (body: unknown): Promise<Resource> => {
      const { status, answer } = await ask('PATCH', path, body, admin);
      expect({ status, answer }).toMatchObject({ status: 200 });
      expect((await ask('GET', path, undefined, admin)).answer).toEqual(answer);
      return answer;
    };
    expect((await patch({ labels: { env: null } })).labels).toEqual({ keep: 'y' });
    expect(await patch({ enabled: null, description: null, minSizeGib: null })).toMatchObject({
      enabled: true,
      description: '',
      minSizeGib: 1,
    });
    expect((await patch({ qos: { readIops: 5, writeIops: 6 } })).qos).toEqual({ readIops: 5, writeIops: 6 });
    expect((await patch({ qos: { readIops: null } })).qos).toEqual({ writeIops: 6 });
    const many = Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`k${n}`, 'v']));
    const refused = await ask('PATCH', path, { labels: many }, admin);
    expect([refused.status, fieldsOf(refused)]).toEqual([422, ['labels']]);
    expect(Object.keys((await patch({ labels: { keep: null, ...many } })).labels as object)).toHaveLength(64);
    expect((await patch({ labels: null })).labels).toEqual({});
    await admin.call('DELETE', path);
  });
});

describe('an instant', () => {
  test('has one form in every answer of every kind, in steps, events and audit entries', async () => {
    const found: string[] = [];
    for (const { plural } of allKinds) {
      const items = await list(plural, 'pageSize=200&showDeleted=true');
      found.push(...otherInstants(items, plural));
    }
    expect([...new Set(found)]).toEqual([]);
    expect(otherInstants((await ask('GET', '/v1/about')).answer, 'about')).toEqual([]);
  });

  test('of another zone is kept in UTC, and the answer of a create is what is read later', async () => {
    // Whose account no other test has locked.
    const path = `/v1/users?filter=${encodeURIComponent('userName = "admin"')}`;
    const [user] = (await admin.call<{ items: Resource[] }>('GET', path)).items;
    const created = (
      await ask(
        'POST',
        '/v1/api-keys',
        { name: 'zoned', userId: user?.id, expiresAt: '2099-01-31T13:00:00+01:00' },
        admin,
      )
    ).answer;
    expect(created.expiresAt).toBe('2099-01-31T12:00:00.000000Z');
    const { token: _, callbackSecret: __, ...kept } = created;
    expect((await ask('GET', `/v1/api-keys/${created.id}`, undefined, admin)).answer).toEqual(kept);
    await admin.call('DELETE', `/v1/api-keys/${created.id}`);
    const { answer: accepted } = await ask('POST', '/v1/networks', { name: 'accepted', zoneId: cloud.zone.id });
    expect(otherInstants(accepted, 'operation')).toEqual([]);
    const later = await admin.settled(String(accepted.id));
    expect(Object.keys(later).sort()).toEqual(Object.keys(accepted).sort());
    expect(later).toMatchObject({ createdAt: accepted.createdAt, input: accepted.input });
    await tenant.done('DELETE', `/v1/networks/${String(accepted.targetId)}`);
  });
});

describe('addresses', () => {
  test('come from all ranges of a subnet, the lowest first, and compare as addresses', async () => {
    const network = await make(tenant, 'networks', { name: 'ranges', zoneId: cloud.zone.id });
    const at = (last: number) => `10.88.0.${last}`;
    const subnet = await make(tenant, 'subnets', {
      name: 'ranges',
      networkId: network.id,
      cidr: '10.88.0.0/24',
      allocationRanges: [
        { from: at(100), to: at(100) },
        { from: at(9), to: at(9) },
        { from: at(20), to: at(20) },
      ],
    });
    const nic = { subnetId: subnet.id, securityGroupIds: [] };
    const body = (count: number) =>
      instanceBody(cloud, 'ranged', { startOnCreate: false, networkInterfaces: Array(count).fill(nic) });
    const full = await ask('POST', '/v1/instances', body(4));
    expect(full.answer.code).toBe('ADDRESS_EXHAUSTED');
    const { id } = await make(tenant, 'instances', body(3));
    const of = `instanceId = "${id}" AND `;
    const addresses = async (filter: string, more = ''): Promise<unknown[]> =>
      (await filtered('network-interfaces', of + filter, more)).map((found) => found.address);
    expect(await addresses('address > "10.88.0.9"', '&orderBy=address')).toEqual([at(20), at(100)]);
    expect(await addresses('address:*', '&orderBy=address desc')).toEqual([at(100), at(20), at(9)]);
    expect(await addresses('address = "10.88.0.20"')).toEqual([at(20)]);
    expect(await addresses('address = "10.88.0.1*"')).toEqual([at(100)]);
    const first = await admin.call<{ items: Resource[]; nextPageToken: string }>(
      'GET',
      `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${id}"`)}&orderBy=address&pageSize=1`,
    );
    expect(first.items[0]?.address).toBe(at(9));
    const second = await list(
      'network-interfaces',
      `filter=${encodeURIComponent(`instanceId = "${id}"`)}&orderBy=address&pageSize=1&pageToken=${first.nextPageToken}`,
    );
    expect(second[0]?.address).toBe(at(20));
    expect(
      await filtered('subnets', 'cidr > "10.9.0.0/16" AND cidr < "10.89.0.0/16" AND name = "ranges"'),
    ).toHaveLength(1);
    expect(await filtered('subnets', 'allocationRanges:(from > "10.88.0.99") AND name = "ranges"')).toHaveLength(1);
    expect(await filtered('subnets', 'allocationRanges:(from > "10.88.0.100") AND name = "ranges"')).toHaveLength(0);
    expect((await ask('GET', `/v1/subnets?filter=${encodeURIComponent('gateway = "10.088.0.1"')}`)).status).toBe(400);
    await removeInstance(id);
    await tenant.done('DELETE', `/v1/subnets/${subnet.id}`);
    await tenant.done('DELETE', `/v1/networks/${network.id}`);
  });
});

describe('rules of a security group', () => {
  test('are refused with their field at setRules as at create, and told with both ends of a range', async () => {
    const body = (rule: unknown) => ({ name: 'ruled', zoneId: cloud.zone.id, rules: [rule] });
    const bad = { direction: 'out', protocol: 'any', fromPort: 22, toPort: 22 };
    expect(fieldsOf(await ask('POST', '/v1/security-groups', body(bad)))).toEqual([
      'rules.0.fromPort',
      'rules.0.toPort',
    ]);
    const { id } = await make(
      tenant,
      'security-groups',
      body({ direction: 'in', protocol: 'tcp', fromPort: 22, remoteCidr: '10.0.0.0/8' }),
    );
    const rules = async (): Promise<unknown> => (await ask('GET', `/v1/security-groups/${id}`)).answer.rules;
    expect(await rules()).toEqual([
      {
        direction: 'in',
        protocol: 'tcp',
        fromPort: 22,
        toPort: 22,
        remoteCidr: '10.0.0.0/8',
        family: 4,
        enabled: true,
      },
    ]);
    const set = `/v1/security-groups/${id}/actions/setRules`;
    expect(fieldsOf(await ask('POST', set, { rules: [bad] }))).toEqual(['rules.0.fromPort', 'rules.0.toPort']);
    await tenant.done('POST', set, { rules: [{ direction: 'out', protocol: 'udp', fromPort: 53 }] });
    expect(await rules()).toEqual([
      { direction: 'out', protocol: 'udp', fromPort: 53, toPort: 53, family: 4, enabled: true },
    ]);
    await tenant.done('DELETE', `/v1/security-groups/${id}`);
  });
});

test('user data may stand for bytes; what is no base64 is refused', async () => {
  const body = (more: Record<string, unknown>) =>
    instanceBody(cloud, `${'a'.repeat(62)}-b`, { startOnCreate: false, ...more });
  const userData = gzipSync('#!/bin/sh\n').toString('base64');
  const given = { userData: `${userData.slice(0, 12)}\n${userData.slice(12)}`, userDataEncoding: 'base64' };
  const dry = '/v1/instances?dryRun=true';
  expect(fieldsOf(await ask('POST', dry, body({ ...given, userData: '#!/bin/sh' })))).toEqual(['userData']);
  expect(fieldsOf(await ask('POST', dry, body({ userDataEncoding: 'base64' })))).toEqual(['userDataEncoding']);
  const { id } = await make(tenant, 'instances', body(given));
  const { answer } = await ask('GET', `/v1/instances/${id}`);
  expect(answer).toMatchObject({ userDataEncoding: 'base64', guestHostname: 'a'.repeat(62) });
  await removeInstance(id);
});

test('a setting is kept in one form too, and an event tells what happened in its own word', async () => {
  const [setting] = await filtered('settings', 'name = "callback.deniedNetworks"');
  const path = `/v1/settings/${setting?.id}`;
  const before = setting?.value;
  const changed = await admin.call('PATCH', path, { value: [...(before as string[]), 'FD00:0::/8'] });
  expect(changed.value).toEqual([...(before as string[]), 'fd00::/8']);
  await admin.call('POST', `${path}/actions/reset`, {});
  const events = await filtered('events', `resourceId = "${setting?.id}"`, '&orderBy=createdAt desc&pageSize=1');
  expect(events[0]?.type).toBe('setting.reset');
});

test('a stream of events is not resumed behind an event that is yet to come', async () => {
  const follow = (id: string): Promise<Response> =>
    admin.raw('GET', '/v1/events?follow=true', null, { 'last-event-id': id });
  for (const id of ['999999999999999', '-1', '1e3', '007', 'abc']) {
    const response = await follow(id);
    const problem = (await response.json()) as ApiProblem;
    expect([response.status, problem.code, fieldsOf({ answer: problem })]).toEqual([
      422,
      'INVALID_ARGUMENT',
      ['Last-Event-ID'],
    ]);
  }
});
