/** The command line on a real API: what it asks must be what that takes, and what it tells must be what is so. */
import { expect, inject, test } from 'vitest';
import { lostOf } from '../../cli/hostStanding.ts';
import type { OperationView } from '../../lab/api.ts';
import { joinCloud } from '../support/cloud.ts';
import { untilSeen } from '../support/operations.ts';
import { belay, type Ran } from '../unit/cli/api.ts';
import { blocksOf } from '../unit/docs/documentation.ts';

const address = inject('cloud');
const { admin, cloud, deploy, removeInstance } = joinCloud(address);
const host = cloud.hosts[0];
if (!host) throw new Error('the cloud has no hosts');

const asAdmin = (...words: string[]): Promise<Ran> =>
  belay({ url: address.apiUrl }, words, { env: { BELAY_TOKEN: address.token } });

test('of a host that waits for a person, hosts get tells the command that lets it go on', async () => {
  const maintaining = await admin.call<OperationView>('POST', `/v1/hosts/${host.id}/actions/maintain`, {
    hook: 'wait',
  });
  try {
    await untilSeen(
      () => admin.call<OperationView & { waitsFor: string | null }>('GET', `/v1/operations/${maintaining.id}`),
      ({ waitsFor }) => waitsFor !== null,
    );
    const { code, err } = await asAdmin('hosts', 'get', host.name);
    expect([code, err]).toEqual([0, expect.stringMatching(/^host\.maintain .*waits for a person/m)]);
    const [, words = ''] = /belay (operations continue [0-9a-f-]+)/.exec(err) ?? [];
    expect(words).toBe(`operations continue ${maintaining.id}`);
    expect(await asAdmin(...words.split(' '))).toMatchObject({ code: 0 });
  } finally {
    await admin.call('POST', `/v1/operations/${maintaining.id}/actions/continue`).catch(() => {});
    expect(await admin.settled(maintaining.id)).toMatchObject({ state: 'succeeded' });
  }
});

test('the first instance of README.md is made, worked on, deleted and recovered by the commands that stand there', async () => {
  const block = blocksOf('README.md', 'sh').find((one) => one.includes('belay instances create')) ?? '';
  const lines = [...block.matchAll(/^belay (.+)$/gm)].map(([, line = '']) => line);
  expect(lines.at(-1)).toBe('instances recover first --wait');
  for (const line of lines) {
    const words = [...line.matchAll(/"([^"]*)"|\S+/g)].map(([word, inQuotes]) => inQuotes ?? word);
    const { code, err } = await belay({ url: address.apiUrl }, words, { env: { BELAY_TOKEN: cloud.tenant.token } });
    expect([line, code, code === 0 ? '' : err]).toEqual([line, 0, '']);
  }
  for (const plural of ['instances', 'subnets', 'networks']) {
    const { items } = await cloud.tenant.call<{ items: { id: string }[] }>(
      'GET',
      `/v1/${plural}?filter=${encodeURIComponent(`name = "${plural === 'instances' ? 'first' : 'back'}"`)}`,
    );
    for (const { id } of items)
      await (plural === 'instances' ? removeInstance(id) : cloud.tenant.done('DELETE', `/v1/${plural}/${id}`));
  }
});

test('dry runs on hosts and clusters tell in tables what would move where', async () => {
  const { id } = await deploy('told-1');
  try {
    const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
    const from = String(cloud.hosts.find((one) => one.id === hostId)?.name);
    const move = new RegExp(`^ +told-1 +${from} +${from.replace(/\d+$/, '')}\\d+ +-$`, 'm');
    const emptying = await asAdmin('hosts', 'enter-maintenance', from, '--dry-run');
    expect([emptying.code, emptying.out]).toEqual([0, expect.stringMatching(move)]);
    const rolling = await asAdmin('clusters', 'rolling-maintenance', cloud.cluster.name, '--dry-run');
    expect([rolling.code, rolling.out]).toEqual([0, expect.stringMatching(move)]);
    for (const { name } of cloud.hosts) expect(rolling.out).toMatch(new RegExp(`^ +[0-9a-f-]{36} +${name}$`, 'm'));
    const rebalance = await asAdmin('clusters', 'rebalance', cloud.cluster.name, '--spread-percent', '1', '--dry-run');
    expect([rebalance.code, rebalance.out]).toEqual([
      0,
      expect.stringMatching(/^ +host +beforePercent +afterPercent$/m),
    ]);
  } finally {
    await removeInstance(id);
  }
});

test('what is asked for as the result of an operation is told at its end', async () => {
  const report = await asAdmin('zones', 'report-capacity', cloud.zone.name, '--wait');
  expect([report.code, report.out]).toEqual([0, expect.stringMatching(/^ +memoryMib( +\d+){3}/m)]);
  expect(report.out).toMatch(new RegExp(`^ +cluster +${cloud.cluster.name}$`, 'm'));
  const diagnostics = await asAdmin('hosts', 'collect-diagnostics', host.name, '--wait');
  expect([diagnostics.code, diagnostics.out]).toEqual([0, expect.stringMatching(/^ +uptime +a simulated host/m)]);
});

test('what a failed host has left behind is found by the filter that hosts get names', async () => {
  const { id } = await deploy('left-1');
  try {
    const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
    const { code, out } = await asAdmin('instances', 'list', '--all-projects', '--filter', lostOf(hostId), '-o', 'id');
    expect([code, out.split('\n')]).toEqual([0, expect.arrayContaining([id])]);
  } finally {
    await removeInstance(id);
  }
});
