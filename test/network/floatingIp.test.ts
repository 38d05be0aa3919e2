/** Public addresses: who has them, what they lead to, and to whom they go when they are given back. */
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { forwardName } from '../../activities/network/portForward.ts';
import { routerName } from '../../activities/network/router.ts';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside, type Outside } from '../support/outside.ts';
import { answer } from '../support/people.ts';
import { setRules } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;
const rootProject = '00000000-0000-4000-8000-000000000004';

let outside: Outside;
let waiting: Outside;
const made: [string, string][] = [];
const keep = async (plural: string, body: Record<string, unknown>): Promise<Resource> => {
  const one = await make(tenant, plural, body);
  made.push([plural, one.id]);
  return one;
};

type Vpc = Resource & { uplinks: { id: string }[] };
interface Place {
  vpc: Vpc;
  /** Interfaces of two instances in it, with their addresses. */
  nics: Resource[];
}
async function newPlace(name: string): Promise<Place> {
  const vpc = (await keep('vpcs', {
    name,
    zoneId,
    cidrs: ['10.1.0.0/16'],
    uplink: { networkId: outside.network.id },
  })) as Vpc;
  const network = await keep('networks', { name, zoneId, vpcId: vpc.id });
  const subnet = await keep('subnets', { name, networkId: network.id, cidr: '10.1.1.0/24' });
  const nics: Resource[] = [];
  for (const which of ['one', 'two']) {
    const nic = { networkInterfaces: [{ subnetId: subnet.id }], startOnCreate: false };
    const { id } = await keep('instances', instanceBody(cloud, `${name}-${which}`, nic));
    const filter = encodeURIComponent(`instanceId = "${id}"`);
    nics.push(...(await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`)).items);
  }
  return { vpc, nics };
}

let here: Place;
let there: Place;
beforeAll(async () => {
  outside = await newOutside(admin, cloud, 'fip');
  waiting = await newOutside(admin, cloud, 'wait', {
    cidr: '203.0.113.0/24',
    from: '203.0.113.10',
    to: '203.0.113.11',
    quarantineSeconds: 86_400,
  });
  [here, there] = [await newPlace('here'), await newPlace('there')];
}, 120_000);
afterEach(() => setRules(admin, []));
afterAll(async () => {
  for (const [plural, id] of made.reverse())
    await tenant.done('DELETE', `/v1/${plural}/${id}${plural === 'instances' ? '?expunge=true' : ''}`);
  await outside.remove();
  await waiting.remove();
}, 120_000);

const newAddress = (
  networkId = outside.network.id,
  more: Record<string, unknown> = {},
  api: Api = tenant,
): Promise<Resource> => api.call('POST', '/v1/floating-ips', { name: 'public', networkId, ...more });
const act = (id: string, verb: string, input: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', `/v1/floating-ips/${id}/actions/${verb}`, input);
const now = (id: string): Promise<Resource> => tenant.call('GET', `/v1/floating-ips/${id}`);
const giveBack = (id: string, api: Api = tenant): Promise<unknown> => api.done('DELETE', `/v1/floating-ips/${id}`);

type Row = Record<string, unknown>;
const rows = async (table: string): Promise<Row[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Row[];
const of = async (table: string, id: string): Promise<Row[]> =>
  (await rows(table)).filter(({ external_ids }) => (external_ids as Row | undefined)?.['belay:id'] === id);

test('a VPC is told as a graph: what is in it, what leads there, and nothing of others', async () => {
  const publicOne = await newAddress();
  await act(publicOne.id, 'attach', { networkInterfaceId: here.nics[0]?.id });
  type Graph = {
    nodes: { kind: string; id: string; name: string | null; addresses: string[] }[];
    edges: { from: string; to: string; as: string }[];
    complete: boolean;
  };
  const { nodes, edges, complete } = await tenant.call<Graph>('GET', `/v1/vpcs/${here.vpc.id}/views/topology`);
  expect(complete).toBe(true);
  const told = new Map(nodes.map((node) => [node.id, node]));
  const nameOf = (id: string): string => `${told.get(id)?.kind} ${told.get(id)?.name}`;
  expect(edges.map(({ from, as, to }) => `${nameOf(from)} ${as} ${nameOf(to)}`).sort()).toEqual(
    [
      `vpc here wayOut network ${outside.network.name}`,
      'vpc here holds routeTable main',
      'vpc here holds network here',
      'network here holds subnet here',
      ...['one', 'two'].flatMap((which) => [
        `subnet here holds networkInterface here-${which} 0`,
        `networkInterface here-${which} 0 partOf instance here-${which}`,
      ]),
      `network ${outside.network.name} holds floatingIp public`,
      'floatingIp public leadsTo networkInterface here-one 0',
    ].sort(),
  );
  expect(edges).toContainEqual({ from: publicOne.id, to: here.nics[0]?.id, as: 'leadsTo' });
  expect(told.get(here.vpc.id)?.addresses).toEqual(['10.1.0.0/16']);
  expect(told.get(String(here.nics[1]?.id))?.addresses).toEqual([here.nics[1]?.address]);
  expect(nodes.filter(({ id }) => [there.vpc.id, ...there.nics.map((nic) => nic.id)].includes(id))).toEqual([]);
  await act(publicOne.id, 'detach');
  await tenant.done('DELETE', `/v1/floating-ips/${publicOne.id}`);
});

describe('a floating IP', () => {
  test('is a public address of its own, of which nothing is there before it leads somewhere', async () => {
    const held = await newAddress();
    expect(held).toMatchObject({
      state: 'ready',
      networkInterfaceId: null,
      address: expect.stringMatching(/^198\.51\.100\./),
    });
    expect(await of('NAT', held.id)).toEqual([]);
    const [nic, other] = here.nics;
    await act(held.id, 'attach', { networkInterfaceId: nic?.id });
    expect(await now(held.id)).toMatchObject({
      networkInterfaceId: nic?.id,
      fixedAddress: nic?.address,
      vpcId: here.vpc.id,
    });
    expect(await of('NAT', held.id)).toEqual([
      expect.objectContaining({ type: 'dnat_and_snat', external_ip: held.address, logical_ip: nic?.address }),
    ]);
    await act(held.id, 'move', { networkInterfaceId: other?.id });
    expect(await of('NAT', held.id)).toEqual([expect.objectContaining({ logical_ip: other?.address })]);
    // To another VPC, with the same addresses inside.
    await act(held.id, 'move', { networkInterfaceId: there.nics[0]?.id });
    const nats = await of('NAT', held.id);
    expect(nats).toEqual([expect.objectContaining({ logical_ip: there.nics[0]?.address })]);
    expect(await now(held.id)).toMatchObject({ vpcId: there.vpc.id });
    await act(held.id, 'detach');
    expect(await now(held.id)).toMatchObject({ networkInterfaceId: null, fixedAddress: null, vpcId: null });
    expect(await of('NAT', held.id)).toEqual([]);
    await giveBack(held.id);
  });

  test('leads to one interface, and no two lead there, however many ask at the same moment', async () => {
    const networkInterfaceId = here.nics[0]?.id;
    const held = await Promise.all([newAddress(), newAddress(), newAddress()]);
    const asked = await Promise.all(
      held.map(({ id }) =>
        tenant.call<OperationView>('POST', `/v1/floating-ips/${id}/actions/attach`, { networkInterfaceId }),
      ),
    );
    const ended = await Promise.all(asked.map(({ id }) => tenant.settled(id)));
    expect(ended.map(({ state }) => state).sort()).toEqual(['failed', 'failed', 'succeeded']);
    for (const { state, error } of ended) if (state === 'failed') expect(error?.code).toBe('ALREADY_ATTACHED');
    for (const { id } of held) await giveBack(id);
    expect((await rows('NAT')).filter(({ type }) => type === 'dnat_and_snat')).toEqual([]);
  });

  test('keeps its uplink, and the address of its interface', async () => {
    const held = await newAddress();
    const [nic] = here.nics;
    await act(held.id, 'attach', { networkInterfaceId: nic?.id });
    for (const how of ['', '?cascade=true&expunge=true'])
      expect(await answer(tenant, 'DELETE', `/v1/vpcs/${here.vpc.id}${how}`)).toMatchObject({ code: 'HAS_DEPENDENTS' });
    const { id } = await tenant.call<OperationView>('POST', `/v1/vpcs/${here.vpc.id}/actions/detachUplink`, {
      uplinkId: here.vpc.uplinks[0]?.id,
    });
    expect(await tenant.settled(id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    const set = await tenant.call<OperationView>(
      'POST',
      `/v1/network-interfaces/${String(nic?.id)}/actions/setAddresses`,
      {
        address: '10.1.1.200',
      },
    );
    expect(await tenant.settled(set.id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    const before = await of('NAT', held.id);
    await tenant.done('POST', `/v1/vpcs/${here.vpc.id}/actions/repair`, {});
    expect(await of('NAT', held.id)).toEqual(before);
    await giveBack(held.id);
    expect(await of('NAT', held.id)).toEqual([]);
  });

  test('that could not be moved leads where it led', async () => {
    const held = await newAddress();
    const [nic] = here.nics;
    await act(held.id, 'attach', { networkInterfaceId: nic?.id });
    await setRules(admin, [{ targetId: held.id, step: 'floatingIps.write', fault: 'failAfter', times: 1 }]);
    const { id } = await tenant.call<OperationView>('POST', `/v1/floating-ips/${held.id}/actions/move`, {
      networkInterfaceId: there.nics[0]?.id,
    });
    expect((await tenant.settled(id)).state).toBe('failed');
    expect(await now(held.id)).toMatchObject({ networkInterfaceId: nic?.id, vpcId: here.vpc.id });
    expect(await of('NAT', held.id)).toEqual([expect.objectContaining({ logical_ip: nic?.address })]);
    await giveBack(held.id);
  });

  test('that was given back is for nobody else for a while, and for its own project at once', async () => {
    const wanted = '203.0.113.10';
    const held = await newAddress(waiting.network.id, { address: wanted });
    await giveBack(held.id);
    const theirs = { projectId: rootProject };
    const refused = await answer(admin, 'POST', '/v1/floating-ips', {
      name: 'theirs',
      networkId: waiting.network.id,
      address: wanted,
      ...theirs,
    });
    expect([refused.status, refused.code]).toEqual([409, 'ADDRESS_IN_USE']);
    const other = await newAddress(waiting.network.id, theirs, admin);
    expect(other.address).toBe('203.0.113.11');
    const full = await answer(admin, 'POST', '/v1/floating-ips', {
      name: 'n',
      networkId: waiting.network.id,
      ...theirs,
    });
    expect([full.status, full.code]).toEqual([409, 'ADDRESS_EXHAUSTED']);
    const again = await newAddress(waiting.network.id);
    expect(again.address).toBe(wanted);
    await giveBack(again.id);
    await giveBack(other.id, admin);
  });

  test.each<[string, () => Record<string, unknown>, number, string]>([
    ['of a network that leads nowhere', () => ({ networkId: cloud.network.id }), 422, 'INVALID_ARGUMENT'],
    ['an address that is not given out', () => ({ address: '198.51.100.5' }), 422, 'INVALID_ARGUMENT'],
    ['an address that is in use', () => ({ address: String(here.vpc.publicAddress) }), 409, 'ADDRESS_IN_USE'],
  ])('is refused: %s', async (_, more, status, code) => {
    const body = { name: 'public', networkId: outside.network.id, ...more() };
    const refused = await answer(tenant, 'POST', '/v1/floating-ips', body);
    expect([refused.status, refused.code]).toEqual([status, code]);
  });
});

describe('a port forward', () => {
  const forward = async (floatingIpId: string, more: Record<string, unknown> = {}): Promise<Resource> =>
    make(tenant, 'port-forwards', {
      name: 'web',
      floatingIpId,
      protocol: 'tcp',
      publicPorts: { from: 8000, to: 8002 },
      targetPorts: { from: 80, to: 82 },
      networkInterfaceId: here.nics[0]?.id,
      ...more,
    });

  test('leads each port to one of its interface, and lets in who may come', async () => {
    const held = await newAddress();
    const one = await forward(held.id, { allowedCidrs: ['192.0.2.0/24'] });
    const inside = String(here.nics[0]?.address);
    const [balancer] = await of('Load_Balancer', one.id);
    expect(balancer).toMatchObject({
      name: forwardName(one.id),
      protocol: ['tcp'],
      vips: Object.fromEntries([0, 1, 2].map((n) => [`${String(held.address)}:${8000 + n}`, `${inside}:${80 + n}`])),
    });
    const router = (await rows('Logical_Router')).find(({ name }) => name === routerName(here.vpc.id));
    expect(router?.load_balancer).toEqual([forwardName(one.id)]);
    const match = async (): Promise<string[]> => (await of('ACL', one.id)).map((row) => String(row.match));
    expect(await match()).toEqual([expect.stringContaining('!(ip4.src == {192.0.2.0/24})')]);
    await tenant.done('POST', `/v1/port-forwards/${one.id}/actions/setAllowed`, { allowedCidrs: [] });
    expect(await match()).toEqual([]);
    const whole = await tenant.call<OperationView>('POST', `/v1/floating-ips/${held.id}/actions/attach`, {
      networkInterfaceId: here.nics[1]?.id,
    });
    expect(await tenant.settled(whole.id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    await tenant.done('DELETE', `/v1/port-forwards/${one.id}`);
    expect(await of('Load_Balancer', one.id)).toEqual([]);
    await giveBack(held.id);
  });

  test('keeps its interface from having another address', async () => {
    const { subnetId } = here.nics[0] as unknown as { subnetId: string };
    const nic = await make(tenant, 'network-interfaces', { name: 'alone', subnetId });
    const path = `/v1/network-interfaces/${nic.id}`;
    const held = await newAddress();
    await forward(held.id, { networkInterfaceId: nic.id });
    const set = await tenant.call<OperationView>('POST', `${path}/actions/setAddresses`, { address: '10.1.1.201' });
    expect(await tenant.settled(set.id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    await tenant.done('POST', `${path}/actions/setAddresses`, { secondaryAddresses: ['10.1.1.202'] });
    await tenant.done('DELETE', `/v1/floating-ips/${held.id}?cascade=true`);
    await tenant.done('POST', `${path}/actions/setAddresses`, { address: '10.1.1.201' });
    await tenant.done('DELETE', path);
  });

  test('has its ports alone, however many ask at the same moment', async () => {
    const held = await newAddress();
    const ask = (from: number, to: number) =>
      answer(tenant, 'POST', '/v1/port-forwards', {
        name: 'web',
        floatingIpId: held.id,
        protocol: 'tcp',
        publicPorts: { from, to },
        networkInterfaceId: here.nics[0]?.id,
      });
    // Each of them crosses each other.
    const asked = await Promise.all([ask(80, 90), ask(90, 95), ask(86, 92)]);
    expect(asked.filter(({ status }) => status === 202).length).toBe(1);
    for (const { status, code } of asked) if (status !== 202) expect([status, code]).toEqual([409, 'ADDRESS_IN_USE']);
    for (const one of asked) if (one.status === 202) await tenant.settled(String((one as unknown as OperationView).id));
    await tenant.done('DELETE', `/v1/floating-ips/${held.id}?cascade=true`);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['ports that are reversed', { publicPorts: { from: 9, to: 8 } }, 'publicPorts.to'],
    ['more than fit', { publicPorts: { from: 1, to: 1000 } }, 'publicPorts'],
    ['others inside than outside', { publicPorts: { from: 1, to: 3 }, targetPorts: { from: 1 } }, 'targetPorts'],
  ])('is refused: %s', async (_, more, field) => {
    const held = await newAddress();
    const refused = await answer(tenant, 'POST', '/v1/port-forwards', {
      name: 'web',
      floatingIpId: held.id,
      protocol: 'tcp',
      networkInterfaceId: here.nics[0]?.id,
      ...more,
    });
    expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
    await giveBack(held.id);
  });
});

describe('what leads to an interface that goes', () => {
  let subnetId: string;
  const newInstance = async (name: string): Promise<{ id: string; nicId: string }> => {
    ({ subnetId } = here.nics[0] as unknown as { subnetId: string });
    const { id } = await make(tenant, 'instances', instanceBody(cloud, name, { networkInterfaces: [{ subnetId }] }));
    const filter = encodeURIComponent(`instanceId = "${id}"`);
    const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
    return { id, nicId: String(items[0]?.id) };
  };
  /** A floating IP as a whole, and a port of another. */
  async function leadTo(networkInterfaceId: string): Promise<{ whole: string; shared: string; forward: string }> {
    const [whole, shared] = [await newAddress(), await newAddress()];
    await act(whole.id, 'attach', { networkInterfaceId });
    const forward = await make(tenant, 'port-forwards', {
      name: 'led',
      floatingIpId: shared.id,
      protocol: 'tcp',
      publicPorts: { from: 80 },
      networkInterfaceId,
      allowedCidrs: ['192.0.2.0/24'],
    });
    return { whole: whole.id, shared: shared.id, forward: forward.id };
  }
  type Led = Awaited<ReturnType<typeof leadTo>>;
  const rowsOf = async ({ whole, forward }: Led): Promise<string[]> =>
    [...(await of('NAT', whole)), ...(await of('Load_Balancer', forward)), ...(await of('ACL', forward))].map((row) =>
      String(row.logical_ip ?? row.name ?? row.match),
    );
  const leads = async ({ whole, forward }: Led): Promise<unknown[]> => [
    (await now(whole)).networkInterfaceId,
    (await tenant.call('GET', `/v1/port-forwards/${forward}`)).networkInterfaceId,
  ];
  async function leadsNowhere(led: Led): Promise<void> {
    expect(await leads(led)).toEqual([null, null]);
    expect(await rowsOf(led)).toEqual([]);
    expect(await now(led.whole)).toMatchObject({ state: 'ready', fixedAddress: null, vpcId: null });
  }
  async function giveAllBack({ whole, shared }: Led): Promise<void> {
    await giveBack(whole);
    await tenant.done('DELETE', `/v1/floating-ips/${shared}?cascade=true`);
  }

  test('leads nowhere when its instance is deleted, and elsewhere when somebody says so', async () => {
    const { id, nicId } = await newInstance('led');
    const led = await leadTo(nicId);
    expect(await tenant.call('GET', `/v1/instances/${id}/views/deletePlan`)).toMatchObject({
      deletable: true,
      takes: expect.arrayContaining([
        expect.objectContaining({ kind: 'floatingIp', id: led.whole, by: 'detach' }),
        expect.objectContaining({ kind: 'portForward', id: led.forward, by: 'detach' }),
      ]),
    });
    await tenant.done('DELETE', `/v1/instances/${id}`);
    await leadsNowhere(led);
    const refused = await answer(tenant, 'POST', `/v1/floating-ips/${led.whole}/actions/attach`, {
      networkInterfaceId: nicId,
    });
    expect([refused.status, refused.code]).toEqual([409, 'INVALID_STATE']);
    const [nic] = here.nics;
    await act(led.whole, 'attach', { networkInterfaceId: nic?.id });
    await tenant.done('POST', `/v1/port-forwards/${led.forward}/actions/attach`, { networkInterfaceId: nic?.id });
    expect(await leads(led)).toEqual([nic?.id, nic?.id]);
    expect((await of('Load_Balancer', led.forward)).map(({ vips }) => Object.values(vips as object))).toEqual([
      [`${String(nic?.address)}:80`],
    ]);
    await tenant.done('POST', `/v1/port-forwards/${led.forward}/actions/detach`, {});
    expect(await of('Load_Balancer', led.forward)).toEqual([]);
    await tenant.done('POST', `/v1/instances/${id}/actions/recover`, {});
    await act(led.whole, 'move', { networkInterfaceId: nicId });
    await tenant.done('DELETE', `/v1/instances/${id}?expunge=true`);
    await leadsNowhere(led);
    await giveAllBack(led);
  });

  test('leads there again when a later step of the delete fails', async () => {
    const { id, nicId } = await newInstance('kept');
    const led = await leadTo(nicId);
    const before = await rowsOf(led);
    await setRules(admin, [{ targetId: id, step: 'networkInterfaces.unplug', fault: 'failAfter', times: 1 }]);
    const deleting = await tenant.call<OperationView>('DELETE', `/v1/instances/${id}`);
    expect((await tenant.settled(deleting.id)).state).toBe('failed');
    expect(await rowsOf(led)).toEqual(before);
    expect(await leads(led)).toEqual([nicId, nicId]);
    // The same of a delete with all that hangs on it: what leads there is detached by operations of their own, and attached again.
    await setRules(admin, [{ targetId: id, step: 'volumes.trash', fault: 'failAfter', times: 1 }]);
    const expunging = await tenant.call<OperationView>('DELETE', `/v1/instances/${id}?cascade=true&expunge=true`);
    expect((await tenant.settled(expunging.id)).state).toBe('failed');
    expect(await rowsOf(led)).toEqual(before);
    expect(await leads(led)).toEqual([nicId, nicId]);
    await setRules(admin, []);
    await tenant.done('DELETE', `/v1/instances/${id}?cascade=true&expunge=true`);
    await leadsNowhere(led);
    await giveAllBack(led);
  });

  test('leads nowhere when its interface is deleted, and stays with one that is detached or outlives its instance', async () => {
    const { id } = await newInstance('outlived');
    const nic = await make(tenant, 'network-interfaces', { name: 'alone', subnetId });
    await tenant.done('POST', `/v1/network-interfaces/${nic.id}/actions/attach`, { instanceId: id });
    const led = await leadTo(nic.id);
    const before = await rowsOf(led);
    await tenant.done('POST', `/v1/network-interfaces/${nic.id}/actions/detach`, {});
    await tenant.done('POST', `/v1/network-interfaces/${nic.id}/actions/attach`, { instanceId: id });
    await tenant.done('DELETE', `/v1/instances/${id}?expunge=true`);
    expect(await rowsOf(led)).toEqual(before);
    expect(await leads(led)).toEqual([nic.id, nic.id]);
    await tenant.done('DELETE', `/v1/network-interfaces/${nic.id}`);
    await leadsNowhere(led);
    await giveAllBack(led);
  });

  test('leads nowhere in the end, whoever comes first: an attach or the delete of the instance', async () => {
    for (const order of [0, 1, 2]) {
      const { id, nicId } = await newInstance(`race ${order}`);
      const held = await newAddress();
      const asks = [
        () =>
          tenant.call<OperationView>('POST', `/v1/floating-ips/${held.id}/actions/attach`, {
            networkInterfaceId: nicId,
          }),
        () => tenant.call<OperationView>('DELETE', `/v1/instances/${id}`),
      ];
      const asked = await Promise.all((order === 1 ? asks.reverse() : asks).map((ask) => ask()));
      const ended = await Promise.all(asked.map((one) => tenant.settled(one.id)));
      const deleted = ended.find(({ type }) => type === 'instance.delete');
      const attached = ended.find(({ type }) => type === 'floatingIp.attach');
      expect(deleted?.state).toBe('succeeded');
      if (attached?.state !== 'succeeded') expect(attached?.error?.code).toBe('INVALID_STATE');
      expect([await of('NAT', held.id), (await now(held.id)).networkInterfaceId]).toEqual([[], null]);
      await giveBack(held.id);
      await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
    }
  });
});
