/** Real hosts that lose their power, or are cut off and live: their guests run elsewhere with all that they had written, and the old ones write nothing more. */
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { writers } from '../../lab/real/writers.ts';
import { serialUntil } from '../../lab/serial.ts';
import { inGuest } from './guest.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
/** How often each proof is made. */
const rounds = Number(process.env.BELAY_PROOF_ROUNDS ?? 1);
const limitMs = rounds * 600_000;

let lab: Lab;
beforeAll(async () => {
  lab = await attachLab(home);
});

const figures: string[] = [];
afterAll(() => console.log(figures.join('\n')));
let begunBefore = 0;
/** Whatever was done to hosts: no guest could write from two at any moment of it, and some began beside one that was shut out. */
afterEach(async () => {
  const { wrong, begun, shutOut } = await writers(home);
  figures.push(`${begun} times a guest began to run, ${shutOut} of them while it still ran where it was shut out`);
  expect(wrong).toEqual([]);
  expect(begun).toBeGreaterThan(begunBefore);
  begunBefore = begun;
});
async function timed<T>(what: string, work: Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work;
  figures.push(`${what} ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

const numberOf = (hostId: unknown): number => cloud.hosts.findIndex(({ id }) => id === hostId) + 1;
const hostNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/hosts/${id}`);
const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.done('POST', `/v1/hosts/${id}/actions/${verb}`, body);
const until = async (condition: () => Promise<boolean>): Promise<void> => {
  while (!(await condition())) await setTimeout(100);
};
const booted = (id: string, times: number): Promise<string> =>
  serialUntil(tenant, id, new RegExp(`READY .* boots=${times} .*(?=\\r?\\n)`), 180_000);

async function sh(id: string, command: string): Promise<string> {
  const { hostId } = await instanceNow(id);
  const { code, output } = await inGuest(lab, numberOf(hostId), id, command);
  if (code !== 0) throw new Error(`${command}: ${output}`);
  return output.trim();
}

/** Counts for ever, from where the log on the disk ends. What is acknowledged has been written through to the disk before. */
const counting = `(i=$(tail -n 1 /counter 2>/dev/null || echo 0); while :; do i=$((i+1)); echo $i >>/counter && sync && echo $i >/run/acknowledged; done) >/dev/null 2>&1 </dev/null &`;

async function count(id: string, atLeast: number): Promise<number> {
  await sh(id, counting);
  const acknowledged = async (): Promise<number> => Number(await sh(id, 'cat /run/acknowledged 2>/dev/null || echo 0'));
  await until(async () => (await acknowledged()) >= atLeast);
  return acknowledged();
}

/** Every value once, in order, up to what was acknowledged at the least. */
async function checkLog(id: string, acknowledged: number): Promise<void> {
  const wrong = await sh(id, `awk '$1 != NR { print NR, $1; exit }' /counter`);
  expect(wrong).toBe('');
  expect(Number(await sh(id, 'wc -l </counter'))).toBeGreaterThanOrEqual(acknowledged);
}

/** What the host's libvirt says of the guest; empty where it knows none. */
async function stateOn(hostId: string, id: string): Promise<string> {
  const argv = ['virsh', '-c', 'qemu:///system', 'domstate', '--reason', `instance-${id}`];
  return (await lab.execHost(numberOf(hostId), argv)).stdout.trim();
}

async function deployOn(hostId: string, name: string): Promise<string> {
  const body = instanceBody(cloud, name, { projectId: cloud.project.id, requestedHostId: hostId });
  const { id } = await make(admin, 'instances', body);
  await booted(id, 1);
  return id;
}

async function remove(id: string): Promise<void> {
  await tenant.done('DELETE', `/v1/instances/${id}`);
  await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
}

/** Guests come to the host again, and write there. */
async function useAgain(hostId: string, id: string): Promise<void> {
  await timed('reinstated', act(hostId, 'reinstate'));
  expect(await hostNow(hostId)).toMatchObject({ state: 'active', fencedAt: null });
  expect(await stateOn(hostId, id)).toBe('');
  await until(async () => (await hostNow(hostId)).connection === 'connected');
  await admin.done('POST', `/v1/instances/${id}/actions/migrate`, { hostId });
  await sh(id, 'echo here >/written-here && sync');
}

/** The processes of a host whose name is this end without a warning. */
async function kill(host: number, program: string): Promise<void> {
  const { code, stderr } = await lab.execHost(host, ['pkill', '-KILL', '-f', program]);
  if (code !== 0) throw new Error(`${program} does not run on host${host}: ${stderr}`);
}

const findings = async (hostId: string): Promise<Resource[]> => {
  const filter = encodeURIComponent(`resourceId = "${hostId}" AND what = "storageUnreachable" AND state = "open"`);
  return (await admin.call<{ items: Resource[] }>('GET', `/v1/findings?filter=${filter}`)).items;
};
const failovers = async (hostId: string): Promise<number> => {
  const filter = encodeURIComponent(`targetId = "${hostId}" AND type = "host.failover"`);
  return (await admin.call<{ items: OperationView[] }>('GET', `/v1/operations?filter=${filter}`)).items.length;
};

for (let round = 1; round <= rounds; round++) {
  test(
    `guests outlive the agent and the libvirt of their host, and storage that is away for a while, round ${round}`,
    async () => {
      const hostId = String(cloud.hosts[1]?.id);
      const failedOver = await failovers(hostId);
      const id = await deployOn(hostId, 'undisturbed');
      const wrote = async (): Promise<number> => Number(await sh(id, 'cat /run/acknowledged'));
      const goesOn = async (): Promise<void> => {
        const before = await wrote();
        await until(async () => (await wrote()) > before + 5);
      };
      await count(id, 5);
      await kill(2, '[/]belay/agent.*[.]js');
      await goesOn();
      await kill(2, '/usr/sbin/libvirt[d]');
      await until(async () => (await stateOn(hostId, id)).startsWith('running'));
      await goesOn();

      const before = await wrote();
      await lab.cutStorage(2);
      try {
        await timed(
          'storage found cut',
          until(async () => (await findings(hostId)).length === 1),
        );
        expect(await hostNow(hostId)).toMatchObject({ state: 'active', connection: 'connected' });
      } finally {
        await lab.mendStorage(2);
      }
      await timed(
        'storage found again',
        until(async () => (await findings(hostId)).length === 0),
      );
      await until(async () => (await wrote()) > before + 20);
      // It can still be moved, so whoever was started anew knows it.
      await admin.done('POST', `/v1/instances/${id}/actions/migrate`, {});
      expect((await instanceNow(id)).hostId).not.toBe(hostId);
      await goesOn();
      await checkLog(id, before);
      expect(await failovers(hostId)).toBe(failedOver);
      await remove(id);
    },
    limitMs,
  );

  test(
    `a guest of a host that lost its power runs elsewhere with all that it had written, round ${round}`,
    async () => {
      const hostId = String(cloud.hosts[2]?.id);
      const id = await deployOn(hostId, 'powerless');
      const acknowledged = await count(id, 20);
      const started = performance.now();
      await lab.crashHost(3);
      await timed(
        'found gone',
        until(async () => (await hostNow(hostId)).connection === 'disconnected'),
      );
      const ended = await timed('failed over', act(hostId, 'failover', { confirmDead: true, reason: 'no power' }));
      expect(ended.result).toMatchObject({ restarted: 1, failed: [] });
      await booted(id, 2);
      figures.push(`power loss to READY ${((performance.now() - started) / 1000).toFixed(1)} s`);
      expect((await instanceNow(id)).hostId).not.toBe(hostId);
      await checkLog(id, acknowledged);
      await count(id, acknowledged + 20);
      await lab.startHost(3);
      expect(await stateOn(hostId, id)).toMatch(/^shut off/);
      await useAgain(hostId, id);
      await checkLog(id, acknowledged + 20);
      await remove(id);
    },
    limitMs,
  );

  for (const [what, fail, recover] of [
    ['is cut off, and lives', () => lab.unplugHost(2), () => lab.plugHost(2)],
    ['hangs, and goes on', () => lab.freezeHost(2), () => lab.thawHost(2)],
  ] as const)
    test(
      `the guest of a host that ${what}, is shut out before it runs elsewhere, round ${round}`,
      async () => {
        const hostId = String(cloud.hosts[1]?.id);
        const id = await deployOn(hostId, 'shut-out');
        const acknowledged = await count(id, 20);
        const started = performance.now();
        await fail();
        await until(async () => (await hostNow(hostId)).connection === 'disconnected');
        const ended = await timed('failed over', act(hostId, 'failover'));
        expect(ended.result).toMatchObject({ restarted: 1, failed: [] });
        await booted(id, 2);
        figures.push(`${what}: to READY ${((performance.now() - started) / 1000).toFixed(1)} s`);
        const onNew = await count(id, acknowledged + 20);
        // The old one is heard again while the new one writes.
        await recover();
        await timed(
          'old guest stopped',
          until(async () => /paused \(I\/O error\)/.test(await stateOn(hostId, id))),
        );
        await until(async () => Number(await sh(id, 'cat /run/acknowledged')) > onNew + 20);
        await checkLog(id, onNew + 20);
        expect((await hostNow(hostId)).state).toBe('fenced');
        await useAgain(hostId, id);
        await checkLog(id, onNew + 20);
        await remove(id);
      },
      limitMs,
    );
}
