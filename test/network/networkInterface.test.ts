/** Interfaces of their own: made, attached live and cold, changed, given addresses, detached, and what is refused of that. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { contentOf } from '../../lab/simulated/ceph.ts';
import { joinCloud } from '../support/cloud.ts';
import { answer } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, removeInstance, deploy } = joinCloud(address);
const { tenant } = cloud;
afterEach(() => setRules(admin, []));

type Nic = Resource & {
  instanceId: string | null;
  index: number | null;
  address: string;
  secondaryAddresses: string[];
  securityGroupIds: string[];
  mac: string;
  linkUp: boolean;
};

const path = (id: string, verb?: string): string =>
  `/v1/network-interfaces/${id}${verb === undefined ? '' : `/actions/${verb}`}`;
const now = (id: string): Promise<Nic> => tenant.call('GET', path(id));
async function newNic(more: Record<string, unknown> = {}): Promise<Nic> {
  const { id } = await make(tenant, 'network-interfaces', { name: 'nic', subnetId: cloud.subnet.id, ...more });
  return now(id);
}
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', path(id, verb), body);
async function update(id: string, body: unknown): Promise<OperationView> {
  const { id: operationId } = await tenant.call<OperationView>('PATCH', path(id), body);
  const ended = await tenant.settled(operationId);
  expect([ended.state, ended.error]).toEqual(['succeeded', null]);
  return ended;
}
const remove = (id: string): Promise<unknown> => tenant.done('DELETE', path(id));
const refused = async (method: string, where: string, body?: unknown): Promise<unknown[]> => {
  const { status, code, violations } = await answer(tenant, method, where, body);
  return [status, code, ...(violations?.map(({ field }) => field) ?? [])];
};
const stopped = (name: string): Promise<Resource> =>
  make(tenant, 'instances', instanceBody(cloud, name, { startOnCreate: false }));

interface Row {
  name: string;
  addresses?: string[];
  port_security?: string[];
  options?: Record<string, string>;
  enabled?: unknown;
  up?: unknown;
}
async function portOf(id: string): Promise<Row | undefined> {
  const { ovn } = await simulatorInventory(address.simulatorUrl);
  return ((ovn.OVN_Northbound?.Logical_Switch_Port ?? []) as unknown as Row[]).find(({ name }) => name === id);
}
/** What is answered to guests of a network. */
async function namesOn(networkId: string): Promise<Record<string, string>[]> {
  const { DNS = [], Logical_Switch = [] } = (await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound ?? {};
  const rows = DNS as unknown as { records: Record<string, string> }[];
  // A row without a name is referred to by what is in it.
  const byContent = new Map(rows.map((row) => [contentOf(JSON.stringify(row)), row.records]));
  const switches = Logical_Switch as unknown as { name: string; dns_records?: string[] }[];
  const { dns_records = [] } = switches.find(({ name }) => name === `network-${networkId}`) ?? {};
  return dns_records.map((content) => byContent.get(content) ?? {});
}
async function refusedUpdate(id: string, body: unknown): Promise<string | undefined> {
  const { id: operationId } = await tenant.call<OperationView>('PATCH', path(id), body);
  return (await tenant.settled(operationId)).error?.code;
}
async function limitsOf(id: string): Promise<string[]> {
  const { ovn } = await simulatorInventory(address.simulatorUrl);
  type Limit = { direction: string; match: string; bandwidth: { rate: number }; external_ids: Record<string, string> };
  const limits = (ovn.OVN_Northbound?.QoS ?? []) as unknown as Limit[];
  return limits
    .filter(({ external_ids }) => external_ids['belay:id'] === id)
    .map(({ direction, match, bandwidth }) => `${direction} ${match} ${bandwidth.rate}`)
    .sort();
}
/** The interfaces of a guest, as its host has them. */
async function guestOf(instanceId: string): Promise<{ id: string; linkUp?: boolean }[] | null> {
  const { hosts } = (await simulatorInventory(address.simulatorUrl)) as unknown as {
    hosts: Record<string, { domains: Record<string, { spec: { interfaces: { id: string; linkUp?: boolean }[] } }> }>;
  };
  for (const { domains } of Object.values(hosts)) if (domains[instanceId]) return domains[instanceId].spec.interfaces;
  return null;
}
const idsOf = async (instanceId: string): Promise<string[]> => ((await guestOf(instanceId)) ?? []).map(({ id }) => id);

test('one of its own has a port, is plugged into a running guest, moves with it, and is unplugged again', async () => {
  const nic = await newNic({
    mac: '02:00:5e:10:00:01',
    address: '10.77.99.7',
    securityGroupIds: [cloud.securityGroup.id],
  });
  expect(nic).toMatchObject({ instanceId: null, index: null, alone: true, state: 'ready', mac: '02:00:5e:10:00:01' });
  expect(await portOf(nic.id)).toMatchObject({ addresses: ['02:00:5e:10:00:01 10.77.99.7'] });
  const { id } = await deploy('plugged');
  const before = await idsOf(id);
  await act(nic.id, 'attach', { instanceId: id });
  expect(await now(nic.id)).toMatchObject({ instanceId: id, index: 1, state: 'ready' });
  expect((await idsOf(id)).sort()).toEqual([...before, nic.id].sort());
  expect(await portOf(nic.id)).toMatchObject({ up: [true] });
  await tenant.done('POST', `/v1/instances/${id}/actions/migrate`, {});
  expect((await idsOf(id)).sort()).toEqual([...before, nic.id].sort());
  const { hostId } = await admin.call<Resource & { hostId: string }>('GET', `/v1/instances/${id}`);
  expect(await portOf(nic.id)).toMatchObject({ up: [true], options: { 'requested-chassis': hostId } });
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
  expect((await idsOf(id)).sort()).toEqual([...before, nic.id].sort());
  await act(nic.id, 'detach');
  expect(await now(nic.id)).toMatchObject({ instanceId: null, index: null });
  expect(await idsOf(id)).toEqual(before);
  expect((await portOf(nic.id))?.options).toBeUndefined();
  await removeInstance(id);
  await remove(nic.id);
  expect(await portOf(nic.id)).toBeUndefined();
  expect(await wrong()).toEqual([]);
});

test('several go into one that is stopped, which has them when it starts; the lowest free places are theirs', async () => {
  const { id } = await stopped('cold');
  const nics = [await newNic(), await newNic(), await newNic()];
  for (const nic of nics) await act(nic.id, 'attach', { instanceId: id });
  expect(await Promise.all(nics.map(async (nic) => (await now(nic.id)).index))).toEqual([1, 2, 3]);
  await act(nics[1]?.id ?? '', 'detach');
  await act(nics[1]?.id ?? '', 'attach', { instanceId: id });
  expect((await now(nics[1]?.id ?? '')).index).toBe(2);
  await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
  expect((await idsOf(id)).length).toBe(4);
  for (const nic of nics) expect(await portOf(nic.id)).toMatchObject({ up: [true] });
  // What was made with the instance may go its own way, too.
  const filter = encodeURIComponent(`instanceId = "${id}" AND index = 0`);
  const { items } = await tenant.call<{ items: Nic[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
  const first = items[0]?.id ?? '';
  await act(first, 'detach');
  await removeInstance(id);
  expect(await now(first)).toMatchObject({ instanceId: null, alone: true });
  for (const nic of nics) {
    expect(await now(nic.id)).toMatchObject({ instanceId: null, state: 'ready' });
    await remove(nic.id);
  }
  await remove(first);
  expect(await wrong()).toEqual([]);
});

test('an instance that is destroyed lets go of those that were made alone, and comes back without them', async () => {
  const nic = await newNic();
  const { id } = await deploy('destroyed');
  await act(nic.id, 'attach', { instanceId: id });
  await setRules(admin, [{ operationType: 'instance.delete', step: 'volumes.trash', fault: 'failAfter', times: 1 }]);
  const failing = await tenant.call<OperationView>('DELETE', `/v1/instances/${id}`);
  expect((await tenant.settled(failing.id)).state).toBe('failed');
  expect(await now(nic.id)).toMatchObject({ instanceId: id, index: 1 });
  expect(await idsOf(id)).toContain(nic.id);
  await tenant.done('DELETE', `/v1/instances/${id}`);
  expect(await now(nic.id)).toMatchObject({ instanceId: null, index: null });
  expect(await portOf(nic.id)).toBeDefined();
  await tenant.done('POST', `/v1/instances/${id}/actions/recover`, {});
  expect((await now(nic.id)).instanceId).toBeNull();
  await removeInstance(id);
  await remove(nic.id);
  expect(await wrong()).toEqual([]);
});

describe('a change', () => {
  test('of groups, link and pairs reaches OVN and the running guest', async () => {
    const nic = await newNic({ securityGroupIds: [cloud.securityGroup.id] });
    const { id } = await deploy('changed');
    await act(nic.id, 'attach', { instanceId: id });
    await update(nic.id, {
      name: 'uplink',
      linkUp: false,
      securityGroupIds: [],
      allowedPairs: [{ cidr: '10.9.0.0/16' }],
    });
    expect(await now(nic.id)).toMatchObject({
      name: 'uplink',
      linkUp: false,
      securityGroupIds: [],
      allowedPairs: [{ cidr: '10.9.0.0/16' }],
    });
    expect((await guestOf(id))?.find((one) => one.id === nic.id)).toMatchObject({ linkUp: false });
    expect(await portOf(nic.id)).toMatchObject({
      enabled: [false],
      port_security: [`${nic.mac} ${nic.address} 10.9.0.0/16`],
    });
    // It starts with its link down, and nobody waits for that.
    await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
    await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
    await update(nic.id, { linkUp: true, portSecurity: false });
    expect((await guestOf(id))?.find((one) => one.id === nic.id)?.linkUp).toBeUndefined();
    expect(await portOf(nic.id)).toMatchObject({ up: [true], addresses: [`${nic.mac} ${nic.address}`, 'unknown'] });
    await update(nic.id, { portSecurity: null });
    expect((await portOf(nic.id))?.addresses).toEqual([`${nic.mac} ${nic.address}`]);
    await removeInstance(id);
    await remove(nic.id);
  });

  test('of limits reaches OVN, is taken back when it fails, and goes with the interface', async () => {
    const nic = await newNic({ qos: { inBytesPerSec: 1_000_000 } });
    const into = `to-lport outport == "${nic.id}" 8000`;
    expect(await limitsOf(nic.id)).toEqual([into]);
    const qos = { inBytesPerSec: 1_000_000, outBytesPerSec: 12_500 };
    await update(nic.id, { qos });
    expect(await limitsOf(nic.id)).toEqual([`from-lport inport == "${nic.id}" 100`, into]);
    await setRules(admin, [{ targetId: nic.id, step: 'networkInterfaces.rewrite', fault: 'failAfter' }]);
    const failing = await tenant.call<OperationView>('PATCH', path(nic.id), { qos: null });
    expect((await tenant.settled(failing.id)).state).toBe('failed');
    expect(await now(nic.id)).toMatchObject({ qos });
    expect(await limitsOf(nic.id)).toHaveLength(2);
    await setRules(admin, []);
    const { id } = await deploy('limited');
    await act(nic.id, 'attach', { instanceId: id });
    await update(nic.id, { qos: { inBytesPerSec: null, outBytesPerSec: 25_000 } });
    expect(await limitsOf(nic.id)).toEqual([`from-lport inport == "${nic.id}" 200`]);
    await tenant.done('POST', `/v1/networks/${cloud.network.id}/actions/repair`, {});
    expect(await limitsOf(nic.id)).toHaveLength(1);
    expect(await refused('PATCH', path(nic.id), { qos: { inBytesPerSec: 1 } })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'qos.inBytesPerSec',
    ]);
    await removeInstance(id);
    await remove(nic.id);
    expect(await limitsOf(nic.id)).toEqual([]);
  });

  test('of its name is answered on its network, and on all of its VPC, old and new', async () => {
    const zoneId = cloud.zone.id;
    const vpc = await make(tenant, 'vpcs', { name: 'named', zoneId, cidrs: ['10.3.0.0/16'] });
    const tier = async (cidr: string): Promise<{ networkId: string; subnetId: string }> => {
      const network = await make(tenant, 'networks', { name: cidr, zoneId, vpcId: vpc.id, dnsDomain: 'Corp.example' });
      const subnet = await make(tenant, 'subnets', { name: cidr, networkId: network.id, cidr });
      return { networkId: network.id, subnetId: subnet.id };
    };
    const [web, app] = [await tier('10.3.1.0/24'), await tier('10.3.2.0/24')];
    const nic = await newNic({ subnetId: web.subnetId, dnsName: 'one' });
    const answers = (name: string, ip: string): Record<string, string> => ({
      [name]: ip,
      [`${name}.corp.example`]: ip,
    });
    expect(await namesOn(web.networkId)).toEqual([answers('one', nic.address)]);
    expect(await namesOn(app.networkId)).toEqual([answers('one', nic.address)]);
    await act(nic.id, 'setAddresses', { address: '10.3.1.77' });
    await update(nic.id, { dnsName: 'two' });
    expect(await namesOn(app.networkId)).toEqual([answers('two', '10.3.1.77')]);
    const later = await tier('10.3.3.0/24');
    expect(await namesOn(later.networkId)).toEqual([answers('two', '10.3.1.77')]);
    // Of two that are called the same at the same moment one has the name.
    const other = await newNic({ subnetId: app.subnetId });
    expect(await refusedUpdate(other.id, { dnsName: 'two' })).toBe('NAME_IN_USE');
    for (const [step, dnsName] of [
      ['networkInterfaces.rewrite', 'three'],
      ['networkInterfaces.rewrite', null],
    ] as const) {
      await setRules(admin, [{ targetId: nic.id, step, fault: 'failAfter' }]);
      const { id } = await tenant.call<OperationView>('PATCH', path(nic.id), { dnsName });
      expect((await tenant.settled(id)).state).toBe('failed');
      await setRules(admin, []);
      expect(await namesOn(web.networkId)).toEqual([answers('two', '10.3.1.77')]);
      expect(await namesOn(later.networkId)).toEqual([answers('two', '10.3.1.77')]);
      expect(await now(nic.id)).toMatchObject({ dnsName: 'two' });
    }
    await update(nic.id, { dnsName: null });
    expect(await namesOn(web.networkId)).toEqual([]);
    await update(other.id, { dnsName: 'two' });
    await remove(other.id);
    expect(await namesOn(web.networkId)).toEqual([]);
    expect(
      await refused('POST', '/v1/network-interfaces', { name: 'n', subnetId: web.subnetId, dnsName: 'No.' }),
    ).toEqual([422, 'INVALID_ARGUMENT', 'dnsName']);
    await remove(nic.id);
    await tenant.done('DELETE', `/v1/vpcs/${vpc.id}?cascade=true`);
  });

  test('that fails leaves records, OVN and the guest as they were', async () => {
    const nic = await newNic({ securityGroupIds: [cloud.securityGroup.id] });
    const { id } = await deploy('kept');
    await act(nic.id, 'attach', { instanceId: id });
    const before = [await portOf(nic.id), await guestOf(id)];
    await setRules(admin, [{ targetId: nic.id, step: 'networkInterfaces.setLink', fault: 'failAfter' }]);
    const failing = await tenant.call<OperationView>('PATCH', path(nic.id), { linkUp: false, securityGroupIds: [] });
    expect((await tenant.settled(failing.id)).state).toBe('failed');
    expect([await portOf(nic.id), await guestOf(id)]).toEqual(before);
    expect(await now(nic.id)).toMatchObject({ linkUp: true, securityGroupIds: [cloud.securityGroup.id] });
    await setRules(admin, []);
    await removeInstance(id);
    await remove(nic.id);
  });

  test('of addresses gives the old ones free, and takes none that another has', async () => {
    const [nic, other] = [await newNic({ address: '10.77.97.1' }), await newNic({ address: '10.77.97.2' })];
    const one = nic?.id ?? '';
    await act(one, 'setAddresses', { address: '10.77.97.3', secondaryAddresses: ['10.77.97.1', '10.77.97.4'] });
    expect(await now(one)).toMatchObject({
      address: '10.77.97.3',
      secondaryAddresses: ['10.77.97.1', '10.77.97.4'],
    });
    expect((await portOf(one))?.addresses).toEqual([`${nic?.mac} 10.77.97.3 10.77.97.1 10.77.97.4`]);
    expect(
      await refused('POST', '/v1/network-interfaces', { name: 'n', subnetId: cloud.subnet.id, address: '10.77.97.4' }),
    ).toEqual([409, 'ADDRESS_IN_USE', 'address']);
    expect(await refused('POST', path(one, 'setAddresses'), { address: '10.77.97.2' })).toEqual([
      409,
      'ADDRESS_IN_USE',
      'address',
    ]);
    await act(one, 'setAddresses', { secondaryAddresses: [] });
    await act(other?.id ?? '', 'setAddresses', { secondaryAddresses: ['10.77.97.1', '10.77.97.4'] });
    for (const { id } of [nic, other]) await remove(id);
    expect(await wrong()).toEqual([]);
  });

  test('of addresses of IPv6 is one of either family', async () => {
    const networkId = cloud.network.id;
    const [dhcpv6, slaac] = await Promise.all(
      ['dhcpv6', 'slaac'].map((ipv6Mode, index) =>
        make(tenant, 'subnets', { name: ipv6Mode, networkId, cidr: `fd97:0:0:${index}::/64`, ipv6Mode }),
      ),
    );
    const nic = await newNic({ subnet6Id: dhcpv6?.id });
    const secondaryAddresses = ['fd97::99', '10.77.96.9'];
    await act(nic.id, 'setAddresses', { address6: 'fd97::77', secondaryAddresses });
    expect(await now(nic.id)).toMatchObject({ address: nic.address, address6: 'fd97::77', secondaryAddresses });
    expect((await portOf(nic.id))?.addresses).toEqual([`${nic.mac} ${nic.address} fd97::99 10.77.96.9 fd97::77`]);
    const set = path(nic.id, 'setAddresses');
    const other = await newNic({ subnet6Id: dhcpv6?.id, address6: 'fd97::55' });
    expect(await refused('POST', set, { address6: 'fd97::55' })).toEqual([409, 'ADDRESS_IN_USE', 'address6']);
    expect(await refused('POST', set, { secondaryAddresses: ['fd97::77'] })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'secondaryAddresses.0',
    ]);
    await setRules(admin, [{ targetId: nic.id, step: 'networkInterfaces.rewrite', fault: 'failAfter', times: 1 }]);
    const failing = await tenant.call<OperationView>('POST', set, { address6: 'fd97::88', secondaryAddresses: [] });
    expect((await tenant.settled(failing.id)).state).toBe('failed');
    expect(await now(nic.id)).toMatchObject({ address6: 'fd97::77', secondaryAddresses });
    await act(nic.id, 'setAddresses', { secondaryAddresses: [] });
    await act(other.id, 'setAddresses', { address6: 'fd97::99' });
    const made = await newNic({ subnet6Id: slaac?.id });
    expect(await refused('POST', path(made.id, 'setAddresses'), { address6: 'fd97:0:0:1::7' })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'address6',
    ]);
    const four = await newNic();
    expect(await refused('POST', path(four.id, 'setAddresses'), { secondaryAddresses: ['fd97::66'] })).toEqual([
      422,
      'INVALID_ARGUMENT',
      'secondaryAddresses.0',
    ]);
    for (const { id } of [nic, other, made, four]) await remove(id);
    for (const one of [dhcpv6, slaac]) await tenant.done('DELETE', `/v1/subnets/${one?.id}`);
    expect(await wrong()).toEqual([]);
  });

  test('of two that want one address at the same moment one has it', async () => {
    const nics = [await newNic(), await newNic(), await newNic()];
    const asked = await Promise.all(
      nics.map(({ id }) => answer(tenant, 'POST', path(id, 'setAddresses'), { secondaryAddresses: ['10.77.96.9'] })),
    );
    let has = 0;
    for (const one of asked) {
      const ended = one.status === 202 ? await tenant.settled((one as unknown as OperationView).id) : null;
      if (ended?.state === 'succeeded') has++;
      else expect(ended?.error?.code ?? one.code).toBe('ADDRESS_IN_USE');
    }
    expect(has).toBe(1);
    for (const { id } of nics) await remove(id);
    expect(await wrong()).toEqual([]);
  });
});

