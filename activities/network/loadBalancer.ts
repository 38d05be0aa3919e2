/**
 * Balancers of VPCs. Each listener is a balancer of OVN; those of one load balancer are in a group, at the router of the VPC, which answers for the address and
 * leads in from outside, and at the switches of all its networks, where guests inside are led from at once. Which targets there are, and at which addresses, is told
 * by their switch ports: whoever writes these writes the listeners behind them.
 */
import {
  type BalancerRecord,
  balancersOver,
  type ListenerRecord,
  listenerOf,
  listenersNaming,
  listenersOf,
  listenerWith,
  loadBalancerOf,
  networksOfVpc,
  writeListener,
} from '../../database/loadBalancers.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import {
  type Condition,
  map,
  members,
  type OvsdbOperation,
  type OvsdbRow,
  present,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';
import { routerIsThere } from './router.ts';

/** Of a load balancer its group's, of a listener its own. */
export const balancerName = (id: string): string => `lb-${id}`;
const named = (id: string): Condition[] => [['name', '==', balancerName(id)]];
const groups = 'Load_Balancer_Group';

/** The address of IPv4 that a switch port has; null of one that is not there. */
export function addressAt(port: OvsdbRow | undefined): string | null {
  const own = members(port?.addresses)
    .map(String)
    .find((one) => one !== 'unknown');
  return own?.split(' ')[1] ?? null;
}

/** Where its address comes to, by the name of its switch port; nothing of one that is not there. */
export type At = (networkInterfaceId: string) => string | null;

/** What its record, and the ports of its targets, come to. */
export function listenerRows(listener: ListenerRecord, at: At): { balancer: OvsdbRow; checks: OvsdbRow[] } {
  const { id, protocol, address, ports, enabled, port, targets, algorithm, healthCheck, probes } = listener;
  const { from, to = from } = ports;
  const asked = enabled ? Array.from({ length: to - from + 1 }, (_, index) => from + index) : [];
  const reached = targets.flatMap((target) => {
    const where = target.networkInterfaceId ? at(target.networkInterfaceId) : (target.address ?? null);
    return where && target.enabled ? [{ ...target, where }] : [];
  });
  const vips = asked.map((one): [string, string] => [
    `${address}:${one}`,
    [...new Set(reached.map((target) => `${target.where}:${target.port ?? port ?? one}`))].sort().join(','),
  ]);
  const mappings = reached.flatMap(({ networkInterfaceId, where }): [string, string][] => {
    const probe = networkInterfaceId ? probes[networkInterfaceId] : undefined;
    return probe ? [[where, `${networkInterfaceId}:${probe}`]] : [];
  });
  const { intervalSeconds, timeoutSeconds, healthyCount, unhealthyCount } = healthCheck;
  return {
    balancer: {
      name: balancerName(id),
      protocol,
      vips: map(Object.fromEntries(vips)),
      ip_port_mappings: map(Object.fromEntries(mappings)),
      selection_fields: set(algorithm === 'sourceHash' ? ['ip_src'] : []),
      // Who asks while nobody answers is told so.
      options: map({ reject: 'true' }),
    },
    checks: vips.map(([vip]) => ({
      vip,
      options: map({
        interval: String(intervalSeconds),
        timeout: String(timeoutSeconds),
        success_count: String(healthyCount),
        failure_count: String(unhealthyCount),
      }),
    })),
  };
}

/** By these it is told whether somebody has written it: the rows in the last one are new each time. */
const written = ['vips', 'ip_port_mappings', 'selection_fields', 'health_check'];

/** One that several targets are of is told several times. */
export const interfacesOf = ({ targets }: Pick<ListenerRecord, 'targets'>): string[] =>
  targets.flatMap(({ networkInterfaceId: id }) => (id ? [id] : []));

/**
 * Writes the balancer of a listener from what `read` says: in one transaction, which goes through only while the balancer and the ports of its targets are as
 * they were before that was read. Whoever changes one of these meanwhile writes the listener after that. `known`: only where it is there.
 */
