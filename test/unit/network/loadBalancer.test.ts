/** What a listener comes to in OVN, and that nothing is written over what has changed meanwhile. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { followTargets, listenerRows, listeners, loadBalancers } from '../../../activities/network/loadBalancer.ts';
import { mapOf, type Northbound, openNorthbound, rowTags, set } from '../../../activities/network/northbound.ts';
import type { StepContext } from '../../../activities/step.ts';
import type { World } from '../../../activities/world.ts';
import type { ListenerRecord } from '../../../database/loadBalancers.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { cloud } from '../simulator/cloud.ts';

const id = (digit: number): string => `${digit}0000000-0000-4000-8000-000000000001`;
const [listenerId, loadBalancerId, vpcId, networkId, first, second] = [1, 2, 3, 4, 5, 6].map(id) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const context = {} as StepContext;

const record: ListenerRecord = {
  id: listenerId,
  loadBalancerId,
  vpcId,
  address: '10.1.1.200',
  protocol: 'tcp',
  ports: { from: 80 },
  enabled: true,
  targetGroupId: id(7),
  port: 8080,
  targets: [
    { networkInterfaceId: first, enabled: true },
    { networkInterfaceId: second, enabled: true, port: 9090 },
  ],
  algorithm: 'roundRobin',
  healthCheck: { intervalSeconds: 5, timeoutSeconds: 3, healthyCount: 1, unhealthyCount: 2 },
  probes: { [first]: '10.1.1.20', [second]: '10.1.1.20' },
};
const everywhere = (nic: string): string => (nic === first ? '10.1.1.5' : '10.1.1.6');
const told = (more: Partial<ListenerRecord>, at = everywhere as (nic: string) => string | null) => {
  const { balancer, checks } = listenerRows({ ...record, ...more }, at);
  return { vips: mapOf(balancer.vips), asked: mapOf(balancer.ip_port_mappings), checks: checks.map(({ vip }) => vip) };
};

describe('a listener', () => {
  test('sends to its targets at their ports, and asks each from an address of its subnet', () => {
    expect(told({})).toEqual({
      vips: { '10.1.1.200:80': '10.1.1.5:8080,10.1.1.6:9090' },
      asked: { '10.1.1.5': `${first}:10.1.1.20`, '10.1.1.6': `${second}:10.1.1.20` },
      checks: ['10.1.1.200:80'],
    });
  });

  test('of several ports leads each to itself', () => {
    const targets = [{ address: '10.1.1.9', enabled: true }];
    expect(told({ ports: { from: 80, to: 81 }, port: null, targets })).toEqual({
      vips: { '10.1.1.200:80': '10.1.1.9:80', '10.1.1.200:81': '10.1.1.9:81' },
      asked: {},
      checks: ['10.1.1.200:80', '10.1.1.200:81'],
    });
  });

  test('sends nothing to what is gone or not enabled, and answers all the same; one that is not enabled does not', () => {
    const targets = record.targets.map((target) => ({ ...target, enabled: target.networkInterfaceId === second }));
    expect(told({ targets }).vips).toEqual({ '10.1.1.200:80': '10.1.1.6:9090' });
    expect(told({}, () => null)).toMatchObject({ vips: { '10.1.1.200:80': '' }, asked: {} });
    expect(told({ enabled: false })).toMatchObject({ vips: {}, checks: [] });
  });

  test('that two targets come to the same of sends there once', () => {
    const targets = [
      { networkInterfaceId: first, enabled: true },
      { address: '10.1.1.5', enabled: true },
    ];
    expect(told({ targets }).vips).toEqual({ '10.1.1.200:80': '10.1.1.5:8080' });
  });
});

describe('on the way to OVN', () => {
  let simulator: Simulator;
  let northbound: Northbound;
  let world: World;
  /** Happens between the look at what is there and what is written. */
  let meanwhile: () => Promise<void>;
  beforeEach(async () => {
    meanwhile = async () => {};
    simulator = await cloud({ hosts: 1 });
    northbound = openNorthbound(simulator.ovn.nbRemote);
    await northbound.transact('make', [
      { op: 'insert', table: 'Logical_Router', row: { name: 'router', external_ids: rowTags('vpc', vpcId) } },
      { op: 'insert', table: 'Logical_Switch', row: { name: 'switch', external_ids: rowTags('network', networkId) } },
    ]);
    world = {
      northbound: {
        async transact(comment, operations) {
          if (comment.startsWith('write listener')) await meanwhile();
          return northbound.transact(comment, operations);
        },
        close: () => northbound.close(),
      } satisfies Northbound,
      database: {
        connections: {
          async query({ text }: { text: string }) {
            if (/FROM "network"/.test(text)) return { rows: [{ id: networkId }] };
            if (/FROM "targetGroup"/.test(text)) return { rows: [{ id: listenerId }] };
            return { rows: [/FROM "listener" l/.test(text) ? record : { id: loadBalancerId, vpcId }] };
          },
        },
      },
    } as unknown as World;
    await plug(first, '10.1.1.5');
    await loadBalancers(world).make.do({ loadBalancerId }, context);
  });
  afterEach(async () => {
    northbound.close();
    await simulator.stop();
  });

  const plug = (name: string, address: string) =>
    northbound.transact('plug', [
      {
        op: 'insert',
        table: 'Logical_Switch_Port',
        'uuid-name': 'port',
        row: { name, addresses: `02:00:00:00:00:01 ${address}` },
      },
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: [],
        mutations: [['ports', 'insert', set([['named-uuid', 'port']])]],
      },
    ]);
  const unplug = () =>
    northbound.transact('unplug', [{ op: 'update', table: 'Logical_Switch', where: [], row: { ports: set([]) } }]);
  const rows = (table: string): Record<string, unknown>[] =>
    (simulator.inventory().ovn.OVN_Northbound?.[table] ?? []) as Record<string, unknown>[];
  const vips = (): unknown => rows('Load_Balancer')[0]?.vips;
  const make = () => listeners(world).make.do({ listenerId }, context);

  test('the group is at the router and the switches of the VPC, however often it is made, and then nowhere', async () => {
    await loadBalancers(world).make.do({ loadBalancerId }, context);
    for (const table of ['Logical_Router', 'Logical_Switch'])
      expect(rows(table)).toEqual([expect.objectContaining({ load_balancer_group: [`lb-${loadBalancerId}`] })]);
    await loadBalancers(world).make.undo?.({ loadBalancerId }, context);
    await loadBalancers(world).make.undo?.({ loadBalancerId }, context);
    expect(rows('Load_Balancer_Group')).toEqual([]);
  });

  test('a listener is there once, however often it is made, with what was told of its targets', async () => {
    await make();
    const once = simulator.inventory().ovn;
    await make();
    expect(simulator.inventory().ovn).toEqual(once);
    expect(vips()).toEqual({ '10.1.1.200:80': '10.1.1.5:8080' });
    await plug(second, '10.1.1.6');
    await followTargets(world, [second]);
    expect(vips()).toEqual({ '10.1.1.200:80': '10.1.1.5:8080,10.1.1.6:9090' });
    await unplug();
    await followTargets(world, [first, second]);
    expect(vips()).toEqual({ '10.1.1.200:80': '' });
    await listeners(world).make.undo?.({ listenerId }, context);
    await followTargets(world, [first]);
    expect(rows('Load_Balancer')).toEqual([]);
    expect(rows('Load_Balancer_Health_Check')).toEqual([]);
  });

  test.each<[string, () => Promise<unknown>]>([
    ['a port comes', () => plug(second, '10.1.1.6')],
    ['a port goes', unplug],
    ['another writes it', make],
  ])('what was read before %s is not written, and is tried again', async (_, happens) => {
    await make();
    let turns = 0;
    meanwhile = async () => {
      if (turns++ === 0) await happens();
    };
    await expect(make()).rejects.toMatchObject({ type: 'BACKEND_UNAVAILABLE', nonRetryable: false });
    await make();
    await expect(followTargets(world, [first])).resolves.toBeUndefined();
  });

  test('without its group nothing is written', async () => {
    await loadBalancers(world).remove.do({ loadBalancerId }, context);
    await expect(make()).rejects.toMatchObject({ type: 'PRECONDITION_FAILED', nonRetryable: true });
    expect(rows('Load_Balancer')).toEqual([]);
  });
});
