/** What there is, in the records and on the systems below, in a form that two looks can be compared by. */
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { wellKnown } from '../../database/wellKnown.ts';
import { columnsOf } from '../../model/columns.ts';
import { allKinds } from '../../model/kinds.ts';
import { openClient } from './postgres.ts';

/** Kinds that only ever grow, and say what happened rather than what is; and processes, which come and go by themselves. */
const histories = new Set([
  'operation',
  'event',
  'auditEntry',
  'setting',
  'operationType',
  'apiKey',
  'finding',
  'controlNode',
]);
/** What a round trip there and back may change without anything being left over. */
const volatile = new Set([
  'revision',
  'updatedAt',
  'lastSeenAt',
  'powerObservedAt',
  'lastHostId',
  'connection',
  'inventory',
  'health',
  'healthReason',
  'healthSince',
  'capacity',
  'stateReason',
  'observed',
  'fault',
  'currentOperationId',
  'lastRun',
  'lastOperationId',
  'nextRun',
]);

export type Picture = Record<string, unknown>;

/** Every living record and every claim, lock, address and secret. */
export async function records(databaseUrl: string): Promise<Picture> {
  const client = new pg.Client({ connectionString: databaseUrl, options: '-c timezone=UTC' });
  await client.connect();
  try {
    const picture: Picture = {};
    const rows = async (text: string): Promise<unknown[]> =>
      (await client.query<{ row: unknown }>(text)).rows.map(({ row }) => row);
    for (const kind of allKinds) {
      if (histories.has(kind.name)) continue;
      const columns = columnsOf(kind)
        .filter((column) => !volatile.has(column.name))
        .map((column) => `"${column.name}"`)
        .join(', ');
      // What the platform does by itself is paused and goes on by Temporal's word, which the record of it follows when it is looked at.
      const which = kind.name === 'schedule' ? `AND "managedBy"->>'kind' IS DISTINCT FROM 'platform'` : '';
      picture[kind.name] = await rows(
        `SELECT row_to_json(t) AS row FROM (SELECT ${columns} FROM "${kind.name}" WHERE "deletedAt" IS NULL ${which} ORDER BY id) t`,
      );
    }
    picture.hostClaim = await rows(
      `SELECT json_build_object('instance', "instanceId", 'host', "hostId", 'vcpus', vcpus, 'mib', "memoryMib") AS row FROM "hostClaim" ORDER BY "instanceId", "hostId"`,
    );
    picture.hostCapacity = await rows(
      `SELECT row_to_json(t) AS row FROM (SELECT * FROM "hostCapacity" ORDER BY "hostId") t`,
    );
    picture.addresses = await rows(
      `SELECT json_build_object('subnet', "subnetId", 'address', address, 'interface', "networkInterfaceId") AS row FROM "subnetAddress" WHERE "networkInterfaceId" IS NOT NULL ORDER BY "subnetId", address`,
    );
    picture.imageCache = await rows(
      `SELECT json_build_object('image', "imageId", 'pool', "poolId", 'state', state) AS row FROM "imageCache" ORDER BY "imageId", "poolId"`,
    );
    picture.locks = await rows(`SELECT row_to_json(t) AS row FROM (SELECT * FROM "operationLock" ORDER BY ticket) t`);
    picture.secrets = await rows(
      `SELECT json_build_object('kind', "ownerKind", 'owner', "ownerId", 'field', field) AS row FROM "secret" WHERE field NOT IN ('trailCertificate', 'trailKey') ORDER BY "ownerId", field`,
    );
    return picture;
  } finally {
    await client.end();
  }
}

/** What the platform writes from time to time, whatever tests do: the head of its audit trail, with a key of its own. */
const ofItsOwnAccord = /^trail\//;

/** Tags say which operation touched a thing last; that alone is no difference. */
export function withoutRuns(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutRuns);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([key]) =>
          !ofItsOwnAccord.test(key) &&
          ![
            'operation',
            'revision',
            'belay:revision',
            'bootId',
            'tasks',
            'nb_cfg',
            'sb_cfg',
            'hv_cfg',
            'serialLog',
            'serial',
          ].includes(key),
      )
      .map(([key, inner]) => [key, withoutRuns(inner)]),
  );
}