async function writeListenerRows(
  world: World,
  listenerId: string,
  read: () => Promise<ListenerRecord | undefined>,
  { known: onlyKnown = false }: { known?: boolean } = {},
): Promise<void> {
  const table = 'Load_Balancer';
  const where = taggedWith('listener', listenerId);
  const comment = `look for listener ${listenerId}`;
  const [found] = await world.northbound.transact(comment, [
    { op: 'select', table, where, columns: ['_uuid', ...written] },
  ]);
  const known = found?.rows?.[0];
  if (onlyKnown && !known) return;
  const listener = await read();
  if (!listener) {
    if (onlyKnown) return;
    throw refuse('NOT_FOUND', `listener ${listenerId} is gone`);
  }
  const ids = [...new Set(interfacesOf(listener))];
  const columns = ['addresses'];
  const portNamed = (id: string): Condition[] => [['name', '==', id]];
  const ports =
    ids.length === 0
      ? []
      : await world.northbound.transact(
          comment,
          ids.map(
            (id): OvsdbOperation => ({ op: 'select', table: 'Logical_Switch_Port', where: portNamed(id), columns }),
          ),
        );
  const portOf = new Map(ids.map((id, index) => [id, ports[index]?.rows?.[0]]));
  const { balancer, checks } = listenerRows(listener, (id) => addressAt(portOf.get(id)));
  const external_ids = rowTags('listener', listenerId);
  const row = {
    ...balancer,
    health_check: set(checks.map((_, index) => ['named-uuid', `check${index}`])),
    external_ids,
  };
  const asBefore = (of: string, which: Condition[], what: string[], rows: OvsdbRow[]): OvsdbOperation => ({
    op: 'wait',
    table: of,
    where: which,
    columns: what,
    until: '==',
    rows,
    timeout: 0,
  });
  const group = listener.loadBalancerId;
  await world.northbound.transact(`write listener ${listenerId}`, [
    asBefore(
      table,
      where,
      written,
      known ? [Object.fromEntries(written.map((column) => [column, known[column]]))] : [],
    ),
    ...ids.map((id) => {
      const port = portOf.get(id);
      return asBefore('Logical_Switch_Port', portNamed(id), columns, port ? [port] : []);
    }),
    present(groups, named(group), `OVN has no group of load balancer ${group}; its action repair writes it anew`),
    ...checks.map(
      (check, index): OvsdbOperation => ({
        op: 'insert',
        table: 'Load_Balancer_Health_Check',
        'uuid-name': `check${index}`,
        row: { ...check, external_ids },
      }),
    ),
    known ? { op: 'update', table, where, row } : { op: 'insert', table, 'uuid-name': 'balancer', row },
    {
      op: 'mutate',
      table: groups,
      where: named(group),
      mutations: [['load_balancer', 'insert', set([known?._uuid ?? ['named-uuid', 'balancer']])]],
    },
  ]);
}

/** As the records say, or are about to. */
export const writeRecorded = (world: World, listenerId: string, instead: Partial<ListenerRecord> = {}): Promise<void> =>
  writeListenerRows(
    world,
    listenerId,
    async () => {
      const [listener] = await listenerOf(world.database.connections, { listenerId });
      return listener && { ...listener, ...instead };
    },
    { known: true },
  );

/** The ports of these interfaces have come, gone or changed: whoever sends to them is told. */
export async function followTargets(world: World, networkInterfaceIds: string[]): Promise<void> {
  for (const { id } of await listenersNaming(world.database.connections, { networkInterfaceIds }))
    await writeRecorded(world, id);
}

/** Where the address of a load balancer is answered for. */
const attach = (table: string, where: Condition[], group: unknown): OvsdbOperation => ({
  op: 'mutate',
  table,
  where,
  mutations: [['load_balancer_group', 'insert', set([group])]],
});

async function groupsNamed(world: World, ids: string[]): Promise<{ id: string; uuid: unknown }[]> {
  if (ids.length === 0) return [];
  const found = await world.northbound.transact(
    'look for load balancers',
    ids.map((id): OvsdbOperation => ({ op: 'select', table: groups, where: named(id), columns: ['_uuid'] })),
  );
  return ids.flatMap((id, index) => {
    const uuid = found[index]?.rows?.[0]?._uuid;
    return uuid ? [{ id, uuid }] : [];
  });
}

/** A switch that has come is where all load balancers of its VPC are. One that comes meanwhile looks for the switch behind that. */
export async function attachBalancers(world: World, networkId: string): Promise<void> {
  const over = await balancersOver(world.database.connections, { networkId });
  const there = await groupsNamed(
    world,
    over.map(({ id }) => id),
  );
  if (there.length > 0)
    await world.northbound.transact(
      `balance in network ${networkId}`,
      there.map(({ uuid }) => attach('Logical_Switch', taggedWith('network', networkId), uuid)),
    );
}

async function write(world: World, { id, vpcId }: BalancerRecord): Promise<void> {
  const [known] = await groupsNamed(world, [id]);
  // A name stands for one group only: who comes second is refused, tries again, and finds it.
  if (!known)
    await world.northbound.transact(`make load balancer ${id}`, [
      routerIsThere(vpcId),
      { op: 'insert', table: groups, row: { name: balancerName(id) } },
    ]);
  const [group] = await groupsNamed(world, [id]);
  const networks = await networksOfVpc(world.database.connections, { vpcId });
  await world.northbound.transact(`attach load balancer ${id}`, [
    routerIsThere(vpcId),
    attach('Logical_Router', taggedWith('vpc', vpcId), group?.uuid),
    ...networks.map((network) => attach('Logical_Switch', taggedWith('network', network.id), group?.uuid)),
  ]);
}

