/** What it takes to empty a real host, by its maintenance and by hand. */
import type { Resource } from '../lab/api.ts';
import type { Lab } from '../lab/real/lab.ts';
import {
  asked,
  booted,
  deploy,
  hostNumber,
  modelOf,
  type RawGuest,
  rawDeploy,
  rawMigrate,
  rawRemove,
  remove,
} from './byHand.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, median, roundsOf } from './figures.ts';

const guestCount = 3;
const source = 3;

/** As many guests of each side leave the host for the same others, all at once, and come back. */
export async function drainLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const { admin, cloud } = bench;
  const hostId = cloud.hosts[source - 1]?.id ?? '';
  const cluster = `/v1/clusters/${cloud.cluster.id}`;
  const { vcpuOvercommit } = await admin.call('GET', cluster);
  // There is room for all of them on each host.
  await admin.call('PATCH', cluster, { vcpuOvercommit: 4 });
  const model = await modelOf(bench, lab, hostId);
  await booted(lab, model, model.instance.id, [source]);
  const instances = [model.instance.id];
  const guests: RawGuest[] = [];
  // One boots after the other: side by side each takes as long as all.
  while (instances.length < guestCount) {
    const { targetId } = (await deploy(bench, `drained-${instances.length}`, hostId)).operation;
    await booted(lab, model, targetId, [source]);
    instances.push(targetId);
  }
  while (guests.length < guestCount) {
    const { guest } = await rawDeploy(bench, lab, model, 120 + guests.length);
    await booted(lab, model, guest.id, [source]);
    guests.push(guest);
  }

  const act = (verb: string, input: object = {}) => asked(bench, `/v1/hosts/${hostId}/actions/${verb}`, input);
  const ours: number[] = [];
  const raw: number[] = [];
  const rounds = roundsOf(4);
  for (let round = 0; round < rounds; round++) {
    ours.push((await act('enterMaintenance')).ms);
    const targets = await Promise.all(
      instances.map(async (id) =>
        hostNumber(bench, (await admin.call<Resource & { hostId: string }>('GET', `/v1/instances/${id}`)).hostId),
      ),
    );
    const started = performance.now();
    await Promise.all(guests.map((guest, index) => rawMigrate(bench, lab, guest, targets[index] ?? 0)));
    raw.push(performance.now() - started);
    await act('exitMaintenance', { moveBack: true });
    for (const guest of guests) await rawMigrate(bench, lab, guest, source);
  }
  for (const guest of guests) await rawRemove(bench, lab, guest);
  for (const id of instances) await remove(bench, id);
  await admin.call('PATCH', cluster, { vcpuOvercommit });
  return [
    compared(
      'drain.lab',
      median(ours),
      median(raw),
      'ms',
      { atMost: 1.3 },
      `p50 of ${rounds} maintenances that bring ${guestCount} idle guests elsewhere, from the request to the answer that the host is empty; against: as many live migrations to the same hosts, side by side, each as in migrate.lab.total`,
    ),
  ];
}
