/** Load balancers of VPCs: where they answer, to whom they send, and what keeps two from the same ports. */
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { balancerName } from '../../activities/network/loadBalancer.ts';
import { switchName } from '../../activities/network/network.ts';
import { routerName } from '../../activities/network/router.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
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

let outside: Outside;
const made: [string, string][] = [];
const keep = async (plural: string, body: Record<string, unknown>): Promise<Resource> => {
  const one = await make(tenant, plural, body);
  made.push([plural, one.id]);
  return one;
};

let vpc: Resource;
let network: Resource;
let subnet: Resource;
let elsewhere: Resource;
const instances: Resource[] = [];
/** Of the instances, in the VPC. */
const nics: Resource[] = [];
let nextName = 0;
const name = (): string => `lb-${nextName++}`;

beforeAll(async () => {
  outside = await newOutside(admin, cloud, 'lb');
  const uplink = { networkId: outside.network.id };
  vpc = await keep('vpcs', { name: 'balanced', zoneId, cidrs: ['10.1.0.0/16'], uplink });
  elsewhere = await keep('vpcs', { name: 'elsewhere', zoneId, cidrs: ['10.1.0.0/16'] });
  network = await keep('networks', { name: 'web', zoneId, vpcId: vpc.id });
  subnet = await keep('subnets', { name: 'web', networkId: network.id, cidr: '10.1.1.0/24' });
  for (const which of ['one', 'two']) {
    const nic = { networkInterfaces: [{ subnetId: subnet.id }] };
    const instance = await keep('instances', instanceBody(cloud, `balanced-${which}`, nic));
    const filter = encodeURIComponent(`instanceId = "${instance.id}"`);
    instances.push(instance);
    nics.push(...(await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`)).items);
  }
}, 120_000);
afterEach(() => setRules(admin, []));
afterAll(async () => {
  for (const [plural, id] of made.reverse())
    await tenant.done('DELETE', `/v1/${plural}/${id}${plural === 'instances' ? '?expunge=true' : ''}`);
  await outside.remove();
}, 120_000);

const newAddress = (): Promise<Resource> =>
  tenant.call('POST', '/v1/floating-ips', { name: name(), networkId: outside.network.id });
const newGroup = (more: Record<string, unknown> = {}): Promise<Resource> =>
  tenant.call('POST', '/v1/target-groups', {
    name: name(),
    vpcId: vpc.id,
    protocol: 'tcp',
    port: 8080,
    targets: nics.map(({ id }) => ({ networkInterfaceId: id })),
    ...more,
  });
const newInternal = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'load-balancers', { name: name(), vpcId: vpc.id, scheme: 'internal', subnetId: subnet.id, ...more });
const newListener = (balancer: Resource, group: Resource, more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'listeners', {
    name: name(),
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: group.id,
    ...more,
  });
const act = (plural: string, id: string, verb: string, input: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, input);
const away = async (balancer: Resource, ...groups: Resource[]): Promise<void> => {
  await tenant.done('DELETE', `/v1/load-balancers/${balancer.id}?cascade=true`);
  for (const { id } of groups) await tenant.done('DELETE', `/v1/target-groups/${id}`);
};

type Row = Record<string, unknown>;
const rows = async (table: string): Promise<Row[]> =>
  ((await simulatorInventory(address.simulatorUrl)).ovn.OVN_Northbound?.[table] ?? []) as Row[];
const balancerOf = async ({ id }: Resource): Promise<Row | undefined> =>
  (await rows('Load_Balancer')).find((row) => row.name === balancerName(id));
/** What OVN sends connections to, by where they are asked for. */
const sent = async (listener: Resource): Promise<Record<string, string[]>> =>
  Object.fromEntries(
    Object.entries(((await balancerOf(listener))?.vips ?? {}) as Record<string, string>).map(([vip, to]) => [
      vip,
      to.split(',').filter(Boolean),
    ]),
  );
const holders = async ({ id }: Resource): Promise<unknown[]> => {
  const all = [...(await rows('Logical_Router')), ...(await rows('Logical_Switch'))];
  return all
    .filter(({ load_balancer_group: groups }) => ((groups ?? []) as string[]).includes(balancerName(id)))
    .map((row) => row.name)
    .sort();
};
const inside = (index: number, port = 8080): string => `${String(nics[index]?.address)}:${port}`;

describe('a load balancer', () => {
  test('answers at an address of its subnet, in all networks of its VPC, those that come later too', async () => {
    const balancer = await newInternal({ address: '10.1.1.200' });
    expect(balancer).toMatchObject({ state: 'ready', address: '10.1.1.200' });
    const later = await make(tenant, 'networks', { name: 'later', zoneId, vpcId: vpc.id });
    expect(await holders(balancer)).toEqual([routerName(vpc.id), switchName(network.id), switchName(later.id)].sort());
    const taken = await answer(tenant, 'POST', '/v1/load-balancers', {
      name: name(),
      vpcId: vpc.id,
      scheme: 'internal',
      subnetId: subnet.id,
      address: '10.1.1.200',
    });
    expect([taken.status, taken.code]).toEqual([409, 'ADDRESS_IN_USE']);
    await tenant.done('DELETE', `/v1/networks/${later.id}`);
    await away(balancer);
    expect((await rows('Load_Balancer_Group')).map((row) => row.name)).not.toContain(balancerName(balancer.id));
  });

  test('keeps its floating IP, its uplink and its VPC from going', async () => {
    const held = await newAddress();
    const balancer = await make(tenant, 'load-balancers', {
      name: name(),
      vpcId: vpc.id,
      scheme: 'public',
      floatingIpId: held.id,
    });
    expect(balancer.address).toBe(held.address);
    for (const path of [`/v1/floating-ips/${held.id}`, `/v1/vpcs/${vpc.id}`])
      expect(await answer(tenant, 'DELETE', path)).toMatchObject({
        code: 'HAS_DEPENDENTS',
        blockers: expect.arrayContaining([expect.objectContaining({ kind: 'loadBalancer', id: balancer.id })]),
      });
    const { uplinks } = await tenant.call<Resource & { uplinks: { id: string }[] }>('GET', `/v1/vpcs/${vpc.id}`);
    for (const [path, body] of [
      [`/v1/vpcs/${vpc.id}/actions/detachUplink`, { uplinkId: uplinks[0]?.id }],
      [`/v1/floating-ips/${held.id}/actions/attach`, { networkInterfaceId: nics[0]?.id }],
    ] as const) {
      const { id } = await tenant.call<OperationView>('POST', path, body);
      expect(await tenant.settled(id)).toMatchObject({ state: 'failed', error: { code: 'HAS_DEPENDENTS' } });
    }
    await tenant.done('DELETE', `/v1/floating-ips/${held.id}?cascade=true`);
    expect((await answer(tenant, 'GET', `/v1/load-balancers/${balancer.id}`)).status).toBe(404);
  });

  test('has its floating IP alone, however many ask at the same moment', async () => {
    const held = await newAddress();
    const asked = await Promise.all(
      [1, 2, 3].map(() =>
        answer(tenant, 'POST', '/v1/load-balancers', {
          name: name(),
          vpcId: vpc.id,
          scheme: 'public',
          floatingIpId: held.id,
        }),
      ),
    );
    expect(asked.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    for (const one of asked)
      if (one.status === 202) await tenant.settled(String((one as unknown as OperationView).id));
      else expect(one).toMatchObject({ code: 'ALREADY_ATTACHED', violations: [{ field: 'floatingIpId' }] });
    const whole = await newAddress();
    await act('floating-ips', whole.id, 'attach', { networkInterfaceId: nics[0]?.id });
    const refused = await answer(tenant, 'POST', '/v1/load-balancers', {
      name: name(),
      vpcId: vpc.id,
      scheme: 'public',
      floatingIpId: whole.id,
    });
    expect([refused.status, refused.code]).toEqual([409, 'ALREADY_ATTACHED']);
    for (const { id } of [held, whole]) await tenant.done('DELETE', `/v1/floating-ips/${id}?cascade=true`);
  });

  test.each<[string, () => Record<string, unknown>, string]>([
    ['a public one without a floating IP', () => ({ scheme: 'public' }), 'floatingIpId'],
    ['an internal one without a subnet', () => ({ scheme: 'internal' }), 'subnetId'],
    ['a subnet of another network', () => ({ scheme: 'internal', subnetId: cloud.subnet.id }), 'subnetId'],
    ['the gateway', () => ({ scheme: 'internal', subnetId: subnet.id, address: '10.1.1.1' }), 'address'],
    ['an address outside', () => ({ scheme: 'internal', subnetId: subnet.id, address: '10.9.9.9' }), 'address'],
  ])('is refused: %s', async (_, more, field) => {
    const refused = await answer(tenant, 'POST', '/v1/load-balancers', { name: name(), vpcId: vpc.id, ...more() });
    expect([refused.status, refused.violations]).toEqual([422, [expect.objectContaining({ field })]]);
  });

  test('of a VPC without a way to the floating IP is refused, and so is one that the router type does not offer', async () => {
    const held = await newAddress();
    const ask = (vpcId: string) =>
      answer(tenant, 'POST', '/v1/load-balancers', { name: name(), vpcId, scheme: 'public', floatingIpId: held.id });
    const unreached = await ask(elsewhere.id);
    expect([unreached.status, unreached.violations?.[0]?.field]).toEqual([422, 'vpcId']);
    const type = await admin.call('POST', '/v1/router-types', { name: crypto.randomUUID(), services: ['snat'] });
    const without = await make(tenant, 'vpcs', { name: name(), zoneId, cidrs: ['10.1.0.0/16'], routerTypeId: type.id });
    const refused = await ask(without.id);
    expect([refused.status, refused.code]).toEqual([409, 'NOT_SUPPORTED']);
    await tenant.done('DELETE', `/v1/vpcs/${without.id}`);
    await admin.call('DELETE', `/v1/router-types/${type.id}`);
    await tenant.done('DELETE', `/v1/floating-ips/${held.id}`);
  });

  test('is written anew by its repair, and by that of its VPC', async () => {
    const [balancer, group] = [await newInternal(), await newGroup()];
    const listener = await newListener(balancer, group);
    const before = [await balancerOf(listener), await holders(balancer)];
    await act('load-balancers', balancer.id, 'repair');
    expect([await balancerOf(listener), await holders(balancer)]).toEqual(before);
    await act('vpcs', vpc.id, 'repair');
    expect([await balancerOf(listener), await holders(balancer)]).toEqual(before);
    await away(balancer, group);
  });
});

describe('a listener', () => {
  test('sends what comes for its port to the targets of its group, and asks them how they are', async () => {
    const [balancer, group] = [await newInternal(), await newGroup({ healthCheck: { intervalSeconds: 2 } })];
    const listener = await newListener(balancer, group);
    const vip = `${String(balancer.address)}:80`;
    expect(await sent(listener)).toEqual({ [vip]: [inside(0), inside(1)].sort() });
    const row = await balancerOf(listener);
    expect(row).toMatchObject({ protocol: ['tcp'], options: { reject: 'true' } });
    const mappings = (row?.ip_port_mappings ?? {}) as Record<string, string>;
    const probes = new Set(Object.values(mappings).map((to) => to.split(':')[1]));
    expect(Object.keys(mappings).sort()).toEqual(nics.map((nic) => String(nic.address)).sort());
    expect(probes.size).toBe(1);
    const checks = (await rows('Load_Balancer_Health_Check')).filter((check) => check.vip === vip);
    expect(checks).toEqual([
      expect.objectContaining({
        options: { interval: '2', timeout: '3', success_count: '1', failure_count: '2' },
      }),
    ]);
    const groups = await rows('Load_Balancer_Group');
    expect(groups.find((one) => one.name === balancerName(balancer.id))?.load_balancer).toEqual([
      balancerName(listener.id),
    ]);
    type Graph = { edges: { from: string; to: string; as: string }[] };
    const { edges } = await tenant.call<Graph>('GET', `/v1/vpcs/${vpc.id}/views/topology`);
    for (const [from, as, to] of [
      [subnet.id, 'holds', balancer.id],
      [balancer.id, 'holds', listener.id],
      [listener.id, 'leadsTo', group.id],
      ...nics.map(({ id }) => [group.id, 'leadsTo', id]),
    ])
      expect(edges).toContainEqual({ from, as, to });
    await away(balancer, group);
    expect(await balancerOf(listener)).toBeUndefined();
    expect((await rows('Load_Balancer_Health_Check')).filter((check) => check.vip === vip)).toEqual([]);
  });

  test('has several ports where its group names none, each led to the same one', async () => {
    const [balancer, group] = [await newInternal(), await newGroup({ port: null, protocol: 'udp' })];
    const listener = await newListener(balancer, group, { protocol: 'udp', ports: { from: 5000, to: 5001 } });
    expect(await sent(listener)).toEqual(
      Object.fromEntries(
        [5000, 5001].map((port) => [`${String(balancer.address)}:${port}`, [inside(0, port), inside(1, port)].sort()]),
      ),
    );
    await away(balancer, group);
  });

  test('comes to another group, and answers nobody while it is not enabled', async () => {
    const [balancer, group, other] = [
      await newInternal(),
      await newGroup(),
      await newGroup({ port: 9090, algorithm: 'sourceHash', targets: [{ networkInterfaceId: nics[1]?.id }] }),
    ];
    const listener = await newListener(balancer, group);
    const vip = `${String(balancer.address)}:80`;
    await act('listeners', listener.id, 'setOptions', { targetGroupId: other.id });
    expect(await sent(listener)).toEqual({ [vip]: [inside(1, 9090)] });
    expect(await balancerOf(listener)).toMatchObject({ selection_fields: ['ip_src'] });
    await act('listeners', listener.id, 'setOptions', { enabled: false });
    expect(await sent(listener)).toEqual({});
    expect(await tenant.call('GET', `/v1/listeners/${listener.id}`)).toMatchObject({
      enabled: false,
      targetGroupId: other.id,
    });
    await act('listeners', listener.id, 'setOptions', { enabled: true });
    expect(await sent(listener)).toEqual({ [vip]: [inside(1, 9090)] });
    await away(balancer, group, other);
  });

  test('that could not be changed sends where it sent', async () => {
    const [balancer, group, other] = [await newInternal(), await newGroup(), await newGroup({ targets: [] })];
    const listener = await newListener(balancer, group);
    const before = await sent(listener);
    await setRules(admin, [{ targetId: listener.id, step: 'listeners.write', fault: 'failAfter', times: 1 }]);
    const { id } = await tenant.call<OperationView>('POST', `/v1/listeners/${listener.id}/actions/setOptions`, {
      targetGroupId: other.id,
    });
    expect((await tenant.settled(id)).state).toBe('failed');
    expect(await sent(listener)).toEqual(before);
    expect(await tenant.call('GET', `/v1/listeners/${listener.id}`)).toMatchObject({ targetGroupId: group.id });
    await away(balancer, group, other);
  });

  test('has its ports alone, however many ask at the same moment, and port forwards have others', async () => {
    const held = await newAddress();
    const group = await newGroup({ port: null });
    const balancer = await make(tenant, 'load-balancers', {
      name: name(),
      vpcId: vpc.id,
      scheme: 'public',
      floatingIpId: held.id,
    });
    const listen = (from: number, to: number) =>
      answer(tenant, 'POST', '/v1/listeners', {
        name: name(),
        loadBalancerId: balancer.id,
        protocol: 'tcp',
        ports: { from, to },
        targetGroupId: group.id,
      });
    const forward = (from: number, protocol = 'tcp') =>
      answer(tenant, 'POST', '/v1/port-forwards', {
        name: name(),
        floatingIpId: held.id,
        protocol,
        publicPorts: { from },
        networkInterfaceId: nics[0]?.id,
      });
    const asked = await Promise.all([listen(80, 90), listen(90, 95), listen(85, 86), forward(85), forward(90)]);
    const accepted = asked.filter(({ status }) => status === 202) as unknown as OperationView[];
    for (const { id } of accepted) await tenant.settled(id);
    for (const { status, code } of asked) if (status !== 202) expect([status, code]).toEqual([409, 'ADDRESS_IN_USE']);
    const filter = encodeURIComponent(`loadBalancerId = "${balancer.id}"`);
    const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/listeners?filter=${filter}`);
    for (const { id } of items) await tenant.done('DELETE', `/v1/listeners/${id}`);
    const of = encodeURIComponent(`floatingIpId = "${held.id}"`);
    const forwards = await tenant.call<{ items: Resource[] }>('GET', `/v1/port-forwards?filter=${of}`);
    for (const { id } of forwards.items) await tenant.done('DELETE', `/v1/port-forwards/${id}`);
    // Each way round, and of another protocol not at all.
    await newListener(balancer, group, { ports: { from: 80, to: 90 } });
    expect(await forward(85)).toMatchObject({ code: 'ADDRESS_IN_USE', violations: [{ field: 'publicPorts' }] });
    await tenant.settled(String((await forward(85, 'udp')).id));
    await tenant.settled(String((await forward(91)).id));
    expect(await listen(91, 92)).toMatchObject({ code: 'ADDRESS_IN_USE', violations: [{ field: 'ports' }] });
    await tenant.done('DELETE', `/v1/floating-ips/${held.id}?cascade=true`);
    await tenant.done('DELETE', `/v1/target-groups/${group.id}`);
  });

  test('is refused what can not be meant, and what is not there yet', async () => {
    const [balancer, group] = [await newInternal(), await newGroup()];
    const [udp, theirs] = [await newGroup({ protocol: 'udp' }), await newGroup({ vpcId: elsewhere.id, targets: [] })];
    const ask = (more: Record<string, unknown>) =>
      answer(tenant, 'POST', '/v1/listeners', {
        name: name(),
        loadBalancerId: balancer.id,
        protocol: 'tcp',
        ports: { from: 80 },
        targetGroupId: group.id,
        ...more,
      });
    for (const [more, code, field] of [
      [{ protocol: 'https' }, 'NOT_SUPPORTED', 'protocol'],
      [{ ports: { from: 9, to: 8 } }, 'INVALID_ARGUMENT', 'ports.to'],
      [{ ports: { from: 1, to: 1000 } }, 'INVALID_ARGUMENT', 'ports'],
      [{ ports: { from: 1, to: 2 } }, 'INVALID_ARGUMENT', 'ports'],
      [{ targetGroupId: udp.id }, 'INVALID_ARGUMENT', 'targetGroupId'],
      [{ targetGroupId: theirs.id }, 'INVALID_ARGUMENT', 'targetGroupId'],
    ] as const) {
      const refused = await ask(more);
      expect([refused.code, refused.violations?.[0]?.field]).toEqual([code, field]);
    }
    await away(balancer, group, udp, theirs);
  });
});

