/** Of a host the command line says in plain words why it is as it is, and what happens next. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostStanding } from '../../../cli/hostStanding.ts';
import { kindOf } from '../../../model/kinds.ts';
import { type Api, belay, problem, startApi } from './api.ts';

const { states, fields } = kindOf('host');
const host = {
  id: '44444444-4444-4444-8444-444444444444',
  name: 'h1',
  state: 'active',
  enabled: true,
  connection: 'connected',
  health: 'well',
  deletedAt: null,
};
const operation = { id: '55555555-5555-4555-8555-555555555555', type: 'host.connect', state: 'running', steps: [] };
const said = (more: object, open: object[] = []): string =>
  hostStanding(
    { ...host, ...more },
    open.map((one) => ({ ...operation, ...one })),
  ).join('\n');

describe('what is said of a host', () => {
  it.each([
    ['well', {}, /It answers, and is in use/],
    ['closed', { enabled: false }, /closed.*belay hosts update h1 --enabled$/],
    ['degraded', { connection: 'degraded' }, /connection to it has broken.*opened again/],
    ['silent', { connection: 'disconnected' }, /not answered for some seconds.*Others are asked/],
    [
      'unreachable',
      { health: 'unreachable', healthReason: 'Its guests are left alone.' },
      /does not answer\. Its guests/,
    ],
    ['suspect', { health: 'suspect', healthReason: 'They are asked once more.' }, /perhaps failed\. They are asked/],
    [
      'down',
      { health: 'down', healthReason: 'Its cluster does not fail over' },
      /has failed\. Its cluster.*belay hosts failover h1/,
    ],
    ['down while it is emptied', { state: 'enteringMaintenance', health: 'down' }, /has failed.*being emptied/],
    ['in maintenance', { state: 'maintenance', maintenanceReason: 'a fan' }, /Why: a fan\..*exit-maintenance h1/],
    ['fencing', { state: 'fencing', stateReason: 'no power' }, /shut out.*started elsewhere\. Why: no power\./],
    ['fenced', { state: 'fenced' }, /--confirm-dead.*reinstate h1.*delete h1 --force/],
  ])('%s', (_, more, words) => {
    expect(said(more).replaceAll('\n', ' ')).toMatch(words);
  });

  it('of one that is dead, nothing is waited for that a person would have to say', () => {
    expect(said({ state: 'fenced', deadAt: '2026-01-01T00:00:00Z' })).not.toContain('--confirm-dead');
  });

  it('of one that is shut out it is told how many of its instances are lost', () => {
    const fenced = (lost: number | null): string =>
      hostStanding({ ...host, state: 'fenced', stateReason: 'no power' }, [], lost).join('\n');
    expect(fenced(3)).toMatch(/Why: no power\.[\s\S]*\n3 of its instances are lost, or.*--filter 'hostId = "/);
    expect(fenced(1)).toContain('1 of its instances is lost, or');
    expect(fenced(0)).toContain('None of its instances is lost.');
    // Nothing waits for that any more.
    expect(fenced(0)).not.toContain('--confirm-dead');
    expect(fenced(null)).toContain('Those of its instances that could not be started elsewhere are lost;');
  });

  it('something is said of every state and health', () => {
    for (const state of states ?? []) expect(said({ state }), state).not.toBe(`It is ${state}.`);
    const healths = (fields.health as unknown as { schema: { enum: string[] } }).schema.enum;
    for (const health of healths.filter((one) => one !== 'well')) expect(said({ health }), health).not.toBe(said({}));
  });

  it.each([
    [
      'at work',
      { steps: [{ name: 'hosts.probe', state: 'running' }] },
      /host\.connect .* is at hosts\.probe.*watch 5555/,
    ],
    ['queued', { state: 'queued' }, /waits for its turn/],
    ['stuck', { state: 'stuck', error: { message: 'no answer' } }, /stuck.*no answer\..*operations retry 5555/],
    ['rolled back', { state: 'rollingBack', error: { message: 'no answer' } }, /takes back.*no answer\./],
    ['waiting for a person', { waitsFor: 'work on it' }, /waits for a person: work on it\./],
  ])('an operation on it is %s', (_, more, words) => {
    expect(said({}, [more])).toMatch(words);
  });
});

describe('belay hosts get', () => {
  let api: Api;
  beforeEach(async () => {
    api = await startApi();
    api.add('hosts', host);
  });
  afterEach(() => api.close());

  it('says it beside the fields, to people only', async () => {
    api.handle('GET /v1/operations', () => ({ items: [{ ...operation, state: 'queued' }], nextPageToken: null }));
    const { code, out, err } = await belay(api, ['hosts', 'get', 'h1']);
    expect([code, out]).toEqual([0, expect.stringContaining('health')]);
    expect(err).toMatch(/It answers, and is in use\.\n.*waits for its turn/);
    expect(api.requests.at(-1)?.query.filter).toContain(host.id);
    for (const more of [
      ['--output', 'json'],
      ['--columns', 'state'],
    ])
      expect((await belay(api, ['hosts', 'get', 'h1', ...more])).err).toBe('');
    expect(api.faults).toEqual([]);
  });

  it('counts what is lost of a host that is shut out', async () => {
    api.add('hosts', { ...host, id: operation.id, name: 'h2', state: 'fenced', deadAt: null });
    api.handle('GET /v1/instances', () => ({ items: [], nextPageToken: null, count: 2 }));
    expect((await belay(api, ['hosts', 'get', 'h2'])).err).toContain('2 of its instances are lost, or');
    expect(api.requests.at(-1)?.query).toMatchObject({ count: 'exact', pageSize: '1' });
    api.handle('GET /v1/instances', () => problem(403, 'FORBIDDEN', 'not yours'));
    expect((await belay(api, ['hosts', 'get', 'h2'])).err).toContain('could not be started elsewhere are lost;');
    await belay(api, ['hosts', 'get', 'h1']);
    expect(api.requests.at(-1)?.path).toBe('/v1/operations');
    expect(api.faults).toEqual([]);
  });

  it('asks for operations in a way that the API takes, and passes over no other refusal', async () => {
    api.add('operations', { ...operation, targetId: host.id, state: 'stuck', error: { message: 'no answer' } });
    expect((await belay(api, ['hosts', 'get', 'h1'])).err).toContain(`belay operations retry ${operation.id}`);
    expect(api.faults).toEqual([]);
    api.handle('GET /v1/operations', () => problem(400, 'INVALID_ARGUMENT', 'no such filter'));
    expect(await belay(api, ['hosts', 'get', 'h1'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('no such filter'),
    });
  });

  it('says the rest to whoever may not read operations', async () => {
    api.handle('GET /v1/operations', () => problem(403, 'FORBIDDEN', 'not yours'));
    const { code, err } = await belay(api, ['hosts', 'get', 'h1']);
    expect([code, err]).toEqual([0, 'It answers, and is in use.\n']);
  });
});
