/** What an operation would come to, and has come to, is told in words and tables, with names in the place of ids. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, belay, startApi } from './api.ts';

const instance = '11111111-1111-4111-8111-111111111111';
const [from, to, idle] = ['2', '3', '4'].map((digit) => `${digit}2222222-2222-4222-8222-222222222222`);

let api: Api;
beforeEach(async () => {
  api = await startApi();
  for (const [id, name] of [
    [from, 'h1'],
    [to, 'h2'],
    [idle, 'h3'],
  ])
    api.add('hosts', { id, name });
  api.add('clusters', { name: 'kvm' });
});
afterEach(async () => {
  expect(api.faults).toEqual([]);
  await api.close();
});

const words = (line: string): string[] => line.split(' ');
/** Without what columns are filled up with. */
const plain = (text: string): string => text.replace(/ +$/gm, '').replace(/ {2,}/g, '  ');

describe('a dry run', () => {
  const plans = (route: string, plan: unknown): void =>
    api.handle(`POST ${route}`, () => ({ steps: [], locks: [], quotaDelta: {}, warnings: [], plan }));
  const missing = `no host has room for it: ${'4096 MiB are wanted, '.repeat(4)}and none has them`;

  it('of a rolling maintenance tells which hosts have their turn, which are left alone and why, and what goes where', async () => {
    plans('/v1/clusters/{id}/actions/rollingMaintenance', {
      hosts: [
        { id: from, name: 'h1' },
        { id: to, name: 'h2' },
      ],
      skipped: [{ hostId: idle, hostName: 'h3', reason: 'it is disconnected' }],
      moves: [
        { instanceId: instance, instanceName: 'web', fromHostId: from, toHostId: to, missing: null },
        { instanceId: instance, instanceName: 'db', fromHostId: from, toHostId: null, missing },
      ],
    });
    const { code, out } = await belay(api, words('clusters rolling-maintenance kvm --dry-run'));
    expect([code, plain(out)]).toEqual([
      0,
      [
        'hosts',
        '  id  name',
        `  ${from}  h1`,
        `  ${to}  h2`,
        '',
        'skipped',
        '  host  reason',
        '  h3  it is disconnected',
        '',
        'moves',
        '  instance  fromHost  toHost  missing',
        '  web  h1  h2  -',
        `  db  h1  -  ${missing}`,
        '',
      ].join('\n'),
    ]);
  });

  it('of a host that is emptied tells what goes where, and says that nothing would', async () => {
    plans('/v1/hosts/{id}/actions/enterMaintenance', {
      moves: [{ instanceId: instance, instanceName: 'web', fromHostId: from, toHostId: to, missing: null }],
    });
    expect(plain((await belay(api, words('hosts enter-maintenance h1 --dry-run'))).out)).toContain('  web  h1  h2  -');
    plans('/v1/hosts/{id}/actions/enterMaintenance', { moves: [] });
    expect((await belay(api, words('hosts enter-maintenance h1 --dry-run'))).out).toBe('moves  -\n');
    plans('/v1/hosts/{id}/actions/enterMaintenance', null);
    expect((await belay(api, words('hosts enter-maintenance h1 --dry-run'))).out).toContain('nothing but the record');
  });

  it('of a rebalance tells shares before and after, and why there are no more moves', async () => {
    plans('/v1/clusters/{id}/actions/rebalance', {
      metric: 'memory',
      spreadBeforePercent: 50,
      spreadAfterPercent: 10.5,
      hosts: [{ hostId: from, hostName: 'h1', beforePercent: 60, afterPercent: 40 }],
      moves: [
        {
          instanceId: instance,
          instanceName: 'web',
          fromHostId: from,
          toHostId: to,
          fromPercent: 60,
          toPercent: 40,
        },
      ],
      why: 'no more than 1 moves are made at a time',
    });
    const { out } = await belay(api, words('clusters rebalance kvm --dry-run'));
    const told = plain(out);
    expect(told).toContain('why  no more than 1 moves are made at a time\n');
    expect(told).toContain('spreadAfterPercent  10.5\n');
    expect(told).toContain('  host  beforePercent  afterPercent\n  h1  60  40\n');
    expect(told).toContain('  instance  fromHost  toHost  fromPercent  toPercent\n  web  h1  h2  60  40\n');
  });
});
