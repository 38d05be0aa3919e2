/** Real hosts whose power is switched by BMCs of both protocols: what Belay says is off has no process left, and a failover cuts the power of what lives. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { type LabBmc, type LabBmcs, startBmcs } from '../../lab/real/bmc.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { serialUntil } from '../../lab/serial.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
const limitMs = 600_000;

const number = 3;
const hostId = String(cloud.hosts[number - 1]?.id);
const directory = mkdtempSync(join(tmpdir(), 'belay-bmc-'));
let lab: Lab;
let bmcs: LabBmcs;
beforeAll(async () => {
  lab = await attachLab(home);
  bmcs = await startBmcs(lab, directory);
});
afterAll(async () => {
  await update({ bmc: null });
  await bmcs.stop();
  rmSync(directory, { recursive: true, force: true });
});

const figures: string[] = [];
afterAll(() => console.log(figures.join('\n')));
async function timed<T>(what: string, work: Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work;
  figures.push(`${what} ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

const hostNow = (): Promise<Resource> => admin.call('GET', `/v1/hosts/${hostId}`);
const update = (body: object): Promise<Resource> => admin.call('PATCH', `/v1/hosts/${hostId}`, body);
const act = async (verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.settled((await admin.call<OperationView>('POST', `/v1/hosts/${hostId}/actions/${verb}`, body)).id);
const power = (command: string): Promise<OperationView> => timed(command, act('power', { command }));
const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await setTimeout(100);
};
const connected = (): Promise<void> => until(async () => (await hostNow()).connection === 'connected');
const failed = ({ state, error }: OperationView): unknown[] => [state, error?.code, error?.step];

/** What a boot leaves nothing of. */
const mark = '/run/before-the-cycle';
const inHost = async (...argv: string[]): Promise<boolean> => (await lab.execHost(number, argv)).code === 0;

test.each<['redfish' | 'ipmi', () => Promise<LabBmc | null> | LabBmc]>([
  ['redfish', () => bmcs.redfish(number)],
  ['ipmi', () => bmcs.ipmi(number)],
])(
  'by %s an empty host is switched off, on, and off and on again; by a wrong password nothing',
  async (protocol, of) => {
    const known = await of();
    if (!known) return console.log('skipped: IPMI, because ipmi_sim (Debian: openipmi) is not installed');
    await update({ bmc: null });
    await update(known);
    expect((await act('enterMaintenance', { instances: 'migrate' })).state).toBe('succeeded');

    expect((await power('off')).state).toBe('succeeded');
    expect(lab.isUp(number)).toBe(false);
    await until(async () => (await hostNow()).connection === 'disconnected');
    expect((await hostNow()).powerState).toBe('off');
    expect((await power('on')).result).toEqual({ powerState: 'on' });
    await timed(`${protocol}: boot`, connected());
    expect(await inHost('touch', mark)).toBe(true);
    expect((await power('cycle')).state).toBe('succeeded');
    await until(async () => (await inHost('true')) && !(await inHost('test', '-e', mark)));
    await connected();

    await update({ bmcPassword: 'wrong' });
    const refused = await power('off');
    expect(failed(refused)).toEqual(['failed', 'PRECONDITION_FAILED', 'hosts.checkPower']);
    expect(refused.error?.message).toMatch(/its name, its password or its rights are wrong$/);
    if (protocol === 'redfish') {
      await update({ bmc: { certificate: 'ab'.repeat(32) }, bmcPassword: known.bmcPassword });
      expect((await power('off')).error?.message).toMatch(/shows another certificate than the one that is pinned/);
    }
    expect(lab.isUp(number)).toBe(true);
    expect((await act('exitMaintenance')).state).toBe('succeeded');
  },
  limitMs,
);

test(
  'a host that is cut off and lives is switched off by its failover, and on again when it is taken back',
  async () => {
    await update({ bmc: null });
    await update(bmcs.redfish(number));
    await connected();
    const body = instanceBody(cloud, 'cut', { projectId: cloud.project.id, requestedHostId: hostId });
    const { id } = await make(admin, 'instances', body);
    await serialUntil(tenant, id, /READY .* boots=1 .*(?=\r?\n)/, 180_000);
    await lab.unplugHost(number);
    await until(async () => (await hostNow()).connection === 'disconnected');
    expect(lab.isUp(number)).toBe(true);
    const ended = await timed('failed over', act('failover'));
    expect([ended.state, ended.result]).toEqual(['succeeded', expect.objectContaining({ restarted: 1 })]);
    expect(lab.isUp(number)).toBe(false);
    expect(await hostNow()).toMatchObject({ state: 'fenced', powerState: 'off', deadAt: expect.any(String) });
    await serialUntil(tenant, id, /READY .* boots=2 .*(?=\r?\n)/, 180_000);

    const back = await timed('reinstated', act('reinstate'));
    expect([back.state, back.steps.map(({ name }) => name)]).toEqual([
      'succeeded',
      expect.arrayContaining(['hosts.wake']),
    ]);
    expect(await hostNow()).toMatchObject({ state: 'active', deadAt: null, fencedAt: null });
    await connected();
    await tenant.done('DELETE', `/v1/instances/${id}`);
    await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
  },
  limitMs,
);
