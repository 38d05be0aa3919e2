/** Rows that stand for what would take hours to make through the API: hosts that have joined, and instances that run on them. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { simulatedIp } from '../host-agent/peerAddress.ts';

/** One transaction, past the guards of the tables, which ask for an operation that holds what is written. */
export async function asMigration<T>(client: pg.Client, write: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  await client.query(`SELECT set_config('belay.operation', 'migration', true)`);
  const written = await write();
  await client.query('COMMIT');
  return written;
}

/** Inserts rows of a table that are like another one, under the name `l`, in all columns but their own. `rest` is what stands behind SELECT. */
async function insertLike(
  client: pg.Client,
  { table, own, rest, values }: { table: string; own: Record<string, string>; rest: string; values: unknown[] },
): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = format('%I', $1::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
    [table],
  );
  const columns = rows.map(({ name }) => `"${name}"`);
  const taken = rows.map(({ name }) => own[name] ?? `l."${name}"`);
  await client.query(`INSERT INTO "${table}" (${columns}) SELECT ${taken} FROM ${rest}`, values);
}

const fresh = { createdAt: 'now()', updatedAt: 'now()' };

export interface JoinedHosts {
  /** A host that has really joined; the others are as it is. */
  likeId: string;
  /** The first and the last `n` of `host-<n>`. */
  from: number;
  to: number;
  /** The address of `host-<n>` without its `n`. */
  address: string;
}

/**
 * Hosts that are connected, as if each had been added through the API; answers them. Whoever plays them answers under their addresses, and storage knows
 * each under one of its own.
 */
export async function insertJoinedHosts(
  client: pg.Client,
  { likeId, from, to, address }: JoinedHosts,
): Promise<{ id: string; name: string }[]> {
  const hosts = Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => {
    const name = `host-${from + n}`;
    return { id: randomUUID(), name, address: `${address}${from + n}`, ip: simulatedIp(name) };
  });
  await insertLike(client, {
    table: 'host',
    own: {
      ...fresh,
      id: 'n.id',
      name: 'n.name',
      address: 'n.address',
      lastSeenAt: 'NULL',
      storageClients: `(SELECT jsonb_object_agg(c.key, jsonb_build_array(n.ip)) FROM jsonb_each(l."storageClients") c)`,
    },
    rest: `"host" l, jsonb_to_recordset($2) n(id uuid, name text, address text, ip text) WHERE l.id = $1`,
    values: [likeId, JSON.stringify(hosts)],
  });
  await client.query(
    `INSERT INTO "hostCapacity" ("hostId", "clusterId", "zoneId", vcpus, "memoryMib")
     SELECT h.id, h."clusterId", h."zoneId", 0, 0 FROM "host" h WHERE h.id NOT IN (SELECT "hostId" FROM "hostCapacity")`,
  );
  return hosts;
}

export interface RunningInstances {
  /** An instance with a root volume and an interface; the others are as it is. */
  likeId: string;
  /** On each host that has none; with `at`, of those whose address begins so. */
  perHost: number;
  at?: string;
  /** The id of the instance of a host with a number, in SQL; any, unless said. */
  id?: (host: string, n: string) => string;
  /** Without the checks that tables make of each row. What triggers would have written of the rows is written. */
  unguarded?: boolean;
}

/** Instances that run, with what acceptance and steps would have written of them: claims, a root volume and an interface each. */
export async function insertRunningInstances(
  client: pg.Client,
  { likeId, perHost, at = '', id = () => 'gen_random_uuid()', unguarded = false }: RunningInstances,
): Promise<void> {
  await client.query(
    `CREATE TEMPORARY TABLE made ON COMMIT DROP AS
       SELECT ${id('h.name', 'g')} AS id, gen_random_uuid() AS "volumeId", gen_random_uuid() AS "interfaceId", h.id AS "hostId",
         (SELECT count(*) FROM "instance") + row_number() OVER () AS n
       FROM "host" h, generate_series(0, $1::int - 1) g WHERE starts_with(h.address, $2) AND NOT EXISTS (SELECT 1 FROM "instance" i WHERE i."hostId" = h.id)`,
    [perHost, at],
  );
  if (unguarded) await client.query('SET LOCAL session_replication_role = replica');
  /** That of most of their indexes: so a million rows are written in a fraction of the time. */
  const inOrderOf = (column: string): string => `(SELECT * FROM made ORDER BY "${column}")`;
  const values = [likeId];
  await insertLike(client, {
    table: 'instance',
    own: {
      ...fresh,
      id: 'm.id',
      name: `'instance-' || m.n`,
      hostId: 'm."hostId"',
      rootVolumeId: 'm."volumeId"',
      state: `'running'`,
    },
    rest: `"instance" l, ${inOrderOf('id')} m WHERE l.id = $1`,
    values,
  });
  await client.query(
    `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib")
       SELECT m.id, m."hostId", gen_random_uuid(), i.vcpus, i."memoryMib" FROM made m, "instance" i WHERE i.id = $1`,
    values,
  );
  await client.query(
    `UPDATE "hostCapacity" c SET "claimedVcpus" = s.vcpus, "claimedMemoryMib" = s.mib
       FROM (SELECT "hostId", sum(vcpus) AS vcpus, sum("memoryMib") AS mib FROM "hostClaim" GROUP BY 1) s WHERE s."hostId" = c."hostId"`,
  );
  await insertLike(client, {
    table: 'volume',
    own: { ...fresh, id: 'm."volumeId"', name: `'volume-' || m.n`, instanceId: 'm.id' },
    rest: `"volume" l, ${inOrderOf('volumeId')} m WHERE l."instanceId" = $1 AND l.role = 'root'`,
    values,
  });
  await insertLike(client, {
    table: 'networkInterface',
    own: {
      ...fresh,
      id: 'm."interfaceId"',
      name: `'interface-' || m.n`,
      instanceId: 'm.id',
      mac: `regexp_replace('06' || lpad(to_hex(m.n), 10, '0'), '(..)(?!$)', '\\1:', 'g')`,
      address: `'11.0.0.0'::inet + m.n`,
    },
    rest: `"networkInterface" l, ${inOrderOf('interfaceId')} m WHERE l.id = (SELECT id FROM "networkInterface" WHERE "instanceId" = $1 LIMIT 1)`,
    values,
  });
  if (unguarded)
    await client.query(
      `INSERT INTO "identity" (id, kind) SELECT id, 'instance' FROM made UNION ALL SELECT "volumeId", 'volume' FROM made
         UNION ALL SELECT "interfaceId", 'networkInterface' FROM made`,
    );
}
