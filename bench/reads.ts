/** What a read costs beside the least that it could cost. */
import { visibleTo } from '../acceptance/visible.ts';
import { authenticator } from '../api/authenticate.ts';
import { parseListQuery } from '../api/query/parse.ts';
import { listStatement } from '../api/query/read.ts';
import { openDatabase, rowsOf } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { startChild } from './child.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, median, percentile } from './figures.ts';
import type { HttpLoad, Load, SqlLoad } from './load.ts';

const instanceCount = 25_000;

/** Rows as deploys would have left them, spread over states, labels, sizes and days; inserted once. */
async function fill({ stack, cloud }: BenchCloud): Promise<string[]> {
  const database = openDatabase(stack.databaseUrl, 2);
  try {
    await rowsOf(
      database.connections,
      `INSERT INTO "instance" (id, "projectId", name, labels, state, "createdAt", "updatedAt", revision, "zoneId", "instanceTypeId", vcpus, "memoryMib", source, "guestHostname")
       SELECT md5('bench ' || n)::uuid, $1, 'read-' || n, jsonb_build_object('tier', (ARRAY['web', 'db', 'queue', 'batch'])[1 + n % 4], 'number', n::text),
         (ARRAY['running', 'running', 'running', 'stopped'])[1 + n % 4], now() - n * interval '97 seconds', now() - n * interval '31 seconds', 3, $2, $3,
         1 + n % 8, 128 * (1 + n % 16), jsonb_build_object('imageId', $4::text), 'read-' || n
       FROM generate_series(1, $5::int) n ON CONFLICT DO NOTHING`,
      [cloud.project.id, cloud.zone.id, cloud.instanceType.id, cloud.image.id, instanceCount],
    );
    await database.connections.query('VACUUM ANALYZE "instance"');
    const rows = await rowsOf<{ id: string }>(
      database.connections,
      `SELECT id FROM "instance" WHERE name LIKE 'read-%' ORDER BY md5(name) LIMIT 2000`,
    );
    return rows.map(({ id }) => id);
  } finally {
    await database.close();
  }
}

export function requestOf(method: string, path: string, token: string, body?: string): string {
  const content =
    body === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n${content}\r\n${body ?? ''}`;
}

export function allAnswered(load: Load): void {
  const refused = Object.entries(load.statuses).filter(([status]) => !status.startsWith('2'));
  if (refused.length > 0) throw new Error(`${JSON.stringify(load.statuses)}, such as ${load.refusal}`);
}

const rate = (load: Load): number => load.milliseconds.length / load.seconds;

/** Requests per second by id with authentication, beside a bare route; rounds take turns. */
export async function getInstance(bench: BenchCloud): Promise<Figure> {
  const ids = await fill(bench);
  const { tenant, tenantToken } = bench.cloud;
  const sample = await (await tenant.raw('GET', `/v1/instances/${ids[0]}`)).text();
  const bare = startChild('bare-koa.ts');
  const generator = startChild('load.ts');
  try {
    const { port } = await bare.ask<{ port: number }>({ body: sample });
    const requests = ids.map((id) => requestOf('GET', `/v1/instances/${id}`, tenantToken));
    const round = async (to: number, seconds: number): Promise<number> => {
      const load: HttpLoad = { kind: 'http', port: to, requests, connections: 64, limit: { seconds } };
      const done = await generator.ask<Load>(load);
      allAnswered(done);
      return rate(done);
    };
    const apiPort = Number(new URL(bench.stack.apiUrl).port);
    for (const to of [apiPort, port]) await round(to, 2);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let turn = 0; turn < 6; turn++) {
      ours.push(await round(apiPort, 2));
      theirs.push(await round(port, 2));
    }
    return compared(
      'get.instance',
      median(ours),
      median(theirs),
      'requests/s',
      { atLeast: 0.35 },
      `64 connections, ${sample.length} bytes an answer, one API process, ${ids.length} of ${instanceCount} instances; against: Koa with one route that answers a constant`,
    );
  } finally {
    await Promise.all([bare.stop(), generator.stop()]);
  }
}

const listQueries = [
  { filter: 'state = "running" AND labels.tier = "web"', orderBy: 'createdAt desc' },
  { filter: 'memoryMib >= 1024 AND state = "running"', orderBy: 'name' },
  { filter: 'vcpus > 2 AND name : "read-1*"', orderBy: 'memoryMib desc' },
  { filter: 'labels.tier = "db"', orderBy: 'updatedAt desc' },
];

/** p99 of a page of 100, beside the very same statements prepared over one connection; rounds take turns. */
export async function listInstances(bench: BenchCloud): Promise<Figure> {
  await fill(bench);
  const { stack, cloud } = bench;
  const database = openDatabase(stack.databaseUrl, 2);
  const generator = startChild('load.ts');
  try {
    const caller = await authenticator(database).authenticate(`Bearer ${cloud.tenantToken}`, '127.0.0.1');
    const kind: Kind = kindOf('instance');
    const statements = listQueries.map((query) => {
      const parsed = parseListQuery(kind, { ...query, pageSize: '100' }, []);
      return listStatement(kind, parsed, visibleTo(caller, 'list'));
    });
    const requests = listQueries.map((query) =>
      requestOf('GET', `/v1/instances?${new URLSearchParams({ ...query, pageSize: '100' })}`, cloud.tenantToken),
    );
    const http = async (answers: number): Promise<number[]> => {
      const load: HttpLoad = {
        kind: 'http',
        port: Number(new URL(stack.apiUrl).port),
        requests,
        connections: 1,
        limit: { answers },
      };
      const done = await generator.ask<Load>(load);
      allAnswered(done);
      return done.milliseconds;
    };
    const sql = async (answers: number): Promise<number[]> => {
      const load: SqlLoad = { kind: 'sql', url: stack.databaseUrl, statements, answers };
      // The first of each statement is prepared then, which is not what is compared.
      const warm = listQueries.length * 6;
      return (await generator.ask<Load>({ ...load, answers: answers + warm })).milliseconds.slice(warm);
    };
    await http(200);
    await sql(100);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let turn = 0; turn < 6; turn++) {
      ours.push(...(await http(100)));
      theirs.push(...(await sql(100)));
    }
    return compared(
      'list.instances',
      percentile(ours, 0.99),
      percentile(theirs, 0.99),
      'ms',
      { atMost: 3 },
      `p99 of ${ours.length} pages of 100 out of ${instanceCount}, ${listQueries.length} filters and orders in turn, one request at a time (p50 ${median(ours).toFixed(1)} against ${median(theirs).toFixed(1)} ms)`,
    );
  } finally {
    await generator.stop();
    await database.close();
  }
}
