/** A database with one of everything, and acceptance on it without API, workers or Temporal: for tests of what the database decides. */
import pg from 'pg';
import { acceptChange } from '../../acceptance/accept.ts';
import { systemCaller } from '../../acceptance/caller.ts';
import type { Change, Outcome } from '../../acceptance/change.ts';
import { type Database, insertAll, openDatabase, type Transaction } from '../../database/database.ts';
import { ensureInstallation } from '../../database/installation.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { columnsOf } from '../../model/columns.ts';
import type { Action, Kind } from '../../model/kind.ts';
import { actionNamed, allKinds, kindOf } from '../../model/kinds.ts';
import { createSchema } from '../../model/schemas.ts';
import { Problem } from '../../runtime/problem.ts';
import { ownDatabase } from './ownDatabase.ts';

type Json = Record<string, unknown>;

export interface Scene {
  databaseUrl: string;
  database: Database;
  /** Past the guards of the tables: for setting the scene, and for breaking it. */
  stage: pg.Client;
  ids: Record<string, string>;
  /** All as at the beginning: no operation, no lock, every resource at rest. */
  reset(): Promise<void>;
  accept(type: string, more?: Partial<Change>, on?: Database): Promise<Outcome>;
  /** All as at the beginning, but fit for the action. What it takes is found out once. */
  setFor(type: string): Promise<boolean>;
  /** Brings the resources into the states in which the action is accepted, as its refusals say. Answers whether it is. */
  suit(type: string, tries?: number): Promise<boolean>;
  stop(): Promise<void>;
}

/** `instance.migrate` → its kind and verb. */
export function typeOf(type: string): { kind: Kind; verb: string; action: Action } {
  const found = actionNamed(type);
  if (!found) throw new Error(`there is no action ${type}`);
  return found;
}

/** Every action that runs as an operation, from the model. */
export const operationTypes: readonly string[] = allKinds.flatMap((kind) =>
  Object.entries(kind.actions).flatMap(([verb, action]) =>
    action.mode === 'operation' && (action.on ?? 'resource') === 'resource' ? [`${kind.name}.${verb}`] : [],
  ),
);

let count = 0;

/** A value that a schema takes; ids are those of the scene, by the name of the member. */
function sample(name: string, schema: Json, ids: Record<string, string>): unknown {
  if (Array.isArray(schema.anyOf)) return sample(name, schema.anyOf[0] as Json, ids);
  if (schema.default !== undefined) return schema.default;
  if (Array.isArray(schema.enum)) return schema.enum[0];
  if (schema.type === 'boolean') return false;
  // More than what is there: sizes grow.
  if (schema.type === 'integer' || schema.type === 'number') return Math.max(Number(schema.minimum ?? 0), 9);
  if (schema.type === 'array')
    return Number(schema.minItems ?? 0) > 0 || /Ids$/.test(name)
      ? [sample(name.replace(/s$/, ''), schema.items as Json, ids)]
      : [];
  if (schema.type === 'object') return objectOf(schema, ids);
  if (schema.format === 'uuid') return ids[name.replace(/Id$/, '')] ?? ids[name] ?? crypto.randomUUID();
  if (schema.format === 'ipv4') return '10.0.0.9';
  if (schema.format === 'date-time') return '2100-01-01T00:00:00Z';
  if (/cidr/i.test(name)) return `10.${++count % 200}.0.0/24`;
  return `${name.toLowerCase()}${++count}`;
}

function objectOf(schema: Json, ids: Record<string, string>): Json {
  const required = new Set((schema.required as string[] | undefined) ?? []);
  return Object.fromEntries(
    Object.entries((schema.properties as Record<string, Json> | undefined) ?? {}).flatMap(([name, property]) =>
      required.has(name) || ids[name.replace(/Id$/, '')] ? [[name, sample(name, property, ids)]] : [],
    ),
  );
}

