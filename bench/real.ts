/** What deploys and live migrations cost on real hosts, beside the same by hand. Both take turns. */
import type { Lab } from '../lab/real/lab.ts';
import { booted, deploy, type Moved, migrate, modelOf, rawDeploy, rawMigrate, rawRemove, remove } from './byHand.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, median, roundsOf } from './figures.ts';

/** One deploy by turns; the median of each side. */
export async function deployLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const model = await modelOf(bench, lab);
  const rounds = roundsOf(5);
  const ours: number[] = [];
  const raw: number[] = [];
  // The first of each only fills caches.
  for (let n = 0; n <= rounds; n++) {
    const { operation, ms } = await deploy(bench, `lab-${n}`);
    await remove(bench, operation.targetId);
    const made = await rawDeploy(bench, lab, model, n);
    await rawRemove(bench, lab, made.guest);
    if (n === 0) continue;
    ours.push(ms);
    raw.push(made.ms);
  }
  await remove(bench, model.instance.id);
  return [
    compared(
      'deploy.lab',
      median(ours),
      median(raw),
      'ms',
      { atMost: 1.3 },
      `p50 of ${rounds} deploys on real hosts, from the request to the answer that it runs; against: rbd clone, rbd import, ovn-nbctl, virsh define, virsh start, ovn-nbctl wait-until on the host`,
    ),
  ];
}

/** Two like guests go back and forth between the same two hosts by turns. */
export async function migrateLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const model = await modelOf(bench, lab);
  const home = model.host;
  const away = home === 1 ? 2 : 1;
  const { guest } = await rawDeploy(bench, lab, model, 100);
  for (const { id } of [model.instance, guest]) await booted(lab, model, id, [home]);
  const rounds = roundsOf(4);
  const ours: Moved[] = [];
  const raw: Moved[] = [];
  for (let n = 0; n < rounds; n++) {
    const target = n % 2 === 0 ? away : home;
    ours.push(await migrate(bench, model.instance.id, target));
    raw.push(await rawMigrate(bench, lab, guest, target));
  }
  await rawRemove(bench, lab, guest);
  await remove(bench, model.instance.id);
  const of = (moves: Moved[], what: keyof Moved): number => median(moves.map((moved) => moved[what]));
  const note = `p50 of ${rounds} migrations of an idle guest, live where there is KVM; against: virsh migrate --p2p --tls with ovn-nbctl before and after`;
  return [
    compared('migrate.lab.downtime', of(ours, 'downtimeMs'), of(raw, 'downtimeMs'), 'ms', { atMost: 1.2 }, note),
    compared('migrate.lab.total', of(ours, 'totalMs'), of(raw, 'totalMs'), 'ms', { atMost: 1.5 }, note),
  ];
}