test('two instances that want one interface at the same moment: one has it', async () => {
  const nic = await newNic();
  const instances = [await stopped('first'), await stopped('second')];
  const asked = await Promise.all(
    instances.map(({ id }) => answer(tenant, 'POST', path(nic.id, 'attach'), { instanceId: id })),
  );
  let has = 0;
  for (const one of asked) {
    const ended = one.status === 202 ? await tenant.settled((one as unknown as OperationView).id) : null;
    if (ended?.state === 'succeeded') has++;
    else expect(ended?.error?.code ?? one.code).toBe('ALREADY_ATTACHED');
  }
  expect(has).toBe(1);
  await act(nic.id, 'detach');
  for (const { id } of instances) await removeInstance(id);
  await remove(nic.id);
  expect(await wrong()).toEqual([]);
});

test('on a network of another project an interface sends with its own addresses only, unless the operator says otherwise', async () => {
  const theirs = await admin.call('POST', '/v1/projects', { name: 'theirs', accountId: cloud.account.id });
  const inTheirs = { projectId: theirs.id, zoneId: cloud.zone.id };
  const network = await make(admin, 'networks', { name: 'shared', ...inTheirs });
  const subnet = await make(admin, 'subnets', { name: 'shared', networkId: network.id, cidr: '10.91.0.0/24' });
  const { items: roles } = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/roles?filter=${encodeURIComponent('name = "networkUser"')}`,
  );
  await admin.call('POST', '/v1/role-bindings', {
    name: 'shared',
    subjectKind: 'project',
    subjectId: cloud.project.id,
    roleId: roles[0]?.id,
    targetKind: 'subnet',
    targetId: subnet.id,
  });
  const body = { name: 'guest', subnetId: subnet.id, projectId: cloud.project.id };
  const allowedPairs = [{ cidr: '10.91.0.50/32' }];
  for (const [more, field] of [
    [{ portSecurity: false }, 'portSecurity'],
    [{ allowedPairs }, 'allowedPairs'],
  ] as const)
    expect(await refused('POST', '/v1/network-interfaces', { ...body, ...more })).toEqual([403, 'FORBIDDEN', field]);
  const { id } = await make(tenant, 'network-interfaces', body);
  expect(await refused('PATCH', path(id), { portSecurity: false })).toEqual([403, 'FORBIDDEN', 'portSecurity']);
  expect(await refused('PATCH', path(id), { allowedPairs })).toEqual([403, 'FORBIDDEN', 'allowedPairs']);
  await update(id, { linkUp: false });
  await admin.done('PATCH', path(id), { allowedPairs });
  expect(await now(id)).toMatchObject({ allowedPairs, portSecurity: null });
  await remove(id);
  await admin.done('DELETE', `/v1/projects/${theirs.id}?cascade=true`);
  expect(await wrong()).toEqual([]);
});

test('what can not be is refused with its code and field, and changes nothing', async () => {
  const nic = await newNic();
  const { id } = await stopped('refused');
  const body = { name: 'n', subnetId: cloud.subnet.id };
  for (const [more, ...expected] of [
    [{ mac: '03:00:00:00:00:01' }, 422, 'INVALID_ARGUMENT', 'mac'],
    [{ mac: '02-00-00-00-00-01' }, 422, 'INVALID_ARGUMENT', 'mac'],
    [{ mac: nic.mac }, 409, 'ADDRESS_IN_USE', 'mac'],
    [{ address: '10.78.0.1' }, 422, 'INVALID_ARGUMENT', 'address'],
    [{ address: nic.address }, 409, 'ADDRESS_IN_USE', 'address'],
    [{ subnetId: crypto.randomUUID() }, 404, 'NOT_FOUND', 'subnetId'],
    [{ securityGroupIds: [crypto.randomUUID()] }, 404, 'NOT_FOUND', 'securityGroupIds'],
    [{ allowedPairs: [{ cidr: '10.0.0.1/24' }] }, 422, 'INVALID_ARGUMENT', 'allowedPairs.0.cidr'],
    [{ instanceId: id }, 422, 'INVALID_ARGUMENT', 'instanceId'],
  ] as const)
    expect(await refused('POST', '/v1/network-interfaces', { ...body, ...more })).toEqual(expected);
  expect(await refused('POST', path(nic.id, 'detach'), {})).toEqual([409, 'INVALID_STATE']);
  expect(await refused('POST', path(nic.id, 'setAddresses'), {})).toEqual([
    422,
    'INVALID_ARGUMENT',
    'secondaryAddresses',
  ]);
  expect(await refused('POST', path(nic.id, 'setAddresses'), { secondaryAddresses: [nic.address] })).toEqual([
    422,
    'INVALID_ARGUMENT',
    'secondaryAddresses.0',
  ]);
  await act(nic.id, 'attach', { instanceId: id });
  expect(await refused('POST', path(nic.id, 'attach'), { instanceId: id })).toEqual([409, 'ALREADY_ATTACHED']);
  expect(await refused('DELETE', path(nic.id))).toEqual([409, 'ALREADY_ATTACHED']);
  await act(nic.id, 'detach');
  // Sixteen have place, of which one is there.
  const many = await Promise.all(Array.from({ length: 16 }, () => newNic()));
  for (const one of many.slice(0, 15)) await act(one.id, 'attach', { instanceId: id });
  expect(await refused('POST', path(many[15]?.id ?? '', 'attach'), { instanceId: id })).toEqual([409, 'NOT_SUPPORTED']);
  await removeInstance(id);
  for (const one of [nic, ...many]) await remove(one.id);
  expect(await wrong()).toEqual([]);
}, 120_000);