/** What the schema alone does not say of a request. */
const particular: Record<string, (ids: Record<string, string>) => Json> = {
  'instance.create': (ids) => ({ source: { imageId: ids.image }, networkInterfaces: [{ subnetId: ids.subnet }] }),
  'volume.create': (ids) => ({ source: { snapshotId: ids.snapshot }, sizeGib: 9 }),
  'host.create': () => ({ address: `10.9.0.${++count % 250}`, sshPassword: 'secret' }),
  'storagePool.create': (ids) => ({
    clusterIds: [ids.cluster],
    storageClusterId: ids.storageCluster,
    hostId: undefined,
    pool: `pool${++count}`,
  }),
  'subnet.setOptions': () => ({ leaseSeconds: 600 }),
  'networkInterface.setAddresses': () => ({ secondaryAddresses: ['10.250.0.99'] }),
  'targetGroup.setOptions': () => ({ algorithm: 'sourceHash' }),
  'loadBalancer.create': () => ({ scheme: 'internal', floatingIpId: undefined }),
  'vpc.create': () => ({ cidrs: ['10.0.0.0/16'] }),
  'vpc.detachUplink': (ids) => ({ uplinkId: ids.wayOut }),
  'vpc.setCidrs': () => ({ cidrs: ['10.0.0.0/8'] }),
  'subnet.create': () => ({ cidr: `10.${++count % 200}.0.0/24`, routeTableId: undefined }),
  'network.create': () => ({ physicalNetworkId: undefined, segmentId: undefined, vpcId: undefined }),
  'instance.migrate': (ids) => ({ hostId: ids.otherHost }),
  'schedule.create': (ids) => ({
    cron: '0 3 * * *',
    action: 'instance.stop',
    targets: { ids: [ids.instance] },
  }),
};

/** Where an action is for another one than the first of its kind. */
const others: Readonly<Record<string, string>> = {
  'volume.detach': 'attached',
  'networkInterface.attach': 'loose',
  'networkInterface.delete': 'loose',
};

/** The subnet is in the VPC, and that has a way out by the network. */
const reached = `WITH v AS (UPDATE "vpc" SET "uplinkNetworkIds" = ARRAY(SELECT id FROM "network") RETURNING id),
  s AS (UPDATE "subnet" SET "vpcId" = (SELECT id FROM v))`;
const leading = `${reached} UPDATE "floatingIp" SET "networkInterfaceId" = (SELECT id FROM "networkInterface" WHERE alone), "fixedAddress" = '10.250.0.8',
  "vpcId" = (SELECT id FROM v) WHERE id = $1`;

/** What else must be so of the target. */
const beforehand: Record<string, string> = {
  'physicalNetwork.detachCluster': `UPDATE "physicalNetwork" SET "clusterIds" = ARRAY(SELECT id FROM "cluster") WHERE id = $1`,
  'floatingIp.attach': `${reached} SELECT $1::uuid`,
  'floatingIp.move': leading,
  'floatingIp.detach': leading,
  'portForward.create': `${reached} SELECT $1::uuid`,
  'loadBalancer.create': `${reached} SELECT $1::uuid`,
  'portForward.attach': `${reached} UPDATE "portForward" SET "networkInterfaceId" = NULL, address = NULL, "vpcId" = NULL WHERE id = $1`,
  'instance.start': 'UPDATE "instance" SET "hostId" = NULL WHERE id = $1',
  'host.power': `UPDATE "host" SET bmc = '{"protocol":"ipmi","address":"10.9.9.9","user":"admin"}' WHERE id = $1`,
  'host.failover': `UPDATE "host" SET connection = 'disconnected' WHERE id = $1`,
};

function bodyOf(type: string, ids: Record<string, string>): Json {
  const { kind, verb, action } = typeOf(type);
  const schema = verb === 'create' ? createSchema(kind) : ((action.input as unknown as Json | undefined) ?? {});
  const body = objectOf(schema, ids);
  if (verb === 'create') {
    delete body.requestedId;
    body.name = `${kind.name} ${++count}`;
  }
  return { ...body, ...particular[type]?.(ids) };
}

/** A way out of the VPC, by the network of the scene. */
const uplinkOf = (ids: Record<string, string>): Json => ({
  id: ids.wayOut,
  networkId: ids.network,
  subnetId: ids.subnet,
  address: '10.250.0.8',
  gateway: '10.250.0.1',
  prefixLength: 24,
  snat: true,
  isDefault: true,
});

