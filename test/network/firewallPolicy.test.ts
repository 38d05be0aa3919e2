/** Firewall policies: what OVN has of them, which ports they hold for, what follows address groups, what is refused, and what may not go. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import { firewallGroupName } from '../../activities/network/firewallWrites.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { follower } from '../support/operations.ts';
import { answer } from '../support/people.ts';
import { setRules as setFaults } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;
const until = follower(admin);
afterEach(() => setFaults(admin, []));

const deny = { priority: 20, direction: 'in', action: 'deny', protocol: 'udp', family: 4 };
const from = (addressGroupId: string) => ({ ...deny, source: { addressGroupId } });
const open = { in: 'allow', out: 'allow' };

const newPolicy = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'firewall-policies', { name: 'tier', rules: [deny], defaults: open, ...more });
const newGroup = (cidr = '10.1.0.0/16'): Promise<Resource> =>
  make(tenant, 'address-groups', { name: 'offices', family: 4, entries: [{ cidr }] });
const now = (plural: string, id: string): Promise<Resource> => tenant.call('GET', `/v1/${plural}/${id}`);
const remove = (plural: string, id: string): Promise<unknown> => tenant.done('DELETE', `/v1/${plural}/${id}`);
const setRules = (id: string, body: object): Promise<unknown> =>
  tenant.done('POST', `/v1/firewall-policies/${id}/actions/setRules`, body);
const carry = (networkId: string, firewallPolicyId?: string): Promise<unknown> =>
  tenant.done(
    'POST',
    `/v1/networks/${networkId}/actions/setFirewallPolicy`,
    firewallPolicyId === undefined ? {} : { firewallPolicyId },
  );

type Row = Record<string, unknown>;
const rows = async (table: string): Promise<Row[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Row[];
const groupRow = async (id: string): Promise<Row | undefined> =>
  (await rows('Port_Group')).find(({ name }) => name === firewallGroupName(id));
const portsOf = async (id: string): Promise<unknown> => (await groupRow(id))?.ports ?? [];
const matchesOf = async (id: string): Promise<string[]> =>
  (await rows('ACL'))
    .filter(({ match }) => String(match).includes(firewallGroupName(id)))
    .map(({ priority, action, match }) => `${priority} ${action} ${String(match).replace(/^\S+ == \S+ && /, '')}`);

async function guestOn(subnetId: string, name = 'guest'): Promise<{ instanceId: string; portId: string }> {
  const { id } = await make(
    tenant,
    'instances',
    instanceBody(cloud, name, { startOnCreate: false, networkInterfaces: [{ subnetId }] }),
  );
  const filter = encodeURIComponent(`instanceId = "${id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  return { instanceId: id, portId: items[0]?.id ?? '' };
}
async function expunge(instanceId: string): Promise<void> {
  await tenant.done('DELETE', `/v1/instances/${instanceId}`);
  await tenant.done('POST', `/v1/instances/${instanceId}/actions/expunge`, {});
}

test('a policy is one port group of OVN with its rows, which follow its rules and go with it', async () => {
  const { id } = await newPolicy();
  expect(await now('firewall-policies', id)).toMatchObject({ state: 'ready', defaults: open, addressGroupIds: [] });
  expect(await matchesOf(id)).toEqual(['3001 drop ip4 && udp']);
  const web = { priority: 5, direction: 'in', action: 'allow', protocol: 'udp', fromPort: 53 };
  await setRules(id, { rules: [deny, web] });
  expect(await matchesOf(id)).toEqual([
    '3001 drop ip4 && udp && ((udp.dst >= 0 && udp.dst <= 52) || (udp.dst >= 54 && udp.dst <= 65535))',
  ]);
  expect(await now('firewall-policies', id)).toMatchObject({
    defaults: open,
    rules: [
      { ...deny, enabled: true, stateful: true, log: false },
      { ...web, toPort: 53, enabled: true, stateful: true, log: false },
    ],
  });
  await setRules(id, { rules: [], defaults: { in: 'deny', out: 'allow' } });
  expect((await matchesOf(id)).sort()).toEqual(['3000 drop ip4', '3000 drop ip6']);
  await tenant.call('PATCH', `/v1/firewall-policies/${id}`, { name: 'renamed' });
  await remove('firewall-policies', id);
  expect([await groupRow(id), await matchesOf(id)]).toEqual([undefined, []]);
});

test('a rule that logs has its name and a meter, which goes with the last of them', async () => {
  const { id } = await newPolicy({ rules: [{ ...deny, log: true }] });
  const name = firewallGroupName(id);
  const meter = async () => (await rows('Meter')).filter((row) => row.name === name).length;
  const [acl] = (await rows('ACL')).filter(({ match }) => String(match).includes(name));
  expect(acl).toMatchObject({ log: true, severity: ['info'], meter: [name], name: [`${name}-in-20`] });
  expect(await meter()).toBe(1);
  await setRules(id, { rules: [deny] });
  expect(await meter()).toBe(0);
  await setRules(id, { rules: [{ ...deny, log: true }] });
  await remove('firewall-policies', id);
  expect(await meter()).toBe(0);
});

test('it holds for all ports of the networks that carry it, those that are there and those that come', async () => {
  const [one, other] = await Promise.all([newPolicy(), newPolicy()]);
  const network = await make(tenant, 'networks', { name: 'tier', zoneId });
  const subnet = await make(tenant, 'subnets', { name: 'tier', networkId: network.id, cidr: '10.71.0.0/24' });
  const first = await guestOn(subnet.id);
  expect(await portsOf(one.id)).toEqual([]);
  await carry(network.id, one.id);
  expect([await portsOf(one.id), await portsOf(other.id)]).toEqual([[first.portId], []]);
  const second = await guestOn(subnet.id);
  expect(await portsOf(one.id)).toEqual([first.portId, second.portId].sort());
  expect(await tenant.call('GET', `/v1/firewall-policies/${one.id}/views/attachments`)).toEqual({
    items: [{ kind: 'network', id: network.id, name: 'tier' }],
  });
  await carry(network.id, other.id);
  expect(await portsOf(one.id)).toEqual([]);
  expect(await portsOf(other.id)).toEqual([first.portId, second.portId].sort());
  expect(await now('networks', network.id)).toMatchObject({ firewallPolicyId: other.id });

  // What can not be done is taken back.
  await setFaults(admin, [
    { targetId: network.id, step: 'networks.carryFirewallPolicy', fault: 'failAfter', times: 1 },
  ]);
  const path = `/v1/networks/${network.id}/actions/setFirewallPolicy`;
  const failing = await tenant.call<OperationView>('POST', path, { firewallPolicyId: one.id });
  expect((await tenant.settled(failing.id)).state).toBe('failed');
  await setFaults(admin, []);
  expect(await now('networks', network.id)).toMatchObject({ firewallPolicyId: other.id });
  expect([await portsOf(one.id), await portsOf(other.id)]).toEqual([[], [first.portId, second.portId].sort()]);

  const kept = await answer(tenant, 'DELETE', `/v1/firewall-policies/${other.id}`);
  expect([kept.status, kept.code]).toEqual([409, 'HAS_DEPENDENTS']);
  expect(kept.blockers).toEqual([{ kind: 'network', id: network.id, name: 'tier' }]);
  await expunge(first.instanceId);
  expect(await portsOf(other.id)).toEqual([second.portId]);
  await carry(network.id);
  expect([await portsOf(other.id), (await now('networks', network.id)).firewallPolicyId]).toEqual([[], null]);
  await expunge(second.instanceId);
  await remove('subnets', subnet.id);
  await remove('networks', network.id);
  for (const { id } of [one, other]) await remove('firewall-policies', id);
});

test('of a deletion and of networks that ask at the same moment, one wins, and none carries what is gone', async () => {
  for (let round = 0; round < 4; round++) {
    const { id } = await newPolicy();
    const networks = await Promise.all([1, 2].map(() => make(tenant, 'networks', { name: 'raced', zoneId })));
    const asked: [string, string, unknown?][] = [
      ['DELETE', `/v1/firewall-policies/${id}`],
      ...networks.map((network): [string, string, unknown] => [
        'POST',
        `/v1/networks/${network.id}/actions/setFirewallPolicy`,
        { firewallPolicyId: id },
      ]),
    ];
    const turned = [...asked.slice(round % 3), ...asked.slice(0, round % 3)];
    const answers = await Promise.all(turned.map(([method, path, body]) => answer(tenant, method, path, body)));
    for (const { status, code } of answers)
      if (status !== 202) expect(['HAS_DEPENDENTS', 'INVALID_STATE', 'NOT_FOUND']).toContain(code);
    for (const one of answers.filter(({ status }) => status === 202) as unknown as OperationView[])
      await tenant.settled(one.id);
    const isThere = (await answer(tenant, 'GET', `/v1/firewall-policies/${id}`)).status === 200;
    const carrying = (await Promise.all(networks.map((network) => now('networks', network.id)))).filter(
      ({ firewallPolicyId }) => firewallPolicyId === id,
    );
    expect([isThere, (await groupRow(id)) !== undefined]).toEqual([carrying.length > 0, carrying.length > 0]);
    for (const network of networks) await remove('networks', network.id);
    if (isThere) await remove('firewall-policies', id);
  }
  expect(await wrong()).toEqual([]);
});

test('of two that put a network under a policy, both while it waits, the second is told', async () => {
  const [one, other] = await Promise.all([newPolicy(), newPolicy()]);
  const network = await make(tenant, 'networks', { name: 'tier', zoneId });
  await setFaults(admin, [{ targetId: network.id, step: 'networks.carryFirewallPolicy', fault: 'failBefore' }]);
  const path = `/v1/networks/${network.id}/actions/setFirewallPolicy`;
  const first = await tenant.call<OperationView>('POST', path, { firewallPolicyId: one.id });
  const second = await tenant.call<OperationView>('POST', path, { firewallPolicyId: other.id });
  await setFaults(admin, []);
  const ended = [await tenant.settled(first.id), await tenant.settled(second.id)];
  const { firewallPolicyId } = await now('networks', network.id);
  const done = ended
    .filter(({ state }) => state === 'succeeded')
    .map(({ id }) => (id === first.id ? one.id : other.id));
  expect(done).toContain(firewallPolicyId);
  for (const { state, error } of ended) if (state !== 'succeeded') expect(error).not.toBe(null);
  await remove('networks', network.id);
  for (const { id } of [one, other]) await remove('firewall-policies', id);
});

describe('a rule that names an address group', () => {
  test('follows its entries in the same transaction, and keeps it from being deleted', async () => {
    const [group, another] = await Promise.all([newGroup(), newGroup('10.9.0.0/16')]);
    const allow = { ...from(another.id), priority: 10, action: 'allow' };
    const { id } = await newPolicy({ rules: [from(group.id), allow] });
    expect((await now('firewall-policies', id)).addressGroupIds).toEqual([group.id, another.id]);
    expect(await matchesOf(id)).toEqual(['3001 drop ip4 && udp && ip4.src == 10.1.0.0/16']);
    const setEntries = (of: string, ...cidrs: string[]): Promise<unknown> =>
      tenant.done('POST', `/v1/address-groups/${of}/actions/setEntries`, { entries: cidrs.map((cidr) => ({ cidr })) });
    await Promise.all([
      setEntries(group.id, '10.2.0.0/16', '10.3.0.0/16'),
      setEntries(another.id, '10.2.0.0/17', '10.77.0.0/16'),
    ]);
    expect(await matchesOf(id)).toEqual(['3001 drop ip4 && udp && ip4.src == {10.2.128.0/17, 10.3.0.0/16}']);
    await setFaults(admin, [
      { targetId: group.id, step: 'addressGroups.replaceEntries', fault: 'failAfter', times: 1 },
    ]);
    const path = `/v1/address-groups/${group.id}/actions/setEntries`;
    const failing = await tenant.call<OperationView>('POST', path, { entries: [] });
    expect((await tenant.settled(failing.id)).state).toBe('failed');
    await setFaults(admin, []);
    expect(await matchesOf(id)).toEqual(['3001 drop ip4 && udp && ip4.src == {10.2.128.0/17, 10.3.0.0/16}']);
    await setEntries(group.id);
    expect(await matchesOf(id)).toEqual([]);
    const kept = await answer(tenant, 'DELETE', `/v1/address-groups/${group.id}`);
    expect([kept.status, kept.code]).toEqual([409, 'HAS_DEPENDENTS']);
    expect(kept.blockers).toEqual([{ kind: 'firewallPolicy', id, name: 'tier' }]);
    await setRules(id, { rules: [] });
    await remove('address-groups', group.id);
    await remove('address-groups', another.id);
    await remove('firewall-policies', id);
  });

  test('whose new rules are on their way: its entries are changed behind them', async () => {
    const group = await newGroup();
    const { id } = await newPolicy({ rules: [from(group.id)] });
    await setFaults(admin, [{ targetId: id, step: 'firewallPolicies.recordRules', fault: 'failBefore' }]);
    const setting = await tenant.call<OperationView>('POST', `/v1/firewall-policies/${id}/actions/setRules`, {
      rules: [],
    });
    await until(setting.id, ({ state }) => state === 'stuck');
    const entries = await tenant.call<OperationView>('POST', `/v1/address-groups/${group.id}/actions/setEntries`, {
      entries: [{ cidr: '10.5.0.0/16' }],
    });
    await setFaults(admin, []);
    await admin.call('POST', `/v1/operations/${setting.id}/actions/retry`, {});
    for (const one of [setting, entries]) expect((await tenant.settled(one.id)).state).toBe('succeeded');
    expect(await matchesOf(id)).toEqual([]);
    await remove('firewall-policies', id);
    await remove('address-groups', group.id);
  });
});

describe('what can not be meant is refused with its field, at create and at setRules', () => {
  const nobody = crypto.randomUUID();
  const many = Array.from({ length: 10_000 }, (_, index) => ({ ...deny, priority: index + 1 }));
  const cases: [string, unknown[], number, string, string][] = [
    ['a range upside down', [{ ...deny, fromPort: 9, toPort: 8 }], 422, 'INVALID_ARGUMENT', 'rules.0.toPort'],
    [
      'IPv4 in IPv6',
      [{ ...deny, family: 6, source: { cidr: '10.0.0.0/8' } }],
      422,
      'INVALID_ARGUMENT',
      'rules.0.source.cidr',
    ],
    ['one priority twice', [deny, { ...deny, protocol: 'tcp' }], 422, 'INVALID_ARGUMENT', 'rules.1.priority'],
    ['ports with icmp', [{ ...deny, protocol: 'icmp', fromPort: 8 }], 422, 'INVALID_ARGUMENT', 'rules.0.fromPort'],
    ['10,000 rules', many, 422, 'INVALID_ARGUMENT', 'rules'],
    ['a group that is not there', [from(nobody)], 404, 'NOT_FOUND', 'rules.0.source.addressGroupId'],
  ];
  test.each(cases)('%s', async (_, rules, status, code, field) => {
    const { id } = await newPolicy();
    for (const refused of [
      await answer(tenant, 'POST', '/v1/firewall-policies', { name: 'bad', rules }),
      await answer(tenant, 'POST', `/v1/firewall-policies/${id}/actions/setRules`, { rules }),
    ]) {
      expect([refused.status, refused.code]).toEqual([status, code]);
      expect(refused.violations?.map((one) => one.field)).toContain(field);
    }
    expect(await matchesOf(id)).toEqual(['3001 drop ip4 && udp']);
    await remove('firewall-policies', id);
  });

  test('a group of the other family, and one whose entries would come to more than hosts are given', async () => {
    const six = await make(tenant, 'address-groups', { name: 'six', family: 6 });
    const refused = await answer(tenant, 'POST', '/v1/firewall-policies', { name: 'bad', rules: [from(six.id)] });
    expect([refused.code, refused.violations?.[0]?.field]).toEqual([
      'INVALID_ARGUMENT',
      'rules.0.source.addressGroupId',
    ]);
    await remove('address-groups', six.id);
    const group = await newGroup();
    const { id } = await newPolicy({
      defaults: { in: 'deny', out: 'allow' },
      rules: [
        { ...from(group.id), protocol: 'any', priority: 1, action: 'allow' },
        { ...deny, protocol: 'tcp', priority: 2, action: 'allow' },
      ],
    });
    const entries = Array.from({ length: 200 }, (_, index) => ({ cidr: `10.${index}.7.77/32` }));
    const wide = await answer(tenant, 'POST', `/v1/address-groups/${group.id}/actions/setEntries`, { entries });
    expect([wide.code, wide.violations?.[0]?.field]).toEqual(['INVALID_ARGUMENT', 'entries']);
    await remove('firewall-policies', id);
    await remove('address-groups', group.id);
  });
});

test('allowedTraffic tells the rule of the policy when that decides, and asks the groups when it allows', async () => {
  const { id } = await newPolicy();
  const network = await make(tenant, 'networks', { name: 'tier', zoneId });
  const subnet = await make(tenant, 'subnets', { name: 'tier', networkId: network.id, cidr: '10.72.0.0/24' });
  const { instanceId, portId } = await guestOn(subnet.id);
  await carry(network.id, id);
  const ask = (protocol: string, direction = 'in'): Promise<Record<string, unknown>> =>
    tenant.call(
      'GET',
      `/v1/network-interfaces/${portId}/views/allowedTraffic?direction=${direction}&protocol=${protocol}&port=53&address=10.0.0.7`,
    );
  expect(await ask('udp')).toMatchObject({
    allowed: false,
    decidedBy: 'firewallRule',
    firewall: { firewallPolicyId: id, action: 'deny', index: 0, rule: { priority: 20 } },
  });
  expect(await ask('tcp')).toMatchObject({ decidedBy: 'noRule', firewall: { action: 'allow', index: null } });
  expect(await ask('tcp', 'out')).toMatchObject({ allowed: true, decidedBy: 'outboundOpen' });
  await setRules(id, { rules: [], defaults: { in: 'deny', out: 'deny' } });
  expect(await ask('tcp', 'out')).toMatchObject({ allowed: false, decidedBy: 'firewallDefault' });
  await carry(network.id);
  expect(await ask('tcp', 'out')).toMatchObject({ allowed: true, firewall: null });
  await expunge(instanceId);
  await remove('subnets', subnet.id);
  await remove('networks', network.id);
  await remove('firewall-policies', id);
});