describe('a target group', () => {
  test('has other targets at once; what is not enabled is sent nothing new', async () => {
    const [balancer, group] = [await newInternal(), await newGroup()];
    const listener = await newListener(balancer, group);
    const vip = `${String(balancer.address)}:80`;
    const targets = [
      { instanceId: instances[0]?.id, enabled: false },
      { networkInterfaceId: nics[1]?.id, port: 9000 },
      { address: '10.1.7.7' },
    ];
    await act('target-groups', group.id, 'setTargets', { targets });
    expect(await sent(listener)).toEqual({ [vip]: [inside(1, 9000), '10.1.7.7:8080'].sort() });
    // An instance stands for its interface.
    expect(await tenant.call('GET', `/v1/target-groups/${group.id}`)).toMatchObject({
      targets: [
        { networkInterfaceId: nics[0]?.id, enabled: false },
        { networkInterfaceId: nics[1]?.id, port: 9000, enabled: true },
        { address: '10.1.7.7', enabled: true },
      ],
      networkInterfaceIds: nics.map(({ id }) => id),
    });
    await act('target-groups', group.id, 'setOptions', { healthCheck: { unhealthyCount: 5 } });
    expect((await rows('Load_Balancer_Health_Check')).find((check) => check.vip === vip)?.options).toMatchObject({
      failure_count: '5',
      interval: '5',
    });
    await act('target-groups', group.id, 'setTargets', { targets: [] });
    expect(await sent(listener)).toEqual({ [vip]: [] });
    await away(balancer, group);
  });

  test('that could not be given others has those that it had', async () => {
    const [balancer, group] = [await newInternal(), await newGroup()];
    const listener = await newListener(balancer, group);
    const before = [await balancerOf(listener), await tenant.call('GET', `/v1/target-groups/${group.id}`)];
    await setRules(admin, [{ targetId: group.id, step: 'targetGroups.write', fault: 'failAfter', times: 1 }]);
    const { id } = await tenant.call<OperationView>('POST', `/v1/target-groups/${group.id}/actions/setTargets`, {
      targets: [],
    });
    expect((await tenant.settled(id)).state).toBe('failed');
    const after = await tenant.call<Resource>('GET', `/v1/target-groups/${group.id}`);
    expect([await balancerOf(listener), after.targets]).toEqual([before[0], (before[1] as Resource).targets]);
    await away(balancer, group);
  });

  test('follows its targets: what is destroyed leaves, what is recovered joins, and an address is that of the interface', async () => {
    const alone = await make(tenant, 'network-interfaces', { name: name(), subnetId: subnet.id });
    const body = instanceBody(cloud, name(), { networkInterfaces: [{ subnetId: subnet.id }], startOnCreate: false });
    const third = await make(tenant, 'instances', body);
    const [balancer, group] = [
      await newInternal(),
      await newGroup({ targets: [{ instanceId: third.id }, { networkInterfaceId: alone.id }] }),
    ];
    const listener = await newListener(balancer, group);
    const to = async (): Promise<string[]> => Object.values(await sent(listener))[0] ?? [];
    const both = await to();
    expect(both).toHaveLength(2);
    await act('network-interfaces', alone.id, 'setAddresses', { address: '10.1.1.77' });
    expect(await to()).toContain('10.1.1.77:8080');
    const moved = await to();
    await tenant.done('DELETE', `/v1/instances/${third.id}`);
    expect(await to()).toEqual(['10.1.1.77:8080']);
    await act('instances', third.id, 'recover');
    expect(await to()).toEqual(moved);
    await tenant.done('DELETE', `/v1/instances/${third.id}?expunge=true`);
    await tenant.done('DELETE', `/v1/network-interfaces/${alone.id}`);
    expect(await to()).toEqual([]);
    await away(balancer, group);
  });

  test('tells how its targets are: what has stopped is unhealthy until it runs again', async () => {
    const alone = await make(tenant, 'network-interfaces', { name: name(), subnetId: subnet.id });
    const targets = [
      { networkInterfaceId: nics[0]?.id },
      { networkInterfaceId: nics[1]?.id, enabled: false },
      { networkInterfaceId: alone.id, port: 99 },
      { address: '10.1.7.7' },
    ];
    const [balancer, group] = [await newInternal(), await newGroup({ targets })];
    type Health = { items: { health: string; instanceId: string | null; address: string; port: number }[] };
    const health = () => tenant.call<Health>('GET', `/v1/target-groups/${group.id}/views/health`);
    const states = async () => (await health()).items.map((item) => item.health);
    expect(await states()).toEqual(['unknown', 'disabled', 'unknown', 'unknown']);
    await newListener(balancer, group);
    expect((await health()).items[0]).toMatchObject({
      instanceId: instances[0]?.id,
      address: nics[0]?.address,
      port: 8080,
    });
    await expect.poll(states).toEqual(['healthy', 'disabled', 'unhealthy', 'unknown']);
    await act('instances', String(instances[0]?.id), 'stop');
    await expect.poll(states).toEqual(['unhealthy', 'disabled', 'unhealthy', 'unknown']);
    await act('instances', String(instances[0]?.id), 'start');
    await expect.poll(states).toEqual(['healthy', 'disabled', 'unhealthy', 'unknown']);
    await tenant.done('DELETE', `/v1/network-interfaces/${alone.id}`);
    expect(await states()).toEqual(['healthy', 'disabled', 'gone', 'unknown']);
    await away(balancer, group);
  });

  test('is not deleted while a listener sends to it', async () => {
    const [balancer, group] = [await newInternal(), await newGroup()];
    const listener = await newListener(balancer, group);
    expect(await answer(tenant, 'DELETE', `/v1/target-groups/${group.id}`)).toMatchObject({
      code: 'HAS_DEPENDENTS',
      blockers: [expect.objectContaining({ kind: 'listener', id: listener.id })],
    });
    expect(await answer(tenant, 'DELETE', `/v1/load-balancers/${balancer.id}`)).toMatchObject({
      code: 'HAS_DEPENDENTS',
      blockers: [expect.objectContaining({ kind: 'listener', id: listener.id })],
    });
    await away(balancer, group);
  });

  test('is refused targets that can not be meant', async () => {
    const group = await newGroup({ targets: [] });
    const portless = await newGroup({ targets: [], port: null });
    const foreign = await make(tenant, 'network-interfaces', { name: name(), subnetId: cloud.subnet.id });
    const [nic] = nics;
    for (const [id, targets, field] of [
      [group.id, [{ port: 80 }], 'targets.0.networkInterfaceId'],
      [group.id, [{ networkInterfaceId: nic?.id, address: '10.1.1.9' }], 'targets.0.address'],
      [group.id, [{ networkInterfaceId: nic?.id }, { networkInterfaceId: nic?.id }], 'targets.1.networkInterfaceId'],
      [group.id, [{ networkInterfaceId: nic?.id }, { instanceId: instances[0]?.id }], 'targets.1.networkInterfaceId'],
      [group.id, [{ networkInterfaceId: foreign.id }], 'targets.0.networkInterfaceId'],
      [group.id, [{ address: '192.0.2.1' }], 'targets.0.address'],
      [portless.id, [{ networkInterfaceId: nic?.id, port: 80 }], 'targets.0.port'],
    ] as const) {
      const refused = await answer(tenant, 'POST', `/v1/target-groups/${id}/actions/setTargets`, { targets });
      expect([refused.status, refused.violations?.[0]?.field]).toEqual([422, field]);
    }
    await tenant.done('DELETE', `/v1/network-interfaces/${foreign.id}`);
    for (const { id } of [group, portless]) await tenant.done('DELETE', `/v1/target-groups/${id}`);
  });
});
