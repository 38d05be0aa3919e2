/** What it takes until the guest of a real host that lost its power answers elsewhere, by itself and by hand. */
import type { OperationView, Resource } from '../lab/api.ts';
import type { Lab } from '../lab/real/lab.ts';
import {
  booted,
  commandsIn,
  domainName,
  type Model,
  migrate,
  modelOf,
  type RawGuest,
  rawDeploy,
  rawMigrate,
  rawRemove,
  remove,
} from './byHand.ts';
import type { BenchCloud } from './cloud.ts';
import { until } from './failover.ts';
import { alone, compared, type Figure, median, roundsOf } from './figures.ts';

/** Loses its power, each time. */
const failing = 3;
const others = [1, 2];
/** Where the script starts its guest. */
const spare = 1;

/** In seconds, one after the other. */
interface Parts {
  detect: number;
  fence: number;
  /** Until the guest has begun to run. */
  restart: number;
  boot: number;
}

type Host = Resource & { health: string; connection: string; currentOperationId: string | null };

const partNames = ['detect', 'fence', 'restart', 'boot'] as const;
const sinceFound = ({ fence, restart, boot }: Parts): number => fence + restart + boot;
const whole = (parts: Parts): number => parts.detect + sinceFound(parts);
const of = (all: Parts[], what: (parts: Parts) => number): number => median(all.map(what));
const told = (all: Parts[], names: readonly (keyof Parts)[]): string =>
  names.map((name) => `${name} ${of(all, (parts) => parts[name]).toFixed(2)}`).join(', ');

/** Seconds between moments, as many as there are parts. */
const between = (moments: readonly number[]): number[] =>
  moments.slice(1).map((moment, index) => (moment - (moments[index] ?? Number.NaN)) / 1000);

function endOf({ steps, type }: OperationView, name: string): number {
  const endedAt = steps.find((step) => step.name === name && step.state === 'done')?.endedAt;
  if (!endedAt) throw new Error(`${type} has not done ${name}`);
  return Date.parse(endedAt);
}

/** Nobody asks for anything: the host is found, shut out, and its guest is started elsewhere. */
async function failedOver(bench: BenchCloud, lab: Lab, model: Model, hostId: string, boots: number): Promise<Parts> {
  const { admin } = bench;
  const operations = async (filter: string): Promise<OperationView[]> => {
    const found = await admin.call<{ items: OperationView[] }>(
      'GET',
      `/v1/operations?filter=${encodeURIComponent(filter)}`,
    );
    return Promise.all(found.items.map(({ id }) => admin.settled(id)));
  };
  const crashed = Date.now();
  const [ready] = await Promise.all([booted(lab, model, model.instance.id, others, boots), lab.crashHost(failing)]);
  const failover = (await operations(`targetId = "${hostId}" AND type = "host.failover"`)).find(
    ({ createdAt }) => Date.parse(createdAt) >= crashed,
  );
  if (!failover) throw new Error('the guest runs elsewhere without a failover');
  const restart = (await operations(`parentOperationId = "${failover.id}"`)).find(({ state }) => state === 'succeeded');
  if (!restart) throw new Error('the failover has started nothing');
  const moments = [
    crashed,
    Date.parse(failover.createdAt),
    endOf(failover, 'hosts.noteFenced'),
    endOf(restart, 'hypervisor.boot'),
    ready,
  ];
  const [detect = 0, fence = 0, started = 0, boot = 0] = between(moments);
  return { detect, fence, restart: started, boot };
}

/** What a script does once somebody has told it which host has failed. */
async function byHand(bench: BenchCloud, lab: Lab, model: Model, guest: RawGuest, boots: number): Promise<Parts> {
  const { virsh, ceph, nbctl } = commandsIn(lab);
  const [from, to] = [failing, spare].map((host) => bench.cloud.hosts[host - 1]?.id ?? '');
  const definition = '/tmp/bench-definition.xml';
  // Each host has a Ceph user of its own, so the definition differs by the host's name.
  const xml = (await virsh(failing, ['dumpxml', '--inactive', domainName(guest.id)])).replaceAll(from ?? '', to ?? '');
  await lab.execHost(spare, ['tee', definition], { input: xml });
  await lab.crashHost(failing);
  const moments = [Date.now()];
  const address = `${lab.hosts[failing - 1]?.address}:0/0`;
  await ceph(spare, ['osd', 'blocklist', 'add', address]);
  moments.push(Date.now());
  await nbctl(spare, ['set', 'Logical_Switch_Port', guest.portId, `options:requested-chassis=${to}`]);
  await virsh(spare, ['define', definition]);
  await virsh(spare, ['start', domainName(guest.id)]);
  moments.push(Date.now(), await booted(lab, model, guest.id, [spare], boots));
  await ceph(spare, ['osd', 'blocklist', 'rm', address]);
  guest.host = spare;
  const [fence = 0, restart = 0, boot = 0] = between(moments);
  return { detect: 0, fence, restart, boot };
}

/** One guest of each side is on the host in turn, and the other one out of its way. */
export async function failoverLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const { admin, cloud } = bench;
  const hostId = cloud.hosts[failing - 1]?.id ?? '';
  const act = (verb: string): Promise<OperationView> => admin.done('POST', `/v1/hosts/${hostId}/actions/${verb}`, {});
  const becomes = (what: string, isSo: (host: Host) => boolean): Promise<Host> =>
    until(`the host is ${what}`, async () => {
      const host = await admin.call<Host>('GET', `/v1/hosts/${hostId}`);
      return isSo(host) ? host : undefined;
    });
  const model = await modelOf(bench, lab, hostId);
  const { guest } = await rawDeploy(bench, lab, model, 110);
  for (const { id } of [model.instance, guest]) await booted(lab, model, id, [failing]);
  // The first guest of a host only fills caches.
  for (const target of [...others, failing]) await migrate(bench, model.instance.id, target);
  await rawMigrate(bench, lab, guest, spare);
  const ours: Parts[] = [];
  const raw: Parts[] = [];
  const rounds = roundsOf(10);
  for (let round = 1; round <= rounds; round++) {
    ours.push(await failedOver(bench, lab, model, hostId, round + 1));
    await lab.startHost(failing);
    await becomes('fenced', ({ state, currentOperationId }) => state === 'fenced' && !currentOperationId);
    await act('reinstate');
    await becomes('well', ({ health, connection }) => health === 'well' && connection === 'connected');

    // Nobody misses it in maintenance.
    await act('enterMaintenance');
    await rawMigrate(bench, lab, guest, failing);
    raw.push(await byHand(bench, lab, model, guest, round + 1));
    await lab.startHost(failing);
    await commandsIn(lab).virsh(failing, ['undefine', domainName(guest.id)]);
    await becomes('connected', ({ connection }) => connection === 'connected');
    await act('exitMaintenance');
    await migrate(bench, model.instance.id, failing);
  }
  await rawRemove(bench, lab, guest);
  await remove(bench, model.instance.id);
  return [
    alone(
      'failover.lab',
      of(ours, whole),
      's',
      { atMost: 15 },
      `p50 of ${rounds} power losses of a real host, until its guest is READY elsewhere: ${told(ours, partNames)}`,
    ),
    compared(
      'failover.lab.restart',
      of(ours, sinceFound),
      of(raw, sinceFound),
      's',
      { atMost: 1.3 },
      `the same from the moment at which the failover begins; against: ceph osd blocklist add, ovn-nbctl set, virsh define, virsh start, until READY, from the moment at which the power is gone: ${told(raw, partNames.slice(1))}`,
    ),
  ];
}
