/** Address groups: what is kept, what OVN has of it, what is refused, and who may not go while rules name it. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import { addressSetName } from '../../activities/network/addressGroup.ts';
import { securityGroupName } from '../../activities/network/securityGroup.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { follower } from '../support/operations.ts';
import { answer } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong } = joinCloud(address);
const { tenant } = cloud;
const until = follower(admin);
afterEach(() => setRules(admin, []));

type Group = Resource & { family: number; entries: unknown[]; addressGroupIds: string[] };

const newGroup = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'address-groups', { name: 'offices', family: 4, entries: [{ cidr: '10.1.0.0/16' }], ...more });
const naming = (remoteAddressGroupId: string) => ({ direction: 'in', protocol: 'any', remoteAddressGroupId });
const newRules = (id: string): Promise<Resource> =>
  make(tenant, 'security-groups', { name: 'named', zoneId: cloud.zone.id, rules: [naming(id)] });
const now = (plural: string, id: string): Promise<Group> => tenant.call('GET', `/v1/${plural}/${id}`);
const remove = (plural: string, id: string): Promise<unknown> => tenant.done('DELETE', `/v1/${plural}/${id}`);
const setEntries = (id: string, entries: unknown): Promise<unknown> =>
  tenant.done('POST', `/v1/address-groups/${id}/actions/setEntries`, { entries });

const listed = async (filter: string): Promise<Resource[]> =>
  (await tenant.call<{ items: Resource[] }>('GET', `/v1/security-groups?filter=${encodeURIComponent(filter)}`)).items;

const rows = async (table: string): Promise<Record<string, unknown>[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Record<string, unknown>[];
/** The addresses that OVN has of a group; null without a row. An empty column is not in the inventory. */
async function addressesOf(id: string, family = 4): Promise<unknown> {
  const row = (await rows('Address_Set')).find(({ name }) => name === addressSetName(id, family));
  return row ? (row.addresses ?? []) : null;
}
const matchesOf = async (securityGroupId: string): Promise<string[]> =>
  (await rows('ACL'))
    .map(({ match }) => String(match))
    .filter((match) => match.includes(securityGroupName(securityGroupId)));

test('a group is one address set of OVN, which follows its entries and goes with it', async () => {
  const entries = [{ cidr: '10.1.0.0/16', note: 'the office' }, { cidr: '192.168.7.7/32' }];
  const { id } = await newGroup({ entries });
  expect(await now('address-groups', id)).toMatchObject({ family: 4, entries, state: 'ready' });
  expect(await addressesOf(id)).toEqual(['10.1.0.0/16', '192.168.7.7/32']);
  const row = (await rows('Address_Set')).find(({ name }) => name === addressSetName(id, 4));
  expect(row?.external_ids).toMatchObject({ 'belay:id': id, 'belay:kind': 'addressGroup' });
  await setEntries(id, []);
  expect((await now('address-groups', id)).entries).toEqual([]);
  expect(await addressesOf(id)).toEqual([]);
  await tenant.call('PATCH', `/v1/address-groups/${id}`, { name: 'branches' });
  await remove('address-groups', id);
  expect(await addressesOf(id)).toBe(null);
});

test('one of IPv6 keeps each network in its shortest form', async () => {
  const { id } = await newGroup({ family: 6, entries: [{ cidr: 'FD00:0:0:0::/64' }, { cidr: '::/0' }] });
  expect((await now('address-groups', id)).entries).toEqual([{ cidr: 'fd00::/64' }, { cidr: '::/0' }]);
  expect(await addressesOf(id, 6)).toEqual(['::/0', 'fd00::/64']);
  await remove('address-groups', id);
});

test('entries that can not be written are taken back: records and OVN have the old ones', async () => {
  const { id } = await newGroup();
  await setRules(admin, [{ targetId: id, step: 'addressGroups.replaceEntries', fault: 'failAfter', times: 1 }]);
  const { id: operationId } = await tenant.call<OperationView>('POST', `/v1/address-groups/${id}/actions/setEntries`, {
    entries: [{ cidr: '10.2.0.0/16' }],
  });
  expect((await tenant.settled(operationId)).state).toBe('failed');
  expect((await now('address-groups', id)).entries).toEqual([{ cidr: '10.1.0.0/16' }]);
  expect(await addressesOf(id)).toEqual(['10.1.0.0/16']);
  await remove('address-groups', id);
});

