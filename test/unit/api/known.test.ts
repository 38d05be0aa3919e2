/** On every route of the API's document: what it does not name is refused by name, before anything is looked at. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemCaller } from '../../../acceptance/caller.ts';
import { askingHeaders } from '../../../api/known.ts';
import { openApiDocument } from '../../../api/openapi.ts';
import type { Api } from '../../../api/request.ts';
import { buildServer } from '../../../api/server.ts';
import { inBatches } from '../../../lab/provision.ts';

interface Route {
  parameters?: { name: string; in: string }[];
  requestBody?: unknown;
}

let server: Server;
let url: string;

beforeAll(async () => {
  // Nothing behind the door: whoever gets through it finds no database, and answers 500. Every request is of another account, so that
  // nobody has asked too often.
  const api = {
    authenticator: { authenticate: async () => ({ ...systemCaller(), accountId: crypto.randomUUID() }) },
    database: {},
    log: { debug() {}, error() {}, warn() {} },
  } as unknown as Api;
  server = buildServer(api);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => void server.close());

const routes = Object.entries(openApiDocument().paths as Record<string, Record<string, Route>>).flatMap(
  ([path, methods]) =>
    ['get', 'post', 'patch', 'put', 'delete'].flatMap((method) => {
      const route = methods[method];
      return route ? [{ method, path: path.replace('{id}', crypto.randomUUID()), route }] : [];
    }),
);

/** One that is nowhere, and those that mean something elsewhere. */
const parameters = ['nonsense', 'dryRun', 'onBusy', 'cascade', 'waitSeconds', 'fields', 'filter', 'follow'];

interface Told {
  status: number;
  told?: string;
  code?: string;
  field?: string;
}

async function ask(method: string, path: string, headers: Record<string, string>, body?: string): Promise<Told> {
  const init = { method: method.toUpperCase(), headers, ...(body === undefined ? {} : { body }) };
  const response = await fetch(`${url}${path}`, init);
  const text = await response.text();
  if (!(response.headers.get('content-type') ?? '').includes('problem')) return { status: response.status };
  const { code, detail, violations } = JSON.parse(text) as {
    code: string;
    detail: string;
    violations?: { field: string }[];
  };
  return { status: response.status, code, told: detail, ...(violations?.[0] ? { field: violations[0].field } : {}) };
}

const refusedAs = (field: string): Told => ({ status: 422, code: 'INVALID_ARGUMENT', field });

/** What of many tries was not refused as it should be. */
async function passed(tries: { what: string; field: string; asked: () => Promise<Told> }[]): Promise<string[]> {
  const answers = await inBatches(tries, 20, async ({ what, field, asked }) => {
    const told = await asked();
    const { told: detail, ...rest } = told;
    return JSON.stringify(rest) === JSON.stringify(refusedAs(field))
      ? []
      : [`${what}: ${JSON.stringify(rest)} ${detail}`];
  });
  return answers.flat();
}

const named = (route: Route, place: string): string[] =>
  (route.parameters ?? []).flatMap((one) => (one.in === place ? [one.name] : []));

test('a parameter that means nothing there', async () => {
  const tries = routes.flatMap(({ method, path, route }) =>
    parameters
      .filter((name) => !named(route, 'query').includes(name))
      .map((name) => ({
        what: `${method} ${path}?${name}`,
        field: name,
        asked: () => ask(method, `${path}?${name}=true`, {}),
      })),
  );
  expect(await passed(tries)).toEqual([]);
  expect(tries.length).toBeGreaterThan(1000);
}, 120_000);

test('what means something is not refused for it', async () => {
  const tries = routes.flatMap(({ method, path, route }) =>
    named(route, 'query').map((name) => ({
      what: `${method} ${path}?${name}`,
      field: name,
      asked: () => ask(method, `${path}?${name}=true`, {}),
    })),
  );
  const answers = await inBatches(tries, 20, async ({ asked, what }) => ({ what, ...(await asked()) }));
  const refusals = answers.filter(({ told }) => told?.includes('is no parameter here'));
  expect(refusals).toEqual([]);
}, 120_000);

test('a header that means nothing there', async () => {
  const tries = routes.flatMap(({ method, path, route }) =>
    askingHeaders
      .filter((name) => !named(route, 'header').includes(name))
      .map((name) => ({
        what: `${method} ${path} ${name}`,
        field: name,
        asked: () => ask(method, path, { [name]: '"1"' }),
      })),
  );
  expect(await passed(tries)).toEqual([]);
}, 120_000);

test('a body where none is taken', async () => {
  const tries = routes
    .filter(({ method, route }) => method === 'delete' && !route.requestBody)
    .map(({ method, path }) => ({
      what: `${method} ${path}`,
      field: 'body',
      asked: () => ask(method, path, { 'content-type': 'application/json' }, '{"force":true}'),
    }));
  expect(await passed(tries)).toEqual([]);
  expect(tries.length).toBeGreaterThan(20);
});

test('a parameter of the routes that are no part of the document', async () => {
  for (const path of ['/healthz', '/readyz', '/metrics'])
    expect(await ask('get', `${path}?nonsense=1`, {})).toMatchObject(refusedAs('nonsense'));
});

test('what only makes a list, of a stream of events, and a place in the stream, of a list', async () => {
  for (const name of ['orderBy', 'pageSize', 'pageToken', 'fields', 'count', 'showDeleted'])
    expect(await ask('get', `/v1/events?follow=true&${name}=1`, {})).toMatchObject(refusedAs(name));
  expect(await ask('get', '/v1/events', { 'Last-Event-ID': '7' })).toMatchObject(refusedAs('Last-Event-ID'));
});
