/** Real hosts that fail are found by several witnesses: one that only does not speak is left alone, one that has lost its power is failed over by itself. */
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { serialUntil } from '../../lab/serial.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };
/** How often each proof is made. */
const rounds = Number(process.env.BELAY_PROOF_ROUNDS ?? 1);
const limitMs = rounds * 600_000;

interface Host extends Resource {
  health: string;
  healthReason: string | null;
}

let lab: Lab;
const figures: string[] = [];
const findAfter = (suspectSeconds: number): Promise<unknown> =>
  admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
    ha: { enabled: true, requireFence: true, suspectSeconds },
  });
beforeAll(async () => {
  lab = await attachLab(home);
  await findAfter(4);
});
afterAll(async () => {
  console.log(figures.join('\n'));
  await findAfter(3600);
});

const hostNow = (id: string): Promise<Host> => admin.call('GET', `/v1/hosts/${id}`);
async function until<T>(look: () => Promise<T>, wanted: (seen: T) => boolean): Promise<T> {
  for (;;) {
    const seen = await look();
    if (wanted(seen)) return seen;
    await setTimeout(100);
  }
}
const becomes = (id: string, health: string): Promise<Host> =>
  until(
    () => hostNow(id),
    (seen) => seen.health === health,
  );
const failovers = async (id: string): Promise<OperationView[]> => {
  const filter = encodeURIComponent(`targetId = "${id}" AND type = "host.failover"`);
  return (await admin.call<{ items: OperationView[] }>('GET', `/v1/operations?filter=${filter}`)).items;
};

test(
  'a host whose agent hangs is left alone: other hosts see it',
  async () => {
    const hostId = String(cloud.hosts[1]?.id);
    const before = (await failovers(hostId)).length;
    const signal = (name: string) => lab.execHost(2, ['sh', '-c', `kill -${name} $(pgrep -f '[/]belay/agent[.]js')`]);
    expect((await signal('STOP')).code).toBe(0);
    try {
      const { state, healthReason } = await becomes(hostId, 'unreachable');
      expect(state).toBe('active');
      expect(healthReason).toMatch(/reach it in the network; it leaves no heartbeat/);
    } finally {
      await signal('CONT');
    }
    await becomes(hostId, 'well');
    expect(await failovers(hostId)).toHaveLength(before);
  },
  limitMs,
);

for (let round = 1; round <= rounds; round++)
  test(
    `a host that has lost its power is found, and its guest runs elsewhere, and nobody has asked for it, round ${round}`,
    async () => {
      const hostId = String(cloud.hosts[2]?.id);
      const before = (await failovers(hostId)).length;
      const body = instanceBody(cloud, 'found', { projectId: cloud.project.id, requestedHostId: hostId });
      const { id } = await make(admin, 'instances', body);
      const booted = (times: number): Promise<string> =>
        serialUntil(tenant, id, new RegExp(`READY .* boots=${times} .*(?=\\r?\\n)`), 180_000);
      await booted(1);

      const started = performance.now();
      const note = (what: string): void => {
        figures.push(`power loss to ${what} ${((performance.now() - started) / 1000).toFixed(1)} s`);
      };
      await lab.crashHost(3);
      const { healthReason } = await becomes(hostId, 'down');
      note('down');
      expect(healthReason).toMatch(/do not reach it in the network either; it leaves no heartbeat/);
      const moved = await until(
        () => admin.call<Resource & { hostId: string }>('GET', `/v1/instances/${id}`),
        (seen) => seen.state === 'running' && seen.hostId !== hostId,
      );
      note('running elsewhere');
      await booted(2);
      note('READY elsewhere');
      expect(cloud.hosts.map((host) => host.id)).toContain(moved.hostId);
      expect(await failovers(hostId)).toHaveLength(before + 1);

      await lab.startHost(3);
      await until(
        () => hostNow(hostId),
        ({ state, currentOperationId }) => state === 'fenced' && !currentOperationId,
      );
      await admin.done('POST', `/v1/hosts/${hostId}/actions/reinstate`, {});
      expect(await becomes(hostId, 'well')).toMatchObject({ state: 'active', healthReason: null });
      await tenant.done('DELETE', `/v1/instances/${id}`);
      await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
    },
    limitMs,
  );