/** Rows of the scene, beside what columns have by default. `another` has a second of a kind where actions need two. */
function rowsOf(ids: Record<string, string>): Record<string, Json[]> {
  const own = { projectId: wellKnown.rootProject };
  const free = { instanceId: null, deviceIndex: null, role: 'data', sizeGib: 2 };
  return {
    zone: [{ id: ids.zone }],
    pod: [{ id: ids.pod }],
    cluster: [{ id: ids.cluster }],
    storageCluster: [{ id: ids.storageCluster }],
    storagePool: [
      {
        id: ids.storagePool,
        type: 'rbd',
        storageClusterId: ids.storageCluster,
        pool: 'pool',
        hostId: null,
        clusterIds: [ids.cluster],
        totalGib: 10_000,
        overprovision: 1,
        storageClass: 'ssd',
      },
    ],
    backupStore: [{ id: ids.backupStore }],
    host: [
      { id: ids.host, connection: 'connected', address: '10.9.1.1' },
      { id: ids.otherHost, connection: 'connected', address: '10.9.1.2' },
    ],
    volumeType: [{ id: ids.volumeType, storageClass: 'ssd', minSizeGib: 1, maxSizeGib: 1000 }],
    instanceType: [{ id: ids.instanceType, vcpus: 1, memoryMib: 128, rootVolumeTypeId: ids.volumeType }],
    physicalNetwork: [{ id: ids.physicalNetwork, clusterIds: [], encapsulation: 'vlan', bridge: 'br-phy' }],
    firewallPolicy: [{ id: ids.firewallPolicy, ...own }],
    routerType: [{ id: ids.routerType }],
    vpc: [
      {
        id: ids.vpc,
        ...own,
        cidrs: ['10.0.0.0/8'],
        routerTypeId: null,
        uplinks: [uplinkOf(ids)],
        gatewayHostIds: [ids.host],
      },
    ],
    routeTable: [{ id: ids.routeTable, ...own, routes: [] }],
    network: [
      { id: ids.network, ...own, physicalNetworkId: null, vpcId: null, firewallPolicyId: null, external: true },
    ],
    subnet: [
      {
        id: ids.subnet,
        ...own,
        physicalNetworkId: null,
        vpcId: null,
        routeTableId: null,
        cidr: '10.250.0.0/24',
        gateway: '10.250.0.1',
      },
    ],
    addressGroup: [{ id: ids.addressGroup, ...own, family: 4 }],
    securityGroup: [{ id: ids.securityGroup, ...own, rules: [] }],
    image: [{ id: ids.image, ...own, minSizeGib: 1, format: 'raw' }],
    instance: [{ id: ids.instance, ...own, hostId: ids.host, rootVolumeId: ids.root, vcpus: 1, memoryMib: 128 }],
    networkInterface: [
      { id: ids.networkInterface, ...own, index: 0, address: '10.250.0.7', mac: '02:00:00:00:00:07' },
      { id: ids.loose, ...own, instanceId: null, alone: true, address: '10.250.0.8', mac: '02:00:00:00:00:08' },
    ],
    floatingIp: [{ id: ids.floatingIp, ...own, address: '10.250.0.9', networkInterfaceId: null, vpcId: null }],
    portForward: [
      {
        id: ids.portForward,
        ...own,
        publicPorts: { from: 80 },
        targetPorts: { from: 80 },
        address: '10.250.0.7',
        addressGroupId: null,
      },
    ],
    targetGroup: [
      {
        id: ids.targetGroup,
        ...own,
        protocol: 'tcp',
        port: 80,
        healthCheck: { intervalSeconds: 5, timeoutSeconds: 3, healthyCount: 1, unhealthyCount: 2 },
      },
    ],
    loadBalancer: [{ id: ids.loadBalancer, ...own, scheme: 'internal', floatingIpId: null, address: '10.250.0.6' }],
    listener: [{ id: ids.listener, ...own, protocol: 'tcp', ports: { from: 80 } }],
    volume: [
      { id: ids.root, ...own, ...free, instanceId: ids.instance, deviceIndex: 0, role: 'root' },
      { id: ids.attached, ...own, ...free, instanceId: ids.instance, deviceIndex: 1 },
      { id: ids.volume, ...own, ...free },
    ],
    schedule: [
      { id: ids.schedule, ...own, cron: '0 3 * * *', action: 'instance.stop', targets: { ids: [ids.instance] } },
    ],
    finding: [
      {
        id: ids.finding,
        state: 'open',
        resourceKind: 'network',
        resourceId: ids.network,
        repair: { action: 'network.repair', input: {} },
      },
    ],
    snapshot: [
      { id: ids.snapshot, ...own, volumeId: ids.volume, sizeGib: 2 },
      { id: ids.attachedSnapshot, ...own, volumeId: ids.attached, sizeGib: 2 },
    ],
  };
}

/** A whole row: what was given, then defaults, then a sample of what must be there. */
function filled(kind: Kind, given: Json, ids: Record<string, string>): Json {
  const now = new Date().toISOString();
  const rest = kind.states?.find((state) => ['active', 'ready', 'running'].includes(state));
  const implied: Json = {
    createdAt: now,
    updatedAt: now,
    name: `${kind.name} ${String(given.id).slice(0, 8)}`,
    state: rest,
  };
  return Object.fromEntries(
    columnsOf(kind).map((column) => {
      if (column.name in given) return [column.name, given[column.name]];
      if (implied[column.name] !== undefined) return [column.name, implied[column.name]];
      if (column.default !== undefined) return [column.name, column.default];
      if (column.nullable && !(column.ref && ids[column.ref] && column.name === `${column.ref}Id`))
        return [column.name, null];
      if (column.name === 'currentOperationId') return [column.name, null];
      return [column.name, column.ref && ids[column.ref] ? ids[column.ref] : sample(column.name, column.schema, ids)];
    }),
  );
}