/** Operations after which nothing is left of a load balancer but its listeners. */
export async function balancerRemoval(world: World, loadBalancerId: string): Promise<OvsdbOperation[]> {
  const [group] = await groupsNamed(world, [loadBalancerId]);
  if (!group) return [];
  const leave = (table: string): OvsdbOperation => ({
    op: 'mutate',
    table,
    where: [['load_balancer_group', 'includes', set([group.uuid])]],
    mutations: [['load_balancer_group', 'delete', set([group.uuid])]],
  });
  return [
    leave('Logical_Switch'),
    leave('Logical_Router'),
    { op: 'delete', table: groups, where: named(loadBalancerId) },
  ];
}

async function remove(world: World, loadBalancerId: string): Promise<void> {
  const operations = await balancerRemoval(world, loadBalancerId);
  if (operations.length > 0) await world.northbound.transact(`remove load balancer ${loadBalancerId}`, operations);
}

interface LoadBalancerRef {
  loadBalancerId: string;
}

export const loadBalancers = (world: World) => {
  async function find(loadBalancerId: string): Promise<BalancerRecord> {
    const [row] = await loadBalancerOf(world.database.connections, { loadBalancerId });
    if (!row) throw refuse('NOT_FOUND', `load balancer ${loadBalancerId} is gone`);
    return row;
  }

  return {
    /** The group of its listeners, at the router and at all switches of its VPC. */
    make: step({
      system: 'ovn',
      do: async ({ loadBalancerId }: LoadBalancerRef) => write(world, await find(loadBalancerId)),
      undoText: 'delete group',
      undo: ({ loadBalancerId }) => remove(world, loadBalancerId),
    }),

    contents: step({
      system: 'record',
      async do({ loadBalancerId }: LoadBalancerRef): Promise<{ listenerIds: string[] }> {
        const found = await listenersOf(world.database.connections, { loadBalancerId });
        return { listenerIds: found.map(({ id }) => id) };
      },
    }),

    remove: step({ system: 'ovn', do: ({ loadBalancerId }: LoadBalancerRef) => remove(world, loadBalancerId) }),
  };
};

interface ListenerRef {
  listenerId: string;
}
interface Where {
  targetGroupId: string;
  enabled: boolean;
}
interface ListenerChange extends ListenerRef {
  before: Where;
  after: Where;
}

export const listeners = (world: World) => {
  const { connections } = world.database;
  async function removeRows(listenerId: string): Promise<void> {
    await world.northbound.transact(`remove listener ${listenerId}`, [
      { op: 'delete', table: 'Load_Balancer', where: taggedWith('listener', listenerId) },
    ]);
  }
  const record = (listenerId: string, where: Where) => ({ listenerId, ...where });

  return {
    /** A balancer of OVN, with the targets that are there, and how they are asked. */
    make: step({
      system: 'ovn',
      do: ({ listenerId }: ListenerRef) =>
        writeListenerRows(world, listenerId, async () => (await listenerOf(connections, { listenerId }))[0]),
      undoText: 'delete balancer',
      undo: ({ listenerId }) => removeRows(listenerId),
    }),

    plan: step({
      system: 'record',
      async do({ listenerId }: ListenerRef): Promise<{ before: Where }> {
        const [listener] = await listenerOf(connections, { listenerId });
        if (!listener) throw refuse('NOT_FOUND', `listener ${listenerId} is gone`);
        return { before: { targetGroupId: listener.targetGroupId, enabled: listener.enabled } };
      },
    }),

    record: step({
      system: 'record',
      async do({ listenerId, after }: ListenerChange, context) {
        await asHolder(world.database, context, (tx) => writeListener(tx, record(listenerId, after)));
      },
      undoText: 'as before',
      async undo({ listenerId, before }, context) {
        await asHolder(world.database, context, (tx) => writeListener(tx, record(listenerId, before)));
      },
    }),

    /** In one transaction: connections go to the old targets, or to the new ones. */
    write: step({
      system: 'ovn',
      do: ({ listenerId, after }: ListenerChange) =>
        writeListenerRows(
          world,
          listenerId,
          async () => (await listenerWith(connections, record(listenerId, after)))[0],
        ),
      undoText: 'as before',
      undo: ({ listenerId, before }) =>
        writeListenerRows(
          world,
          listenerId,
          async () => (await listenerWith(connections, record(listenerId, before)))[0],
        ),
    }),

    remove: step({ system: 'ovn', do: ({ listenerId }: ListenerRef) => removeRows(listenerId) }),
  };
};
