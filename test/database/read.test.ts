import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Visible } from '../../acceptance/visible.ts';
import { compileFilter } from '../../api/query/compile.ts';
import { parseFilter } from '../../api/query/filter.ts';
import { type ListQuery, ProblemInput, parseListQuery } from '../../api/query/parse.ts';
import { eventsStatement, getStatement, type ListRow, listBody, listStatement } from '../../api/query/read.ts';
import { relationsOf } from '../../api/query/relations.ts';
import { sql } from '../../database/sql.ts';
import { columnsOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds, type KindName, kindOf } from '../../model/kinds.ts';
import { startTestDatabase, type TestDatabase } from '../support/kindTables.ts';

const uuid = (number: number): string => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
const MINE = uuid(1);
const OTHERS = uuid(2);
const EMPTY = uuid(9);

const everything: Visible = () => null;
/** A tenant: the resources of one project, the catalogue, and nothing of the platform. */
const tenant: Visible = (kind, alias) => {
  if (kind.scope === 'project') return sql`${alias}."projectId" = ANY(${[MINE]}::uuid[])`;
  return kind.catalogue ? null : sql`FALSE`;
};

let database: TestDatabase;

const insert = (kind: KindName, row: Record<string, unknown>) => {
  const names = Object.keys(row);
  const places = names.map((_, at) => `$${at + 1}`).join(', ');
  const text = `INSERT INTO "${kind}" (${names.map((name) => `"${name}"`).join(', ')}) VALUES (${places})`;
  const values = Object.values(row).map((value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? JSON.stringify(value) : value,
  );
  return database.client.query(text, values);
};

interface Page {
  items: Record<string, unknown>[];
  nextPageToken: string | null;
  count?: number;
}

async function list(kind: KindName, parameters: Record<string, unknown>, visible: Visible = everything): Promise<Page> {
  const query = parseListQuery(kindOf(kind), parameters);
  const { rows } = await database.client.query<ListRow>(listStatement(kindOf(kind), query, visible));
  const [row] = rows;
  if (!row || rows.length !== 1) throw new Error('a list is one row');
  return JSON.parse(listBody(query, row));
}

/** Names of what a filter finds, sorted. */
async function found(kind: KindName, filter: string, visible: Visible = everything): Promise<string> {
  const { items } = await list(kind, { filter, pageSize: 500, orderBy: 'name' }, visible);
  return items.map(({ name }) => name).join(' ');
}

beforeAll(async () => {
  database = await startTestDatabase();
  const zone = { zoneId: uuid(100) };
  await insert('zone', { id: uuid(100), name: 'z1' });
  await insert('pod', { id: uuid(101), name: 'p1', ...zone });
  await insert('cluster', { id: uuid(102), name: 'c1', podId: uuid(101), ...zone });
  await insert('host', { id: uuid(110), name: 'h1', clusterId: uuid(102), address: '10.0.0.1', state: 'active' });
  await insert('host', { id: uuid(111), name: 'h2', clusterId: uuid(102), address: '10.0.0.2', state: 'maintenance' });
  await insert('host', {
    id: uuid(112),
    name: 'gone',
    clusterId: uuid(102),
    address: '10.0.0.3',
    state: 'active',
    deletedAt: '2026-01-01T00:00:00Z',
  });
  await insert('instanceType', { id: uuid(120), name: 'small', vcpus: 1, memoryMib: 512 });
  await insert('keyPair', { id: uuid(130), name: 'alice', projectId: MINE, publicKey: 'ssh-ed25519 AAAA' });
  const common = { ...zone, instanceTypeId: uuid(120), source: { imageId: uuid(140) }, projectId: MINE };
  const instances: Record<string, unknown>[] = [
    {
      name: 'web-1',
      state: 'running',
      hostId: uuid(110),
      vcpus: 2,
      labels: { env: 'prod', 'app/tier': 'front' },
      keyPairIds: [uuid(130)],
    },
    {
      name: 'web-2',
      state: 'running',
      hostId: uuid(111),
      vcpus: 4,
      labels: { env: 'test' },
      observed: { disks: [{ path: 'vda', bytes: 5 }], flags: ['a', 'b'], agent: { version: 3, up: true } },
    },
    {
      name: 'db_1',
      state: 'stopped',
      vcpus: 8,
      description: '100% Datenbank',
      source: { snapshotId: uuid(141) },
      createdAt: '2026-01-31T12:00:00.123456Z',
    },
    { name: 'lost', state: 'running', hostId: uuid(112), labels: { env: 'a.b' } },
    { name: 'theirs', state: 'running', hostId: uuid(110), projectId: OTHERS, vcpus: 2 },
    { name: 'old', state: 'expunged', deletedAt: '2026-01-01T00:00:00Z' },
  ];
  for (const [at, row] of instances.entries()) await insert('instance', { id: uuid(200 + at), ...common, ...row });
  const volume = { ...zone, volumeTypeId: uuid(121), state: 'ready' };
  await insert('volume', {
    id: uuid(300),
    name: 'v1',
    ...volume,
    projectId: MINE,
    sizeGib: 200,
    instanceId: uuid(200),
    role: 'root',
  });
  await insert('volume', { id: uuid(301), name: 'v2', ...volume, projectId: MINE, sizeGib: 10, instanceId: uuid(201) });
  await insert('volume', {
    id: uuid(302),
    name: 'v3',
    ...volume,
    projectId: OTHERS,
    sizeGib: 500,
    instanceId: uuid(201),
  });
  await insert('volume', {
    id: uuid(303),
    name: 'v4',
    ...volume,
    projectId: MINE,
    sizeGib: 900,
    instanceId: uuid(202),
    deletedAt: '2026-01-01T00:00:00Z',
  });
  await insert('securityGroup', {
    id: uuid(400),
    name: 'sg',
    state: 'ready',
    projectId: MINE,
    zoneId: uuid(100),
    rules: JSON.stringify([
      { direction: 'in', protocol: 'tcp', fromPort: 22 },
      { direction: 'out', protocol: 'udp' },
    ]),
  });
  await insert('networkInterface', {
    id: uuid(401),
    name: 'n1',
    state: 'ready',
    projectId: MINE,
    instanceId: uuid(200),
    subnetId: uuid(402),
    address: '10.1.0.5',
    securityGroupIds: [uuid(400)],
  });
  await insert('subnet', {
    id: uuid(402),
    name: 's1',
    state: 'ready',
    projectId: MINE,
    networkId: uuid(403),
    cidr: '10.1.0.0/24',
    dnsServers: JSON.stringify(['1.1.1.1', '9.9.9.9']),
  });
  for (let at = 1; at <= 5; at++) {
    await insert('event', {
      id: uuid(500 + at),
      projectId: at % 2 ? MINE : OTHERS,
      type: `instance.${at === 3 ? 'created' : 'started'}`,
      sequence: at,
      payload: { at },
    });
  }
  await insert('image', {
    id: uuid(600),
    name: 'debian',
    state: 'ready',
    projectId: MINE,
    zoneId: uuid(100),
    sizeBytes: '9007199254740991',
  });
  await insert('apiKey', { id: uuid(601), name: 'key', userId: uuid(602), secretHash: 'never told', accessKey: 'AK' });
}, 60_000);

afterAll(() => database.stop());

describe('filters find', () => {
  it.each<[KindName, string, string]>([
    ['instance', 'state = running', 'lost theirs web-1 web-2'],
    ['instance', 'state != running', 'db_1'],
    ['instance', 'NOT state = running', 'db_1'],
    ['instance', '-state = running', 'db_1'],
    ['instance', 'state:run*', 'lost theirs web-1 web-2'],
    ['instance', 'name = "web*"', 'web-1 web-2'],
    ['instance', 'name = *1', 'db_1 web-1'],
    ['instance', 'name = *e*', 'theirs web-1 web-2'],
    ['instance', 'name != web*', 'db_1 lost theirs'],
    ['instance', 'name = "db_*"', 'db_1'],
    ['instance', 'name = "web_*"', ''],
    ['instance', 'name:WEB', 'web-1 web-2'],
    ['instance', 'description:"100%"', 'db_1'],
    ['instance', 'name > lost', 'theirs web-1 web-2'],
    ['instance', '"datenBANK"', 'db_1'],
    ['instance', 'vcpus >= 4', 'db_1 web-2'],
    ['instance', 'vcpus != 2', 'db_1 lost web-2'],
    ['instance', 'NOT vcpus = 2', 'db_1 lost web-2'],
    ['instance', 'vcpus = null', 'lost'],
    ['instance', 'vcpus:*', 'db_1 theirs web-1 web-2'],
    ['instance', 'NOT vcpus > 2', 'lost theirs web-1'],
    ['instance', 'vcpus < 9223372036854775807', 'db_1 theirs web-1 web-2'],
    ['instance', 'hostId != null AND state = running OR state = stopped', 'lost theirs web-1 web-2'],
    ['instance', '(hostId != null AND state = running) OR state = stopped', 'db_1 lost theirs web-1 web-2'],
    ['instance', 'createdAt = 2026-01-31T12:00:00.123456Z', 'db_1'],
    ['instance', 'createdAt = 2026-01-31T14:00:00.123456+02:00', 'db_1'],
    ['instance', 'createdAt >= 2026-01-31 createdAt < 2026-02-01', 'db_1'],
    ['instance', 'deleteProtection = false name = lost', 'lost'],
    ['instance', 'labels.env = prod', 'web-1'],
    ['instance', 'labels.env != prod', 'db_1 lost theirs web-2'],
    ['instance', 'labels.env = "a.b"', 'lost'],
    ['instance', 'labels.__proto__ = prod', ''],
    ['instance', 'labels.env = "prod\\"}"', ''],
    ['instance', 'labels.env:*', 'lost web-1 web-2'],
    ['instance', 'labels.env:PRO', 'web-1'],
    ['instance', 'labels.env = null', 'db_1 theirs'],
    ['instance', 'labels:env', 'lost web-1 web-2'],
    ['instance', 'labels:"app/tier"', 'web-1'],
    ['instance', 'labels.app/tier = front*', 'web-1'],
    ['instance', 'labels:*', 'lost web-1 web-2'],
    ['instance', 'systemLabels:x', ''],
    ['instance', `source.snapshotId = "${uuid(141)}"`, 'db_1'],
    ['instance', 'source.imageId = null', 'db_1'],
    ['instance', 'source:snapshotId', 'db_1'],
    ['instance', 'observed.agent.version > 2', 'web-2'],
    ['instance', 'observed.agent.version = 3.0', 'web-2'],
    ['instance', 'observed.agent.version = "3"', 'web-2'],
    ['instance', 'observed.agent.version != 3', ''],
    ['instance', 'observed.agent.up = true', 'web-2'],
    ['instance', 'observed.flags:a', 'web-2'],
    ['instance', 'observed:disks', 'web-2'],
    ['instance', 'observed.disks:(path = vda bytes < 6)', 'web-2'],
    ['instance', 'observed.disks:(path = vdb)', ''],
    ['instance', 'observed.agent:(version = 3)', ''],
    ['instance', 'observed = null', 'db_1 lost theirs web-1'],
    ['instance', `keyPairIds:"${uuid(130)}"`, 'web-1'],
    ['instance', 'keyPairIds:*', 'web-1'],
    ['securityGroup', 'rules:(protocol = tcp AND fromPort <= 22)', 'sg'],
    ['securityGroup', 'rules:(protocol = udp AND fromPort <= 22)', ''],
    ['securityGroup', 'rules.protocol:udp', 'sg'],
    ['securityGroup', 'rules:*', 'sg'],
    ['subnet', 'dnsServers:"9.9.9.9"', 's1'],
    ['subnet', 'dnsServers:"9.9.9"', ''],
    ['image', 'sizeBytes = 9007199254740991', 'debian'],
    ['storagePool', 'overprovision > 1e0', ''],
  ])('%s: %s → %s', async (kind, filter, names) => {
    expect(await found(kind, filter)).toBe(names);
  });

  it.each<[KindName, string, string]>([
    ['instance', 'host.name = h1', 'theirs web-1'],
    ['instance', 'host.name != h1', 'web-2'],
    ['instance', 'NOT host.name = h1', 'db_1 lost web-2'],
    ['instance', 'host:*', 'theirs web-1 web-2'],
    ['instance', `host.cluster.zoneId = "${uuid(100)}"`, 'theirs web-1 web-2'],
    ['instance', 'host.cluster.pod.zone.name = z1', 'theirs web-1 web-2'],
    ['instance', 'host:(state = active address = "10.*")', 'theirs web-1'],
    ['instance', 'volumes:(sizeGib > 100)', 'web-1 web-2'],
    ['instance', 'volumes:(sizeGib > 100 role = root)', 'web-1'],
    ['instance', 'volumes.role:data', 'web-2'],
    ['instance', 'NOT volumes:*', 'db_1 lost theirs'],
    ['instance', 'keyPairs:(name = alice)', 'web-1'],
    ['instance', 'networkInterfaces:(address = "10.1.0.5")', 'web-1'],
    ['instance', 'networkInterfaces:(securityGroups:(rules:(fromPort = 22)))', 'web-1'],
    ['host', 'instances:(state = running vcpus > 3)', 'h2'],
    ['host', 'NOT instances:*', ''],
    ['volume', 'instance.host.name = h1', 'v1'],
    ['securityGroup', 'networkInterfaces.address:"10.1"', 'sg'],
    ['keyPair', 'instances:(name = web-1)', 'alice'],
    ['cluster', 'hosts:(instances:(volumes:(sizeGib = 200)))', 'c1'],
  ])('across relations, %s: %s → %s', async (kind, filter, names) => {
    expect(await found(kind, filter)).toBe(names);
  });
});

describe('a filter that is accepted', () => {
  const signs = ['=', '!=', '<', '<=', '>', '>=', ':'];
  const values = [
    'x',
    '""',
    '1',
    '-1.5e3',
    '9223372036854775807',
    'true',
    'null',
    '*',
    '"a*"',
    '"100%_\\\\"',
    '"\\\\*"',
    `'"}'`,
  ];
  values.push(uuid(1), '2026-01-31T12:00:00.123456789+14:00', '0001-01-01', '9999-12-31');

  it('is one that PostgreSQL can answer, whatever the field, the comparison and the value', async () => {
    let accepted = 0;
    const ask = async (kind: Kind, paths: string[], more: string[], atOnce: number) => {
      const terms = paths
        .flatMap((path) => signs.flatMap((sign) => values.map((value) => `${path} ${sign} ${value}`)))
        .concat(more)
        .filter((term) => isAccepted(kind, term));
      accepted += terms.length;
      for (let at = 0; at < terms.length; at += atOnce) {
        const filter = terms.slice(at, at + atOnce).join(' OR ');
        await list(kind.name as KindName, { filter, pageSize: 1, fields: 'id' }).catch((error) => {
          throw new Error(`${kind.name}: ${filter}`, { cause: error });
        });
      }
    };
    for (const kind of allKinds) {
      const [documents, scalars] = [true, false].map((json) =>
        columnsOf(kind).flatMap(({ name, type }) => ((type === 'jsonb') === json ? [name] : [])),
      );
      const relations = [...relationsOf(kind).keys()];
      await ask(kind, scalars ?? [], [], 60);
      const within = (documents ?? []).flatMap((name) => [name, `${name}.k`, `${name}.k.1`]);
      await ask(
        kind,
        within,
        within.flatMap((path) => [`${path}:(name = x)`, `${path}:(k > 1 NOT k = true)`]),
        8,
      );
      await ask(
        kind,
        relations.slice(0, 3),
        relations.flatMap((name) => [`${name}:(name = x*)`, `${name}.name:x`]),
        8,
      );
    }
    expect(accepted).toBeGreaterThan(10_000);
  }, 240_000);

  const isAccepted = (kind: Kind, term: string): boolean => {
    try {
      parseListQuery(kind, { filter: term });
      return true;
    } catch (error) {
      if (error instanceof ProblemInput) return false;
      throw error;
    }
  };
});

describe('what a caller may not see', () => {
  it.each([
    ['host.name = h1', ''],
    ['host.name != h1', ''],
    ['host:*', ''],
    ['host.cluster.zone.name = z1', ''],
    // True of all: nothing can be learnt from it.
    ['NOT host.name = h1', 'db_1 lost web-1 web-2'],
    ['NOT host.name = nonsense', 'db_1 lost web-1 web-2'],
    ['volumes:(sizeGib >= 500)', ''],
    ['volumes:(sizeGib < 500)', 'web-1 web-2'],
    ['zone.name = z1', 'db_1 lost web-1 web-2'],
    ['zone.hosts:(name = h1)', ''],
    ['project.instances:(name = theirs)', ''],
    ['keyPairs:(instances:(name = theirs))', ''],
  ])('%s finds %j', async (filter, names) => {
    expect(await found('instance', filter, tenant)).toBe(names);
  });

  it('is not counted either', async () => {
    expect(await list('instance', { count: 'exact', pageSize: 1 }, tenant)).toMatchObject({ count: 4 });
    expect(await list('host', { count: 'exact' }, tenant)).toEqual({ items: [], nextPageToken: null, count: 0 });
  });

  it('is not there when asked for by id', async () => {
    const get = (id: string, visible: Visible) =>
      database.client.query(getStatement(kindOf('instance'), [id], { visible }));
    expect((await get(uuid(204), tenant)).rows).toEqual([]);
    expect((await get(uuid(204), everything)).rows).toHaveLength(1);
  });
});

describe('what is told', () => {
  const get = async (kind: KindName, id: string, options = {}) =>
    (await database.client.query(getStatement(kindOf(kind), [id], { visible: everything, ...options }))).rows[0];

  it('is JSON with instants in UTC to the microsecond, numbers as numbers, and nulls', async () => {
    await database.client.query(`SET timezone TO 'Asia/Kolkata'`);
    const row = await get('instance', uuid(202));
    await database.client.query('RESET timezone');
    expect(row).toMatchObject({ projectId: MINE, revision: 1 });
    expect(JSON.parse(row.json)).toMatchObject({
      id: uuid(202),
      createdAt: '2026-01-31T12:00:00.123456Z',
      deletedAt: null,
      vcpus: 8,
      labels: {},
      keyPairIds: [],
      source: { snapshotId: uuid(141) },
      deleteProtection: false,
    });
    expect((await get('image', uuid(600))).json).toContain('"sizeBytes":9007199254740991,');
    expect(await get('zone', uuid(100))).not.toHaveProperty('projectId');
  });

  it('is never a hidden column, whatever the mask says', async () => {
    for (const options of [{}, { fields: ['secretHash', 'name'] }]) {
      expect((await get('apiKey', uuid(601), options)).json).not.toContain('never told');
    }
    const { items } = await list('apiKey', {});
    expect(items[0]).not.toHaveProperty('secretHash');
  });

  it('is what the mask names, and the id', async () => {
    expect(JSON.parse((await get('instance', uuid(202), { fields: ['name'] })).json)).toEqual({
      id: uuid(202),
      name: 'db_1',
    });
    const { items } = await list('instance', { fields: 'state,name', filter: 'name = lost' });
    expect(items).toEqual([{ id: uuid(203), name: 'lost', state: 'running' }]);
  });

  it('leaves out tombstones unless asked', async () => {
    expect(await get('instance', uuid(205))).toBeUndefined();
    expect(await get('instance', uuid(205), { showDeleted: true })).toBeDefined();
    expect((await list('instance', {})).items).toHaveLength(5);
    expect((await list('instance', { showDeleted: 'true' })).items).toHaveLength(6);
  });

  it('hostile text comes back as it is', async () => {
    const name = `'"; DROP TABLE "zone"; --\\ \u2028`;
    await insert('pod', { id: uuid(700), name, zoneId: EMPTY });
    expect(await found('pod', `name = "${name.replace(/[\\"]/g, '\\$&')}"`)).toBe(name);
  });
});

describe('events', () => {
  it('come in order after a sequence number, filtered and visible only', async () => {
    const kind = kindOf('event');
    const eventsAfter = async (sequence: number | string, limit: number, filter: string, visible: Visible) => {
      const expression = parseFilter(filter);
      const condition = expression && compileFilter(kind, expression);
      const { rows } = await database.client.query(eventsStatement(sequence, limit, condition, visible));
      return rows;
    };
    expect((await eventsAfter(0, 10, '', everything)).map(({ sequence }) => sequence)).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
    ]);
    expect((await eventsAfter('2', 2, '', everything)).map(({ sequence }) => sequence)).toEqual(['3', '4']);
    expect((await eventsAfter(0, 10, '', tenant)).map(({ sequence }) => sequence)).toEqual(['1', '3', '5']);
    const [created, ...rest] = await eventsAfter(0, 10, 'type = instance.created', tenant);
    expect(rest).toEqual([]);
    expect(created).toMatchObject({ sequence: '3', type: 'instance.created' });
    expect(JSON.parse(created.json)).toMatchObject({ sequence: 3, payload: { at: 3 } });
  });
});