const machinery = [
  'operation',
  'operationLock',
  'event',
  'auditEntry',
  'callback',
  'hostClaim',
  'failedPlace',
  'subnetAddress',
  'subnetCursor',
  'secret',
];

export async function setScene(): Promise<Scene> {
  process.env.BELAY_SECRET_KEY ??= '5e'.repeat(32);
  const { url: databaseUrl, drop } = await ownDatabase();
  const database = openDatabase(databaseUrl, 8);
  await ensureInstallation(database);
  const stage = new pg.Client({
    connectionString: databaseUrl,
    options: '-c timezone=UTC -c session_replication_role=replica',
  });
  await stage.connect();
  const names = [...Object.keys(rowsOf({})), 'otherHost', 'root', 'attached', 'attachedSnapshot', 'loose', 'wayOut'];
  const ids = Object.fromEntries(names.map((name) => [name, crypto.randomUUID()]));
  await stage.query(`INSERT INTO "identity" (id, kind) SELECT id::uuid, 'zone' FROM unnest($1::text[]) AS id`, [
    Object.values(ids),
  ]);

  async function reset(): Promise<void> {
    const rows = rowsOf(ids);
    await stage.query([...machinery, ...Object.keys(rows)].map((table) => `DELETE FROM "${table}"`).join('; '));
    await insertAll(stage as unknown as Transaction, {
      ...Object.fromEntries(
        Object.entries(rows).map(([kind, list]) => [kind, list.map((row) => filled(kindOf(kind), row, ids))]),
      ),
      subnetCursor: [{ subnetId: ids.subnet, first: '10.250.0.10', next: '10.250.0.10', last: '10.250.0.250' }],
      hostCapacity: [],
    });
    await stage.query('TRUNCATE "hostCapacity"');
    for (const hostId of [ids.host, ids.otherHost])
      await stage.query(
        `INSERT INTO "hostCapacity" ("hostId", "clusterId", "zoneId", open, vcpus, "memoryMib") VALUES ($1, $2, $3, true, 64, 65536)`,
        [hostId, ids.cluster, ids.zone],
      );
  }

  const targetOf = (type: string): string | null => {
    const { kind, verb } = typeOf(type);
    if (verb === 'create') return null;
    return ids[others[type] ?? kind.name] ?? null;
  };

  const accept = (type: string, more: Partial<Change> = {}, on: Database = database): Promise<Outcome> => {
    const { kind, verb } = typeOf(type);
    return acceptChange(on, {
      kind,
      verb,
      targetId: targetOf(type),
      body:
        verb === 'delete'
          ? undefined
          : {
              ...bodyOf(type, ids),
              ...(verb === 'create' && kind.scope === 'project' ? { projectId: wellKnown.rootProject } : {}),
            },
      caller: systemCaller(),
      requestId: 'test',
      sourceAddress: 'test',
      dryRun: false,
      idempotencyKey: null,
      onBusy: 'queue',
      ifMatch: null,
      leftToDispatcher: true,
      ...more,
    });
  };

  /** The statements with which the scene was made fit, by action. */
  const fittings = new Map<string, [string, unknown[]][]>();

  async function setFor(type: string): Promise<boolean> {
    await reset();
    const known = fittings.get(type);
    for (const [text, values] of known ?? []) await stage.query(text, values);
    if (known) return true;
    const made: [string, unknown[]][] = [];
    const fits = await suit(type, 6, made);
    if (fits) fittings.set(type, made);
    return fits;
  }

  async function suit(type: string, tries = 6, made: [string, unknown[]][] = []): Promise<boolean> {
    const change = async (text: string, values: unknown[]): Promise<void> => {
      made.push([text, values]);
      await stage.query(text, values);
    };
    const first = beforehand[type];
    if (first) await change(first, [targetOf(type)]);
    for (let n = 0; n < tries; n++) {
      try {
        await accept(type, { dryRun: true });
        return true;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        const { resource, fits, blockers } = error.details as {
          resource?: { kind: string; id: string };
          fits?: string[];
          blockers?: { kind: string; id: string }[];
        };
        if (resource && fits?.[0])
          await change(`UPDATE "${kindOf(resource.kind).name}" SET state = $2 WHERE id = $1`, [resource.id, fits[0]]);
        else if (blockers && blockers.length > 0)
          for (const blocker of blockers)
            await change(`UPDATE "${kindOf(blocker.kind).name}" SET "deletedAt" = now() WHERE id = $1`, [blocker.id]);
        else return false;
      }
    }
    return false;
  }

  await reset();
  return {
    databaseUrl,
    database,
    stage,
    ids,
    reset,
    accept,
    setFor,
    suit,
    async stop() {
      await stage.end();
      await database.close();
      await drop();
    },
  };
}