/** What is in one picture and not in the other, each with its place: what a failed test says of two pictures that should be the same. */
export function changes(before: unknown, now: unknown, place = 'world'): string[] {
  if (isDeepStrictEqual(before, now)) return [];
  if (Array.isArray(before) && Array.isArray(now)) {
    const [old, fresh] = [before, now].map((rows) => new Set(rows.map((row) => JSON.stringify(row))));
    const gone = [...(old ?? [])].filter((row) => !fresh?.has(row)).map((row) => `${place} - ${row}`);
    const come = [...(fresh ?? [])].filter((row) => !old?.has(row)).map((row) => `${place} + ${row}`);
    return gone.length + come.length > 0 ? [...gone, ...come] : [`${place}: as many of each, or another order`];
  }
  if (isRecord(before) && isRecord(now))
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) =>
      changes(before[key], now[key], `${place}.${key}`),
    );
  return [`${place} - ${JSON.stringify(before)}`, `${place} + ${JSON.stringify(now)}`];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Records against reality, both ways: every disk, guest and port that should be there is, and nothing else. Answers what is wrong.
 * The inventory's shape is the simulator's.
 */
export interface Reality {
  /** Instance id → hosts on which a guest of it runs. */
  running: Map<string, string[]>;
  /** Instance id → hosts that know it at all. */
  defined: Map<string, string[]>;
  /** `pool/image`, without cached images. */
  images: Set<string>;
  trashed: Set<string>;
  /** Names of logical switch ports. */
  ports: Set<string>;
}

