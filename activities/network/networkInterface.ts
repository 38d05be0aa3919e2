import { setTimeout } from 'node:timers/promises';
import { run } from '../../database/database.ts';
import { tryAgain } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { networkGroup } from './network.ts';
import { map, members, type OvsdbOperation, rowTags, set, taggedWith } from './northbound.ts';
import { securityGroupName } from './securityGroup.ts';

interface InstanceRef {
  instanceId: string;
}
interface OnHost extends InstanceRef {
  hostId: string;
}

interface Port {
  id: string;
  networkId: string | null;
  subnetId: string | null;
  mac: string | null;
  address: string | null;
  securityGroupIds: string[];
}

const living = (world: World, instanceId: string): Promise<Port[]> =>
  run<Port>(
    world.database.pool,
    `SELECT id, "networkId", "subnetId", mac, address, "securityGroupIds" FROM "networkInterface"
     WHERE "instanceId" = $1 AND "deletedAt" IS NULL ORDER BY index`,
    [instanceId],
  );

const portOf = (id: string): [string, string, unknown][] => [['name', '==', id]];

/** The chassis a port may be bound to; with two, the second takes over at the guest's first RARP after its switch-over. */
async function request(world: World, instanceId: string, chassis: string[]): Promise<void> {
  const ports = await living(world, instanceId);
  if (ports.length === 0) return;
  const drop = (column: string): [string, string, unknown] => ['options', 'delete', set([column])];
  const options: Record<string, string> = chassis.length > 0 ? { 'requested-chassis': chassis.join(',') } : {};
  if (chassis.length > 1) options['activation-strategy'] = 'rarp';
  await world.northbound.transact(
    `bind ports of ${instanceId} to ${chassis.join(', ') || 'no host'}`,
    ports.map((port) => ({
      op: 'mutate',
      table: 'Logical_Switch_Port',
      where: portOf(port.id),
      mutations: [
        drop('requested-chassis'),
        drop('activation-strategy'),
        ...(chassis.length > 0 ? ([['options', 'insert', map(options)]] as [string, string, unknown][]) : []),
      ],
    })),
  );
}

async function plug(world: World, instanceId: string, chassis: string | null): Promise<void> {
  const ports = await living(world, instanceId);
  if (ports.length === 0) return;
  const lookups = await world.northbound.transact(`look for ports of ${instanceId}`, [
    ...ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'Logical_Switch_Port',
        where: portOf(port.id),
        columns: ['_uuid'],
      }),
    ),
    ...ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'DHCP_Options',
        where: taggedWith('subnet', port.subnetId ?? ''),
        columns: ['_uuid'],
      }),
    ),
  ]);
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    if ((lookups[index]?.rows?.length ?? 0) > 0) return [];
    const name = `port${index}`;
    const addresses = `${port.mac} ${port.address}`;
    const dhcp = lookups[ports.length + index]?.rows?.[0]?._uuid;
    const join = (group: string): OvsdbOperation => ({
      op: 'mutate',
      table: 'Port_Group',
      where: [['name', '==', group]],
      mutations: [['ports', 'insert', set([['named-uuid', name]])]],
    });
    return [
      {
        op: 'insert',
        table: 'Logical_Switch_Port',
        'uuid-name': name,
        row: {
          name: port.id,
          addresses,
          port_security: addresses,
          ...(dhcp ? { dhcpv4_options: dhcp } : {}),
          ...(chassis ? { options: map({ 'requested-chassis': chassis }) } : {}),
          external_ids: rowTags('networkInterface', port.id),
        },
      },
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: taggedWith('network', port.networkId ?? ''),
        mutations: [['ports', 'insert', set([['named-uuid', name]])]],
      },
      join(networkGroup(port.networkId ?? '')),
      ...port.securityGroupIds.map((id) => join(securityGroupName(id))),
    ];
  });
  if (operations.length > 0) await world.northbound.transact(`plug ports of ${instanceId}`, operations);
  else if (chassis) await request(world, instanceId, [chassis]);
}

/** Ports leave their switch and groups; OVSDB collects what nobody refers to. */
async function unplug(world: World, instanceId: string): Promise<void> {
  const ports = await living(world, instanceId);
  const found = await world.northbound.transact(
    `look for ports of ${instanceId}`,
    ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'Logical_Switch_Port',
        where: portOf(port.id),
        columns: ['_uuid'],
      }),
    ),
  );
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    const uuid = found[index]?.rows?.[0]?._uuid;
    if (!uuid) return [];
    const leave = (table: string, where: [string, string, unknown][]): OvsdbOperation => ({
      op: 'mutate',
      table,
      where,
      mutations: [['ports', 'delete', set([uuid])]],
    });
    return [
      leave('Logical_Switch', taggedWith('network', port.networkId ?? '')),
      leave('Port_Group', [['name', '==', networkGroup(port.networkId ?? '')]]),
      ...port.securityGroupIds.map((id) => leave('Port_Group', [['name', '==', securityGroupName(id)]])),
    ];
  });
  if (operations.length > 0) await world.northbound.transact(`unplug ports of ${instanceId}`, operations);
}

export const networkInterfaces = (world: World) => ({
  /** Switch ports with addresses, port security, DHCP and security groups, all in one transaction; bound to a host if one is named. */
  plug: step({
    do: ({ instanceId, hostId }: InstanceRef & { hostId?: string }) => plug(world, instanceId, hostId ?? null),
    undo: ({ instanceId }) => unplug(world, instanceId),
  }),

  /** The opposite of plug, for an instance that is destroyed; its addresses stay reserved. */
  unplug: step({
    do: ({ instanceId }: InstanceRef & { hostId?: string | null }) => unplug(world, instanceId),
    undo: ({ instanceId, hostId }) => plug(world, instanceId, hostId ?? null),
  }),

  bind: step({
    do: ({ instanceId, hostId }: OnHost) => request(world, instanceId, [hostId]),
    undo: ({ instanceId }) => request(world, instanceId, []),
  }),

  unbind: step({ do: ({ instanceId }: InstanceRef) => request(world, instanceId, []) }),

  /** Bounded: a port that does not come up in time is an unreachable guest, and no success. */
  awaitUp: step({
    async do({ instanceId }: OnHost) {
      const ports = await living(world, instanceId);
      if (ports.length === 0) return;
      const lookups = ports.map(
        (port): OvsdbOperation => ({
          op: 'select',
          table: 'Logical_Switch_Port',
          where: portOf(port.id),
          columns: ['up'],
        }),
      );
      for (const until = Date.now() + 20_000; ; ) {
        const results = await world.northbound.transact(`are the ports of ${instanceId} up`, lookups);
        const down = ports.find((_, index) => members(results[index]?.rows?.[0]?.up)[0] !== true);
        if (!down) return;
        if (Date.now() > until) throw tryAgain('TIMEOUT', `port ${down.id} did not come up on its host within 20 s`);
        await setTimeout(100);
      }
    },
  }),

  bindToBoth: step({
    do: ({ instanceId, sourceHostId, targetHostId }: InstanceRef & { sourceHostId: string; targetHostId: string }) =>
      request(world, instanceId, [sourceHostId, targetHostId]),
    undo: ({ instanceId, sourceHostId }) => request(world, instanceId, [sourceHostId]),
  }),

  /** Only once the port is up at the target: clearing the second chassis earlier can lose the guest's announcement. */
  bindToTarget: step({
    async do({ instanceId, targetHostId }: InstanceRef & { targetHostId: string }) {
      await request(world, instanceId, [targetHostId]);
    },
  }),
});
