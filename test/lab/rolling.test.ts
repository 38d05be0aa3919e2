/** Real hosts are emptied one after the other, worked on and used again, and a guest that counts on its disk all the time never stops. */
import { setTimeout } from 'node:timers/promises';
import { beforeAll, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { serialUntil } from '../../lab/serial.ts';
import { inGuest } from './guest.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };

let lab: Lab;
beforeAll(async () => {
  lab = await attachLab(home);
});

const numberOf = (hostId: unknown): number => cloud.hosts.findIndex(({ id }) => id === hostId) + 1;
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);

async function sh(id: string, command: string): Promise<string> {
  const { hostId } = await instanceNow(id);
  const { code, output } = await inGuest(lab, numberOf(hostId), id, command);
  if (code !== 0) throw new Error(`${command}: ${output}`);
  return output.trim();
}

const childrenOf = async (of: string): Promise<(OperationView & { waitsFor: string | null })[]> =>
  (
    await admin.call<{ items: (OperationView & { waitsFor: string | null })[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(`parentOperationId = "${of}"`)}&orderBy=createdAt`,
    )
  ).items;

test('a guest runs on while its hosts are maintained one after the other', async () => {
  const order = cloud.hosts.slice(0, 2).map(({ id }) => id);
  const [first = ''] = order;
  const body = instanceBody(cloud, 'rolling', { projectId: cloud.project.id, requestedHostId: first });
  const { id } = await make(admin, 'instances', body);
  await serialUntil(tenant, id, /READY .* boots=1 .*(?=\r?\n)/, 180_000);
  await sh(id, '(i=0; while :; do i=$((i+1)); echo $i >>/counter && sync; done) >/dev/null 2>&1 </dev/null &');
  const bootId = await sh(id, 'cat /proc/sys/kernel/random/boot_id');

  // These machines have no systemd of their own: that is told before anything is brought elsewhere.
  const refused = await admin.settled(
    (await admin.call<OperationView>('POST', `/v1/hosts/${first}/actions/maintain`, { hook: 'reboot' })).id,
  );
  expect(refused).toMatchObject({ state: 'failed', error: { code: 'NOT_SUPPORTED', step: 'hosts.readBoot' } });
  expect((await instanceNow(id)).hostId).toBe(first);

  const rolling = await admin.call<OperationView>(
    'POST',
    `/v1/clusters/${cloud.cluster.id}/actions/rollingMaintenance`,
    {
      order,
      hook: 'wait',
      moveBack: true,
    },
  );
  for (const [index, hostId] of order.entries()) {
    let part = (await childrenOf(rolling.id))[index];
    while (!part?.waitsFor) {
      if ((await admin.call<OperationView>('GET', `/v1/operations/${rolling.id}`)).endedAt)
        throw new Error('it has ended, and has not waited for anybody');
      await setTimeout(200);
      part = (await childrenOf(rolling.id))[index];
    }
    expect(part.targetId).toBe(hostId);
    const { stdout } = await lab.execHost(numberOf(hostId), [
      'virsh',
      '-c',
      'qemu:///system',
      'list',
      '--all',
      '--name',
    ]);
    expect(stdout.trim()).toBe('');
    await admin.call('POST', `/v1/operations/${part.id}/actions/continue`);
  }
  expect(await admin.settled(rolling.id)).toMatchObject({ state: 'succeeded', result: { succeeded: 2, left: [] } });
  for (const hostId of order) expect((await admin.call('GET', `/v1/hosts/${hostId}`)).state).toBe('active');
  expect(await instanceNow(id)).toMatchObject({ state: 'running', hostId: first });
  expect(await sh(id, 'cat /proc/sys/kernel/random/boot_id')).toBe(bootId);
  const counted = Number(await sh(id, 'tail -n 1 /counter'));
  expect(await sh(id, `awk '$1 != NR { print NR, $1; exit }' /counter`)).toBe('');
  while (Number(await sh(id, 'tail -n 1 /counter')) <= counted) await setTimeout(100);
  await tenant.done('DELETE', `/v1/instances/${id}`);
  await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
}, 600_000);