describe('a rule that names a group', () => {
  test('names its address set, and stays as it is when the entries change', async () => {
    const { id } = await newGroup();
    const group = await newRules(id);
    expect((await now('security-groups', group.id)).addressGroupIds).toEqual([id]);
    const before = await matchesOf(group.id);
    expect(before).toEqual([expect.stringContaining(`ip4.src == $${addressSetName(id, 4)}`)]);
    await setEntries(id, [{ cidr: '10.3.0.0/16' }]);
    expect(await matchesOf(group.id)).toEqual(before);
    expect(await addressesOf(id)).toEqual(['10.3.0.0/16']);
    for (const filter of [
      `addressGroupIds:"${id}"`,
      'addressGroups:(name = "offices")',
      `rules.remoteAddressGroupId:"${id}"`,
    ])
      expect((await listed(filter)).map((one) => one.id)).toEqual([group.id]);
    await remove('security-groups', group.id);
    await remove('address-groups', id);
  });

  test('of IPv6 is for IPv6', async () => {
    const { id } = await newGroup({ family: 6, entries: [{ cidr: 'fd00::/64' }] });
    const group = await newRules(id);
    expect(await matchesOf(group.id)).toEqual([expect.stringContaining(`ip6 && ip6.src == $${addressSetName(id, 6)}`)]);
    await remove('security-groups', group.id);
    await remove('address-groups', id);
  });

  test('keeps it from being deleted, until no rule names it any more', async () => {
    const { id } = await newGroup();
    const group = await newRules(id);
    const refused = await answer(tenant, 'DELETE', `/v1/address-groups/${id}`);
    expect([refused.status, refused.code]).toEqual([409, 'HAS_DEPENDENTS']);
    expect(refused.blockers).toEqual([{ kind: 'securityGroup', id: group.id, name: 'named' }]);
    await tenant.done('POST', `/v1/security-groups/${group.id}/actions/setRules`, { rules: [] });
    expect((await now('security-groups', group.id)).addressGroupIds).toEqual([]);
    await remove('address-groups', id);
    await remove('security-groups', group.id);
  });

  test('keeps it while it is only on its way: the deletion waits, and finds it named', async () => {
    const { id } = await newGroup();
    const group = await make(tenant, 'security-groups', { name: 'named', zoneId: cloud.zone.id });
    await setRules(admin, [{ targetId: group.id, step: 'securityGroups.recordRules', fault: 'failBefore' }]);
    const path = `/v1/security-groups/${group.id}/actions/setRules`;
    const setting = await tenant.call<OperationView>('POST', path, { rules: [naming(id)] });
    await until(setting.id, ({ state }) => state === 'stuck');
    const deletion = await tenant.call<OperationView>('DELETE', `/v1/address-groups/${id}`);
    // Who comes behind the deletion waits for that, too.
    const late = await tenant.call<OperationView>('POST', '/v1/security-groups', {
      name: 'late',
      zoneId: cloud.zone.id,
      rules: [naming(id)],
    });
    await setRules(admin, []);
    await admin.call('POST', `/v1/operations/${setting.id}/actions/retry`, {});
    expect((await tenant.settled(setting.id)).state).toBe('succeeded');
    const ended = await tenant.settled(deletion.id);
    expect([ended.state, ended.error?.code, ended.error?.step]).toEqual([
      'failed',
      'HAS_DEPENDENTS',
      'addressGroups.proveUnused',
    ]);
    expect((await now('address-groups', id)).state).toBe('ready');
    expect(await addressesOf(id)).toEqual(['10.1.0.0/16']);
    expect((await tenant.settled(late.id)).state).toBe('succeeded');
    for (const one of [group.id, late.targetId]) await remove('security-groups', one);
    await remove('address-groups', id);
  });

  test('never names one that is gone, whoever asks for what at the same moment', async () => {
    for (let round = 0; round < 6; round++) {
      const { id } = await newGroup();
      const group = await make(tenant, 'security-groups', { name: 'named', zoneId: cloud.zone.id });
      const asked: [method: string, path: string, body?: unknown][] = [
        ['DELETE', `/v1/address-groups/${id}`],
        ['POST', '/v1/security-groups', { name: 'raced', zoneId: cloud.zone.id, rules: [naming(id)] }],
        ['POST', `/v1/security-groups/${group.id}/actions/setRules`, { rules: [naming(id)] }],
      ];
      const turned = [...asked.slice(round % 3), ...asked.slice(0, round % 3)];
      const answers = await Promise.all(turned.map(([method, path, body]) => answer(tenant, method, path, body)));
      for (const { status, code } of answers)
        if (status !== 202) expect(['HAS_DEPENDENTS', 'INVALID_STATE', 'NOT_FOUND']).toContain(code);
      const accepted = answers.filter(({ status }) => status === 202) as unknown as OperationView[];
      for (const one of accepted) {
        const { state, error } = await tenant.settled(one.id);
        if (state !== 'succeeded') expect(['HAS_DEPENDENTS', 'INVALID_STATE', 'NOT_FOUND']).toContain(error?.code);
      }
      const isThere = (await answer(tenant, 'GET', `/v1/address-groups/${id}`)).status === 200;
      const users = await listed(`addressGroupIds:"${id}"`);
      expect([isThere, (await addressesOf(id)) !== null]).toEqual([users.length > 0, users.length > 0]);
      for (const one of new Set([group.id, ...users.map((user) => user.id)])) await remove('security-groups', one);
      if (isThere) await remove('address-groups', id);
    }
    expect(await wrong()).toEqual([]);
  });

  test('is refused where there is none such, where the group is of another family, and beside a network', async () => {
    const { id } = await newGroup({ family: 6, entries: [] });
    const group = await make(tenant, 'security-groups', { name: 'named', zoneId: cloud.zone.id });
    const nobody = crypto.randomUUID();
    const any = { direction: 'in', protocol: 'any' };
    for (const [rule, status, code] of [
      [naming(nobody), 404, 'NOT_FOUND'],
      [{ ...naming(id), family: 4 }, 422, 'INVALID_ARGUMENT'],
      [{ ...naming(id), protocol: 'icmp' }, 422, 'INVALID_ARGUMENT'],
      [{ ...naming(id), remoteCidr: '10.0.0.0/8' }, 422, 'INVALID_ARGUMENT'],
      [naming('offices'), 422, 'INVALID_ARGUMENT'],
    ] as const)
      for (const [path, more] of [
        ['/v1/security-groups', { name: 'refused', zoneId: cloud.zone.id }],
        [`/v1/security-groups/${group.id}/actions/setRules`, {}],
      ] as const) {
        const refused = await answer(tenant, 'POST', path, { ...more, rules: [any, rule] });
        expect([refused.status, refused.code]).toEqual([status, code]);
        expect(refused.violations?.map(({ field }) => field)).toEqual(['rules.1.remoteAddressGroupId']);
      }
    await remove('security-groups', group.id);
    await remove('address-groups', id);
  });
});