export async function differences(databaseUrl: string, reality: Reality): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const found: string[] = [];
    const instances = (
      await client.query<{ id: string; state: string; host: string | null; hostId: string | null }>(
        `SELECT i.id, i.state, h.name AS host, i."hostId" FROM "instance" i LEFT JOIN "host" h ON h.id = i."hostId" WHERE i."deletedAt" IS NULL`,
      )
    ).rows;
    const known = new Set(instances.map(({ id }) => id));
    for (const { id, state, host } of instances) {
      const runs = reality.running.get(id) ?? [];
      if (state === 'running' && (runs.length !== 1 || runs[0] !== host))
        found.push(`instance ${id} is running on ${host}, really on [${runs.join(', ')}]`);
      if (state === 'lost' && runs.length > 0) found.push(`instance ${id} is lost and runs on [${runs.join(', ')}]`);
      if (['stopped', 'destroyed'].includes(state) && (reality.defined.get(id) ?? []).length > 0)
        found.push(`instance ${id} is ${state} and still defined`);
      if (!['running', 'stopped', 'destroyed', 'lost'].includes(state)) found.push(`instance ${id} is ${state}`);
    }
    for (const id of reality.defined.keys()) if (!known.has(id)) found.push(`a domain ${id} has no record`);
    const volumes = (
      await client.query<{ id: string; state: string; pool: string; role: string; instanceId: string | null }>(
        `SELECT v.id, v.state, coalesce(p.pool, concat_ws(':', p.source->>'server', h.name, p.source->>'path')) AS pool, v.role, v."instanceId"
         FROM "volume" v LEFT JOIN "storagePool" p ON p.id = v."poolId" LEFT JOIN "host" h ON h.id = p."hostId" WHERE v."deletedAt" IS NULL`,
      )
    ).rows;
    const expected = new Set<string>();
    for (const { id, state, pool, role, instanceId } of volumes) {
      const name = `${pool}/volume-${id}`;
      if (state === 'destroyed') {
        if (!reality.trashed.has(name)) found.push(`volume ${id} is destroyed and not in the trash`);
      } else {
        expected.add(name);
        if (!reality.images.has(name)) found.push(`volume ${id} is ${state} without an image`);
      }
      if (role === 'root' && instanceId) expected.add(`${pool}/seed-${instanceId}`);
    }
    for (const image of reality.images) if (!expected.has(image)) found.push(`image ${image} has no record`);
    const trashed = new Set(
      volumes.filter(({ state }) => state === 'destroyed').map(({ id, pool }) => `${pool}/volume-${id}`),
    );
    for (const image of reality.trashed) if (!trashed.has(image)) found.push(`trash ${image} has no record`);
    const ports = (
      await client.query<{ id: string; state: string }>(
        `SELECT n.id, coalesce(i.state, n.state) AS state FROM "networkInterface" n LEFT JOIN "instance" i ON i.id = n."instanceId" WHERE n."deletedAt" IS NULL`,
      )
    ).rows;
    const wanted = new Set(
      ports.filter(({ state }) => state !== 'destroyed' && state !== 'failed').map(({ id }) => id),
    );
    for (const id of wanted) if (!reality.ports.has(id)) found.push(`interface ${id} has no port`);
    for (const id of reality.ports) if (!wanted.has(id)) found.push(`port ${id} has no record`);
    const claims = (
      await client.query<{ wrong: string }>(
        `SELECT c."hostId" || ' has claims of ' || coalesce(s.v, 0) || ' vCPUs and counts ' || c."claimedVcpus" AS wrong FROM "hostCapacity" c
       LEFT JOIN (SELECT "hostId", sum(vcpus) AS v, sum("memoryMib") AS m FROM "hostClaim" GROUP BY 1) s ON s."hostId" = c."hostId"
       WHERE c."claimedVcpus" <> coalesce(s.v, 0) OR c."claimedMemoryMib" <> coalesce(s.m, 0)
       UNION ALL SELECT 'claim of ' || c."instanceId" || ' without a running instance there' FROM "hostClaim" c
         WHERE NOT EXISTS (SELECT 1 FROM "instance" i WHERE i.id = c."instanceId" AND i."hostId" = c."hostId" AND i."deletedAt" IS NULL)
       UNION ALL SELECT 'lock of ended operation ' || l."operationId" FROM "operationLock" l JOIN "operation" o ON o.id = l."operationId" WHERE o."endedAt" IS NOT NULL
       UNION ALL SELECT 'address ' || host(a.address) || ' held by nobody' FROM "subnetAddress" a WHERE a."networkInterfaceId" IS NOT NULL AND a."networkInterfaceId" <> a."subnetId"
         AND NOT EXISTS (SELECT 1 FROM "networkInterface" n WHERE n.id = a."networkInterfaceId" AND n."deletedAt" IS NULL)
         AND NOT EXISTS (SELECT 1 FROM "floatingIp" f WHERE f.id = a."networkInterfaceId" AND f."deletedAt" IS NULL)
         AND NOT EXISTS (SELECT 1 FROM "loadBalancer" b WHERE b.id = a."networkInterfaceId" AND b."deletedAt" IS NULL)
         AND NOT EXISTS (SELECT 1 FROM "targetGroup" g WHERE g.id = a."networkInterfaceId" AND g."deletedAt" IS NULL)
         AND NOT EXISTS (SELECT 1 FROM "vpc" v, jsonb_to_recordset(v.uplinks) AS u(id uuid) WHERE u.id = a."networkInterfaceId" AND v."deletedAt" IS NULL)`,
      )
    ).rows;
    return [...found, ...claims.map(({ wrong }) => wrong)];
  } finally {
    await client.end();
  }
}

/** Reads while the platform is at work on nothing of its own accord, as it asks about guests that were stopped or moved under way. */
export async function atRest<T>(databaseUrl: string, read: () => Promise<T>): Promise<T> {
  const client = await openClient(databaseUrl);
  const asked = async (): Promise<{ ever: string; now: string }> => {
    const { rows } = await client.query<{ ever: string; now: string }>(
      `SELECT count(*) AS ever, count(*) FILTER (WHERE state IN ('queued', 'running', 'rollingBack')) AS now
       FROM "operation" WHERE "actorUserId" = $1`,
      [wellKnown.platform],
    );
    return rows[0] ?? { ever: '0', now: '0' };
  };
  try {
    for (let before = await asked(); ; ) {
      if (before.now === '0') {
        const found = await read();
        const after = await asked();
        if (after.ever === before.ever) return found;
        before = after;
      } else {
        await new Promise((resolve) => setTimeout(resolve, 50));
        before = await asked();
      }
    }
  } finally {
    await client.end();
  }
}