describe('pages of many', () => {
  const MANY = 25_000;
  const project = (number: number): string => uuid(10_000 + number);
  const owner: Visible = (kind, alias) =>
    kind.scope === 'project' ? sql`${alias}."projectId" = ANY(${[project(3)]}::uuid[])` : null;

  beforeAll(async () => {
    // Ties in every order key, and missing values, so that pages could go wrong.
    await database.client.query(
      `INSERT INTO instance (id, "projectId", name, state, "zoneId", "instanceTypeId", vcpus, "memoryMib", source, "createdAt")
       SELECT gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((10000 + g % 5)::text, 12, '0'))::uuid, 'vm-' || g % 500,
         (ARRAY['running', 'stopped', 'running'])[1 + (g / 5) % 3], $1, $1, CASE WHEN g % 7 > 0 THEN g % 9 END,
         CASE WHEN g % 10 > 0 THEN 512 * (g % 4) END, '{}', TIMESTAMPTZ '2026-06-01Z' - (g / 3) * INTERVAL '1.000001 second'
       FROM generate_series(1, ${MANY}) g`,
      [uuid(100)],
    );
    await database.client.query('ANALYZE instance');
  }, 60_000);

  const inOrder = (orderBy: string): string =>
    [...orderBy.split(','), `id ${orderBy.trim().split(' ').at(-1) === 'desc' ? 'desc' : ''}`]
      .map((key) => key.trim().split(' '))
      .map(([name, direction]) => `"${name}" ${direction ?? ''} NULLS LAST`)
      .join(', ');

  it.each([
    'createdAt desc',
    'createdAt',
    'name',
    'state desc',
    'memoryMib',
    'memoryMib desc',
    'vcpus desc',
    'state, name',
    'state desc, createdAt',
    'memoryMib, vcpus',
    'memoryMib desc, vcpus desc',
    'vcpus desc, memoryMib, name desc',
  ])(
    'ordered by %s hold each resource once and in order',
    async (orderBy) => {
      const filter = 'state = running OR name = "vm-1*"';
      const ids: unknown[] = [];
      let pageToken: string | null = null;
      let pages = 0;
      do {
        const parameters: Record<string, unknown> = { orderBy, filter, fields: 'id', pageSize: 450, pageToken };
        const page: Page = await list('instance', parameters, owner);
        ids.push(...page.items.map(({ id }) => id));
        pageToken = page.nextPageToken;
        pages += 1;
      } while (pageToken !== null && pages < 30);
      const { rows } = await database.client.query(
        `SELECT id FROM instance WHERE "projectId" = $1 AND (state = 'running' OR name LIKE 'vm-1%') ORDER BY ${inOrder(orderBy)}`,
        [project(3)],
      );
      expect(rows.length).toBeGreaterThan(3000);
      expect(ids).toEqual(rows.map(({ id }) => id));
      expect(pages).toBe(Math.ceil(rows.length / 450));
    },
    30_000,
  );

  it('the last page has no token, also when it is full', async () => {
    const filter = `projectId = ${project(3)} name = vm-3`;
    const { items } = await list('instance', { filter, pageSize: 500 });
    expect(items.length).toBeGreaterThan(1);
    expect(await list('instance', { filter, pageSize: items.length })).toMatchObject({ nextPageToken: null });
    expect(await list('instance', { filter, pageSize: items.length - 1 })).toMatchObject({
      nextPageToken: expect.any(String),
    });
  });

  const planOf = async (query: ListQuery, visible: Visible): Promise<{ nodes: string[]; blocks: number }> => {
    const statement = listStatement(kindOf('instance'), query, visible);
    const { rows } = await database.client.query(
      `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${statement.text}`,
      statement.values,
    );
    const [explained] = rows[0]['QUERY PLAN'];
    const nodes: string[] = [];
    const walk = (node: Record<string, unknown>) => {
      nodes.push([node['Node Type'], node['Index Name'], node['Index Cond']].filter(Boolean).join(' '));
      for (const child of (node.Plans as Record<string, unknown>[] | undefined) ?? []) walk(child);
    };
    walk(explained.Plan);
    return { nodes, blocks: explained.Plan['Shared Hit Blocks'] + explained.Plan['Shared Read Blocks'] };
  };

  it.each([
    ['createdAt desc', 'instance_projectId_createdAt_id_idx'],
    ['name', 'instance_projectId_name_id_idx'],
    ['memoryMib desc', 'instance_projectId_memoryMib_id_idx'],
  ])('of a project, ordered by %s, are ranges of its index', async (orderBy, index) => {
    const parameters = { filter: `projectId = ${project(3)} AND state = running`, orderBy, pageSize: '100' };
    const first = parseListQuery(kindOf('instance'), parameters);
    const { nextPageToken } = await list('instance', parameters, owner);
    const second = parseListQuery(kindOf('instance'), { ...parameters, pageToken: nextPageToken });
    for (const query of [first, second]) {
      const { nodes, blocks } = await planOf(query, owner);
      expect(nodes.filter((node) => node.startsWith('Seq Scan'))).toEqual([]);
      expect(nodes.some((node) => node.startsWith(`Index Scan ${index}`))).toBe(true);
      // At most a few blocks for each of the hundred rows, whatever the table holds.
      expect(blocks).toBeLessThan(300);
      if (query === second) expect(nodes.join()).toContain('ROW(');
    }
  });

  it('stay ranges of the index when the server plans a statement once for all values', async () => {
    const one: Visible = (_, alias) => sql`${alias}."projectId" = ${project(3)}::uuid`;
    const query = parseListQuery(kindOf('instance'), { pageSize: '100' });
    const statement = listStatement(kindOf('instance'), query, one);
    expect(statement.name).toMatch(/^q_/);
    await database.client.query(statement);
    await database.client.query('SET plan_cache_mode TO force_generic_plan');
    const values = statement.values.map((value) => `'${value}'`);
    const explained = await database.client.query(`EXPLAIN ANALYZE EXECUTE "${statement.name}" (${values.join(', ')})`);
    await database.client.query('RESET plan_cache_mode');
    const plan = explained.rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toContain('Index Scan Backward using "instance_projectId_createdAt_id_idx"');
    expect(plan).toContain('Run Condition');
  });

  it('are planned anew for a list of projects, whose length a plan for all values could not know', () => {
    expect(listStatement(kindOf('instance'), parseListQuery(kindOf('instance'), {}), owner).name).toBe('');
  });
});
