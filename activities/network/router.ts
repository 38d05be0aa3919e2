/**
 * What stands at the router of a VPC. Ports, translations, routes and policies are no roots in OVN: each is made, and referred to by its router, in
 * one transaction, or not at all. Every row is tagged with what it is of, so that whatever writes one thing leaves the rows of all others alone.
 */
import type { World } from '../world.ts';
import {
  type Condition,
  exchange,
  map,
  type OvsdbOperation,
  type OvsdbRow,
  present,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';

export const routerName = (vpcId: string): string => `vpc-${vpcId}`;

/** Tables of what a router refers to, by the column in which it does. */
export const routerTables = {
  nat: 'NAT',
  static_routes: 'Logical_Router_Static_Route',
  policies: 'Logical_Router_Policy',
} as const;
export type RouterColumn = keyof typeof routerTables;
export type RouterRows = Partial<Record<RouterColumn, OvsdbRow[]>>;

/** A port of a router, and its counterpart in the switch of a network. */
export interface RouterPort {
  name: string;
  switchPort: string;
  networkId: string;
  row: OvsdbRow;
  switchOptions?: Record<string, string>;
  /** Chassis that carry it, the first one first; none of a port that is everywhere. */
  chassis?: string[];
  /** Rules of the switch for what comes to the router by it. */
  acls?: OvsdbRow[];
}

/** What stands at the router of one thing: an uplink, a subnet, a route table, an address. */
export interface AtRouter {
  vpcId: string;
  kind: string;
  id: string;
  /** Of several of one thing: which. */
  item?: string;
  rows: RouterRows;
  ports?: RouterPort[];
}

const tagsOf = ({ kind, id, item }: AtRouter): unknown => rowTags(kind, id, item ? { 'belay:item': item } : {});
const whereOf = ({ kind, id, item }: AtRouter): Condition[] => [
  ['external_ids', 'includes', map({ 'belay:id': id, 'belay:kind': kind, ...(item ? { 'belay:item': item } : {}) })],
];
const named = (name: string): Condition[] => [['name', '==', name]];
const columns = Object.keys(routerTables) as RouterColumn[];

export const chassisName = (port: string, hostId: string): string => `${port}_${hostId}`;
/** The first of two has the higher one. */
export const chassisPriority = (place: number): number => 100 - 10 * place;

/** A locally administered address that no interface gets: those begin with 02, servers of DHCP and routers in subnets with 06, and uplinks with 0a. */
export const uplinkMac = (uplinkId: string): string =>
  `0a:${uplinkId
    .replaceAll('-', '')
    .slice(0, 10)
    .replace(/(..)(?=.)/g, '$1:')}`;

interface Known {
  rows: Record<RouterColumn, unknown[]>;
  ports: { port: unknown; switchPort: unknown; chassis: unknown[]; acls: unknown[] }[];
}

/** What OVN has of it. */
async function look(world: World, at: AtRouter): Promise<Known> {
  const ports = at.ports ?? [];
  const asked = [
    ...columns.map(
      (column): OvsdbOperation => ({
        op: 'select',
        table: routerTables[column],
        where: whereOf(at),
        columns: ['_uuid'],
      }),
    ),
    ...ports.flatMap(({ name, switchPort, chassis = [], acls }): OvsdbOperation[] => [
      { op: 'select', table: 'Logical_Router_Port', where: named(name), columns: ['_uuid'] },
      { op: 'select', table: 'Logical_Switch_Port', where: named(switchPort), columns: ['_uuid'] },
      ...chassis.map(
        (hostId): OvsdbOperation => ({
          op: 'select',
          table: 'Gateway_Chassis',
          where: named(chassisName(name, hostId)),
          columns: ['_uuid'],
        }),
      ),
      ...(acls ? [{ op: 'select' as const, table: 'ACL', where: whereOf(at), columns: ['_uuid'] }] : []),
    ]),
  ];
  const found = (await world.northbound.transact(`look for ${at.kind} ${at.id}`, asked)).map(({ rows }) =>
    (rows ?? []).map(({ _uuid }) => _uuid),
  );
  const next = (): unknown[] => found.shift() ?? [];
  return {
    rows: Object.fromEntries(columns.map((column) => [column, next()])) as Known['rows'],
    ports: ports.map(({ chassis = [], acls }) => {
      const [port] = next();
      const [switchPort] = next();
      const carriers = chassis.map(() => next()[0]);
      return { port, switchPort, chassis: carriers, acls: acls ? next() : [] };
    }),
  };
}

const put = (table: string, known: unknown, name: string, row: OvsdbRow, uuidName: string): OvsdbOperation =>
  known
    ? { op: 'update', table, where: named(name), row }
    : { op: 'insert', table, 'uuid-name': uuidName, row: { name, ...row } };

function portOperations(
  at: AtRouter,
  port: RouterPort,
  unique: string,
  known: Known['ports'][number],
): OvsdbOperation[] {
  const { name, switchPort, networkId, row, switchOptions = {}, chassis = [], acls = [] } = port;
  const external_ids = tagsOf(at);
  const [portName, switchPortName] = [`${unique}_port`, `${unique}_switch`];
  const ref = (uuid: unknown, uuidName: string): unknown => uuid ?? ['named-uuid', uuidName];
  const carriers = chassis.map(
    (hostId, place): OvsdbOperation =>
      put(
        'Gateway_Chassis',
        known.chassis[place],
        chassisName(name, hostId),
        { chassis_name: hostId, priority: chassisPriority(place), external_ids },
        `${unique}_chassis${place}`,
      ),
  );
  const rules = acls.map((_, index) => `${unique}_acl${index}`);
  return [
    ...carriers,
    ...acls.map(
      (acl, index): OvsdbOperation => ({
        op: 'insert',
        table: 'ACL',
        'uuid-name': rules[index] ?? '',
        row: { ...acl, external_ids },
      }),
    ),
    put(
      'Logical_Router_Port',
      known.port,
      name,
      {
        ...row,
        ...(port.chassis
          ? { gateway_chassis: set(chassis.map((_, place) => ref(known.chassis[place], `${unique}_chassis${place}`))) }
          : {}),
        external_ids,
      },
      portName,
    ),
    put(
      'Logical_Switch_Port',
      known.switchPort,
      switchPort,
      {
        type: 'router',
        addresses: 'router',
        options: map({ 'router-port': name, ...switchOptions }),
        external_ids,
      },
      switchPortName,
    ),
    {
      op: 'mutate',
      table: 'Logical_Router',
      where: taggedWith('vpc', at.vpcId),
      mutations: [['ports', 'insert', set([ref(known.port, portName)])]],
    },
    present(
      'Logical_Switch',
      taggedWith('network', networkId),
      `OVN has no switch of network ${networkId}; its action repair writes it anew`,
    ),
    {
      op: 'mutate',
      table: 'Logical_Switch',
      where: taggedWith('network', networkId),
      mutations: [
        ['ports', 'insert', set([ref(known.switchPort, switchPortName)])],
        ...exchange(
          'acls',
          known.acls,
          rules.map((rule) => ['named-uuid', rule]),
        ),
      ],
    },
  ];
}

/** Operations after which exactly this stands there of the thing. The router is there, or is made before them in the same transaction. */
export async function operationsAt(world: World, at: AtRouter, prefix = 'row'): Promise<OvsdbOperation[]> {
  const known = await look(world, at);
  const external_ids = tagsOf(at);
  return [
    ...(at.ports ?? []).flatMap((port, index) =>
      portOperations(
        at,
        port,
        `${prefix}${index}`,
        known.ports[index] ?? { port: undefined, switchPort: undefined, chassis: [], acls: [] },
      ),
    ),
    ...columns.flatMap((column): OvsdbOperation[] => {
      const wanted = at.rows[column] ?? [];
      const before = known.rows[column];
      if (wanted.length + before.length === 0) return [];
      const names = wanted.map((_, index) => `${prefix}_${column}${index}`);
      return [
        ...wanted.map(
          (row, index): OvsdbOperation => ({
            op: 'insert',
            table: routerTables[column],
            'uuid-name': names[index] ?? '',
            row: { ...row, external_ids },
          }),
        ),
        {
          op: 'mutate',
          table: 'Logical_Router',
          where: taggedWith('vpc', at.vpcId),
          mutations: exchange(
            column,
            before,
            names.map((name) => ['named-uuid', name]),
          ),
        },
      ];
    }),
  ];
}

/** Lets a transaction go through only while the router is there. */
export const routerIsThere = (vpcId: string): OvsdbOperation =>
  present(
    'Logical_Router',
    taggedWith('vpc', vpcId),
    `OVN has no router of VPC ${vpcId}; its action repair writes it anew`,
  );

/** Exactly this stands at the router of the thing from now on, in one transaction. */
export async function writeAt(world: World, at: AtRouter): Promise<void> {
  await world.northbound.transact(`write ${at.kind} ${at.id}`, [
    routerIsThere(at.vpcId),
    ...(await operationsAt(world, at)),
  ]);
}

/** Operations after which nothing of the thing stands at the router, whether the router is there or not; none where nothing does. */
export async function removalAt(world: World, at: Omit<AtRouter, 'rows'>): Promise<OvsdbOperation[]> {
  const known = await look(world, { ...at, rows: {} });
  return [
    ...columns.flatMap((column): OvsdbOperation[] =>
      known.rows[column].length === 0
        ? []
        : [
            {
              op: 'mutate',
              table: 'Logical_Router',
              where: taggedWith('vpc', at.vpcId),
              mutations: [[column, 'delete', set(known.rows[column])]],
            },
          ],
    ),
    ...(at.ports ?? []).flatMap(({ networkId }, index): OvsdbOperation[] => {
      const { port, switchPort, acls = [] } = known.ports[index] ?? {};
      const leave = (table: string, where: Condition[], uuid: unknown): OvsdbOperation[] =>
        uuid ? [{ op: 'mutate', table, where, mutations: [['ports', 'delete', set([uuid])]] }] : [];
      return [
        ...leave('Logical_Router', taggedWith('vpc', at.vpcId), port),
        ...leave('Logical_Switch', taggedWith('network', networkId), switchPort),
        ...(acls.length > 0
          ? [
              {
                op: 'mutate',
                table: 'Logical_Switch',
                where: taggedWith('network', networkId),
                mutations: [['acls', 'delete', set(acls)]],
              } satisfies OvsdbOperation,
            ]
          : []),
      ];
    }),
  ];
}

/** Nothing of the thing stands at the router any more. */
export async function removeAt(world: World, at: Omit<AtRouter, 'rows'>): Promise<void> {
  const operations = await removalAt(world, at);
  if (operations.length > 0) await world.northbound.transact(`remove ${at.kind} ${at.id}`, operations);
}
