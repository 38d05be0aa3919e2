/** What the auditor takes of CPU that compares a host of a hundred instances with the records. */
import type { Lab } from '../lab/real/lab.ts';
import { maintenance, maintenanceId } from '../model/platform/maintenance.ts';
import { whilePaused, withTemporal } from '../test/support/maintenance.ts';
import { untilSeen } from '../test/support/operations.ts';
import { commandsIn, domainName, modelOf, remove } from './byHand.ts';
import type { BenchCloud } from './cloud.ts';
import { fill } from './failover.ts';
import { alone, type Figure, median, roundsOf } from './figures.ts';
import { cpuSecondsIn, cpuSecondsUsed } from './memory.ts';

const guests = 100;
const name = 'scanHosts';
const { everySeconds } = maintenance[name];
/** Whatever else recurs each minute falls into each window as often. */
const windowSeconds = 60;

/** CPU seconds of each part. */
type Used = Readonly<Record<string, number>>;

interface Cost {
  /** Of a core, in percent, with as many scans as there are otherwise. */
  percent: Used;
  /** The same of all that the parts do beside it. */
  beside: Used;
  scans: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const sum = (used: Used): number => Object.values(used).reduce((total, one) => total + one, 0);
const told = (used: Used): string =>
  Object.entries(used)
    .map(([part, percent]) => `${part} ${percent.toFixed(2)}`)
    .join(', ');

/**
 * Windows with a scan each second take turns with windows without any. One a minute would be lost among all else that goes on; what it takes is what one
 * of so many takes.
 */
async function costOfScans(temporalAddress: string, used: () => Used | Promise<Used>): Promise<Cost> {
  return whilePaused(temporalAddress, name, () =>
    withTemporal(temporalAddress, async (temporal) => {
      const handle = temporal.schedule.getHandle(maintenanceId(name));
      const info = async () => (await handle.describe()).info;
      /** What is used in a window, of each part; and how many scans there were. */
      const inWindow = async (isScanned: boolean): Promise<{ more: Used; runs: number }> => {
        const runsBefore = (await info()).numActionsTaken;
        const before = await used();
        const began = performance.now();
        for (let second = 1; second <= windowSeconds; second++) {
          if (isScanned) await handle.trigger();
          await sleep(Math.max(0, began + second * 1000 - performance.now()));
        }
        const { numActionsTaken } = await untilSeen(info, ({ runningActions }) => runningActions.length === 0);
        const now = await used();
        const more = Object.fromEntries(Object.keys(now).map((part) => [part, (now[part] ?? 0) - (before[part] ?? 0)]));
        return { more, runs: numActionsTaken - runsBefore };
      };
      const rounds: { without: Used; each: Used; runs: number }[] = [];
      for (let left = roundsOf(3); left > 0; left--) {
        const without = (await inWindow(false)).more;
        const { more, runs } = await inWindow(true);
        if (runs === 0) throw new Error(`${name} did not run`);
        const each = Object.fromEntries(
          Object.keys(more).map((part) => [part, ((more[part] ?? 0) - (without[part] ?? 0)) / runs]),
        );
        rounds.push({ without, each, runs });
      }
      const percentOf = (what: 'without' | 'each', seconds: number): Used =>
        Object.fromEntries(
          Object.keys(rounds[0]?.each ?? {}).map((part) => [
            part,
            (100 * median(rounds.map((round) => round[what][part] ?? Number.NaN))) / seconds,
          ]),
        );
      return {
        percent: percentOf('each', everySeconds),
        beside: percentOf('without', windowSeconds),
        scans: rounds.reduce((total, { runs }) => total + runs, 0),
      };
    }),
  );
}

const how = ({ scans, beside }: Cost): string =>
  `told for one scan each ${everySeconds} s, from ${scans} that were made, one a second at the most, above what there was without them, which was ${sum(beside).toFixed(1)} %`;

/** One simulated host, so that nothing else is scanned. */
export async function auditControlPlane(bench: BenchCloud): Promise<Figure[]> {
  const [host] = bench.cloud.hosts;
  if (!host || bench.cloud.hosts.length > 1) throw new Error('there is not one host');
  await fill(bench, host, guests);
  const cost = await costOfScans(bench.stack.temporalAddress, () => cpuSecondsUsed(bench.stack));
  return [
    alone(
      'audit.cost.controlPlane',
      sum(cost.percent),
      '% of a core',
      { atMost: 1 },
      `all parts, of a simulated host with ${guests} instances; ${how(cost)}. In all: ${told(cost.percent)}`,
    ),
  ];
}

/** The agent is asked the same of each domain, whether it runs or not; so one runs, and the others are only defined. */
export async function auditAgent(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const model = await modelOf(bench, lab);
  const { host, instance, xml } = model;
  const { sh, virsh } = commandsIn(lab);
  const strays = Array.from({ length: guests - 1 }, () => crypto.randomUUID());
  const fileOf = (id: string): string => `/tmp/bench-stray-${id}.xml`;
  const each = (command: (id: string) => string): string => strays.map(command).join('; ');
  await lab.execHost(host, ['tee', '/tmp/bench-definition.xml'], { input: xml });
  await sh(
    host,
    each((id) => `sed s/${instance.id}/${id}/g /tmp/bench-definition.xml >${fileOf(id)}`),
  );
  await virsh(host, [each((id) => `define ${fileOf(id)}`)]);
  await sh(host, `rm /tmp/bench-definition.xml ${strays.map(fileOf).join(' ')}`);
  const used = async (pattern: string): Promise<number> => {
    const stats = (await sh(host, `for pid in $(pgrep -f '${pattern}'); do cat /proc/$pid/stat; done`)).trim();
    if (stats === '') throw new Error(`nothing runs on host${host} that is ${pattern}`);
    return stats.split('\n').reduce((total, stat) => total + cpuSecondsIn(stat), 0);
  };
  const cost = await costOfScans(bench.stack.temporalAddress, async () => ({
    agent: await used('[/]belay/(agent|rbd_helper)'),
    libvirtd: await used('/usr/sbin/libvirt[d]'),
  }));
  const filter = encodeURIComponent(`what = "guestStray" AND location = "${instance.hostId}" AND state = "open"`);
  const { count } = await bench.admin.call<{ count: number }>(
    'GET',
    `/v1/findings?count=exact&pageSize=1&filter=${filter}`,
  );
  if (count !== strays.length) throw new Error(`of ${strays.length} domains without an instance ${count} were found`);
  await virsh(host, [each((id) => `undefine ${domainName(id)}`)]);
  await remove(bench, instance.id);
  const { agent = Number.NaN, libvirtd = Number.NaN } = cost.percent;
  return [
    alone(
      'audit.cost.agent',
      agent,
      '% of a core',
      { atMost: 1 },
      `of a real host with ${guests} domains, all but one only defined; ${how(cost)} with libvirtd. That took ${libvirtd.toFixed(2)} % for it`,
    ),
  ];
}
