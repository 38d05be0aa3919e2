/** What an operation would come to, and has come to, is told in words and tables, with names in the place of ids. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, belay, startApi, succeeded } from './api.ts';

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

describe('the result of an operation', () => {
  it('is told below what it was about, and not what that says itself', async () => {
    const { id } = api.add('instances', { name: 'web', state: 'running', hostId: to });
    const result = { hostId: to, downtimeMs: 40 };
    api.script = [{ ...succeeded(), result }];
    const { code, out } = await belay(api, words('instances migrate web --wait'));
    expect(code).toBe(0);
    expect(plain(out)).toContain(`id  ${id}\n`);
    expect(plain(out)).toMatch(/\nresult\n {2}downtimeMs {2}40\n$/);
    api.script = [{ ...succeeded(), result }];
    expect(JSON.parse((await belay(api, words('instances migrate web --wait -o json'))).out)).toMatchObject({ id });
    const [, second] = api.rows.get('operations') ?? [];
    for (const verb of ['get', 'watch'])
      expect(plain((await belay(api, ['operations', verb, String(second?.id)])).out)).toMatch(
        /result\n {2}host {2}h2\n {2}downtimeMs {2}40\n$/,
      );
  });

  it('is a table where parts are alike, as in the report of a zone', async () => {
    api.add('zones', { id: instance, name: 'home' });
    const amount = { total: 8, used: 2, free: 6, daysUntilFull: null };
    const largestLoss = { hostId: from, hostName: 'h1', instances: 3, fitsElsewhere: true };
    const clusters = [
      { clusterId: idle, clusterName: 'kvm', hosts: 3, vcpus: { total: 8 }, memoryMib: { total: 9 }, largestLoss },
    ];
    const result = { zoneId: instance, zoneName: 'home', vcpus: amount, memoryMib: amount, clusters, pools: [] };
    api.script = [{ ...succeeded(), result }];
    const told = plain((await belay(api, words('zones report-capacity home --wait'))).out);
    expect(told).toContain('  zone  home\n');
    expect(told).toContain('  total  used  free  daysUntilFull\n  vcpus  8  2  6  -\n  memoryMib  8  2  6  -\n');
    expect(told).toMatch(/ {2}clusters\n +cluster +kvm\n/);
    expect(told).toMatch(/ {2}largestLoss\n +host +h1\n +instances +3\n +fitsElsewhere +true\n/);
  });

  it('has texts of many lines as they are, without what would steer the terminal', async () => {
    const parts = { uptime: ' up 3 days\n', disks: 'Filesystem Size\n/dev/sda\u001b[2J 20G\n', switch: '' };
    api.script = [{ ...succeeded(), result: { parts } }];
    const { out } = await belay(api, words('hosts collect-diagnostics h1 --wait'));
    expect(out).toContain('up 3 days');
    expect(out).toMatch(/^ +disks\n +Filesystem Size\n +\/dev\/sda\ufffd\[2J 20G\n/m);
  });

  it('names what could not come back', async () => {
    api.add('instances', { id: instance, name: 'web' });
    const failed = [{ targetId: instance, code: 'NO_CAPACITY', message: 'no room' }];
    api.script = [{ ...succeeded(), result: { succeeded: 2, failed, notRun: 0 } }];
    const { out } = await belay(api, words('hosts exit-maintenance h1 --move-back --wait'));
    expect(plain(out)).toContain('  failed\n  target  code  message\n  web  NO_CAPACITY  no room\n');
  });

  it('of one that went wrong names its parts, too: what has failed, and what is left', async () => {
    const error = {
      code: 'PARTLY_FAILED',
      message: '1 of 3 hosts failed',
      step: null,
      succeeded: 1,
      failed: [{ targetId: from, code: 'TIMEOUT', message: 'no answer' }],
      left: [from, idle],
    };
    api.script = [{ state: 'failed', endedAt: '2026-01-02T03:04:06.000Z', steps: [], error }];
    const { code, err } = await belay(api, words('clusters rolling-maintenance kvm --wait'));
    expect([code, plain(err)]).toEqual([1, expect.stringMatching(/operation: [0-9a-f-]+\n/)]);
    expect(plain(err)).toContain('left  h1,h3\n');
    expect(plain(err)).toContain('  target  code  message\n  h1  TIMEOUT  no answer\n');
  });
});