describe('what can not be meant is refused with its field, at create and at setEntries', () => {
  const many = Array.from({ length: 257 }, (_, index) => ({
    cidr: `10.${Math.floor(index / 250)}.${index % 250}.0/24`,
  }));
  const four = '10.0.0.0/8';
  const cases: [string, 4 | 6, unknown[], string[]][] = [
    ['IPv6 in a group of IPv4', 4, [{ cidr: four }, { cidr: 'fd00::/8' }], ['entries.1.cidr']],
    ['IPv4 in a group of IPv6', 6, [{ cidr: four }, { cidr: 'fd00::/8' }], ['entries.0.cidr']],
    ['host bits', 4, [{ cidr: '10.0.0.5/24' }], ['entries.0.cidr']],
    ['host bits of IPv6', 6, [{ cidr: 'fd00::1/64' }], ['entries.0.cidr']],
    ['an address without a length', 4, [{ cidr: '10.0.0.0' }], ['entries.0.cidr']],
    ['a range', 4, [{ cidr: '10.0.0.0-10.0.0.9' }], ['entries.0.cidr']],
    ['a range upside down', 4, [{ cidr: '10.0.0.9-10.0.0.0' }], ['entries.0.cidr']],
    ['leading zeros', 4, [{ cidr: '010.0.0.0/8' }], ['entries.0.cidr']],
    ['a prefix of 33', 4, [{ cidr: '10.0.0.0/33' }], ['entries.0.cidr']],
    ['the same twice', 4, [{ cidr: four }, { cidr: '11.0.0.0/8' }, { cidr: four, note: 'again' }], ['entries.2.cidr']],
    ['the same in two ways', 6, [{ cidr: 'fd00::/8' }, { cidr: 'FD00:0::/8' }], ['entries.1.cidr']],
    ['more than fit', 4, many, ['entries']],
    ['no network', 4, [{ note: 'nothing' }], ['entries.0.cidr']],
    ['a note that is too long', 4, [{ cidr: four, note: 'n'.repeat(256) }], ['entries.0.note']],
    ['a field that there is not', 4, [{ cidr: four, port: 22 }], ['entries.0.port']],
  ];
  test.each(cases)('%s', async (_, family, entries, fields) => {
    const { id } = await newGroup({ family, entries: [] });
    for (const refused of [
      await answer(tenant, 'POST', '/v1/address-groups', { name: 'bad', family, entries }),
      await answer(tenant, 'POST', `/v1/address-groups/${id}/actions/setEntries`, { entries }),
    ]) {
      expect([refused.status, refused.code]).toEqual([422, 'INVALID_ARGUMENT']);
      expect(refused.violations?.map(({ field }) => field)).toEqual(fields);
    }
    await remove('address-groups', id);
  });

  test.each([[5], ['4'], [null], [undefined]])('the family %s', async (family) => {
    const refused = await answer(tenant, 'POST', '/v1/address-groups', { name: 'bad', family });
    // One of another type is none of the two, either: it is told both.
    expect([refused.status, new Set(refused.violations?.map(({ field }) => field))]).toEqual([
      422,
      new Set(['family']),
    ]);
  });

  test('another family, later', async () => {
    const { id } = await newGroup();
    const refused = await answer(tenant, 'PATCH', `/v1/address-groups/${id}`, { family: 6 });
    expect([refused.status, refused.violations?.map(({ field }) => field)]).toEqual([422, ['family']]);
    await remove('address-groups', id);
  });
});
