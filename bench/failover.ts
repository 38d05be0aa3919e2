/** What it costs to run the instances of a failed host elsewhere. */
import type { OperationView, Resource } from '../lab/api.ts';
import { inBatches, instanceBody, make } from '../lab/provision.ts';
import { befall } from '../test/support/simulated.ts';
import type { BenchCloud } from './cloud.ts';
import { alone, type Figure } from './figures.ts';
import { cpuSecondsUsed, eachPart, moreThan } from './memory.ts';

const guests = 100;
const suspectSeconds = 3;
const limitMs = 300_000;

/** Looks again and again until there is something. */
export async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what}: not within ${limitMs / 1000} s`);
}

/** Deploys so many instances on one host, which has room for all of them from then on. Answers the instances. */
export async function fill({ admin, cloud }: BenchCloud, host: Resource, count: number): Promise<Resource[]> {
  await admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, { vcpuOvercommit: 4 });
  const names = Array.from({ length: count }, (_, n) => `filling-${n}`);
  return inBatches(names, 25, (name) =>
    make(
      admin,
      'instances',
      instanceBody(cloud, name, {
        projectId: cloud.project.id,
        requestedHostId: host.id,
        ha: { enabled: true, priority: 50 },
      }),
    ),
  );
}

/** A hundred instances of one host that loses its power, from the moment at which it counts as down until all run elsewhere. */
export async function failoverSimulated(bench: BenchCloud): Promise<Figure> {
  const { stack, admin, cloud } = bench;
  // One that nothing else was measured on.
  const host = cloud.hosts.at(-1);
  if (!host) throw new Error('there are no hosts');
  const address = /^sim:\/\/([^/]+)\/(.+)$/.exec(String(host.address));
  if (!address) throw new Error(`${host.address} is no simulated host`);
  const { ha, vcpuOvercommit } = await admin.call<Resource>('GET', `/v1/clusters/${cloud.cluster.id}`);
  const change = (to: Record<string, unknown>): Promise<unknown> =>
    admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, to);
  await change({ ha: { enabled: true, requireFence: true, suspectSeconds } });
  const instances = await fill(bench, host, guests);
  const started = performance.now();
  const suffer = (what: 'crash' | 'heal'): Promise<void> =>
    befall(`http://${address[1]}`, String(address[2]), what, {});
  await suffer('crash');
  const filter = encodeURIComponent(`targetId = "${host.id}" AND type = "host.failover"`);
  const { id } = await until('the failover begins', async () => {
    const page = await admin.call<{ items: OperationView[] }>('GET', `/v1/operations?filter=${filter}`);
    return page.items[0];
  });
  const detected = performance.now();
  const cpuBefore = cpuSecondsUsed(stack);
  const ended = await admin.settled(id);
  const seconds = (performance.now() - detected) / 1000;
  const cpu = moreThan(cpuBefore, cpuSecondsUsed(stack));
  if (ended.state !== 'succeeded') throw new Error(`the failover is ${ended.state}: ${ended.error?.message}`);
  const now = await inBatches(instances, 25, ({ id: instanceId }) =>
    admin.call<Resource>('GET', `/v1/instances/${instanceId}`),
  );
  const elsewhere = now.filter(({ state, hostId }) => state === 'running' && hostId !== host.id).length;
  if (elsewhere !== guests) throw new Error(`${elsewhere} of ${guests} instances run elsewhere`);
  await change({ ha, vcpuOvercommit });
  // What is measured afterwards counts on all hosts.
  await suffer('heal');
  await admin.done('POST', `/v1/hosts/${host.id}/actions/reinstate`);
  return alone(
    'failover.simulated',
    seconds,
    's',
    { atMost: 10 },
    `${guests} instances of a host without power run on ${cloud.hosts.length - 1} others, from the beginning of its failover; that began ${((detected - started) / 1000).toFixed(1)} s after the power was gone, with suspectSeconds ${suspectSeconds}. CPU seconds: ${eachPart(cpu, 1)}`,
  );
}
