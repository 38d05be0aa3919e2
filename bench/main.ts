/**
 * Measures what the control plane adds to the least that its work could cost, both side by side in one run.
 *
 *     npm run bench                               all rows on simulated hosts
 *     npm run bench -- get.instance deploy        some rows; a name stands for all rows below it, here deploy.idle and others
 *     npm run bench -- --lab                      also the rows on real hosts, as root, whether the lab seems free or not
 *     BELAY_BENCH_HOSTS=1000 npm run bench -- hosts.scale     on so many hosts; ten thousand otherwise
 *     BELAY_BENCH_ROUNDS=2 npm run bench -- --lab failover.lab     each side so often, in rows on real hosts and of the auditor
 *     BELAY_BENCH_HOSTS=100000 BELAY_BENCH_INSTANCES=10 BELAY_BENCH_HOST_WORKERS=4 npm run bench -- hosts.scale.here
 *                                                 on so many hosts in the processes of so many workers, with so many instances each; only when
 *                                                 it is asked for, and alone
 *     npm run bench -- --profile                  with a CPU profile of each process, in .belay/profiles
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { downLab, upLab } from '../lab/real/lab.ts';
import { ownerFile } from '../lab/real/layout.ts';
import { realUnderlay } from '../lab/underlay.ts';
import { auditAgent, auditControlPlane } from './audit.ts';
import { type BenchStack, benchHome, type Machines, simulatedMachines, startBenchStack } from './cloud.ts';
import { createAccept, deployIdle, deploySimulated } from './deploys.ts';
import { drainLab } from './drainLab.ts';
import { failoverSimulated } from './failover.ts';
import { failoverLab } from './failoverLab.ts';
import { type Figure, reached, table, writeFigures } from './figures.ts';
import { hostileTenant } from './hostile.ts';
import { memoryIdle } from './memory.ts';
import { getInstance, listInstances } from './reads.ts';
import { deployLab, migrateLab } from './real.ts';
import { hostsScale } from './scale.ts';

/** In the order in which they disturb each other least. */
const simulatedRows = [
  'memory.idle',
  'deploy.idle',
  'deploy.simulated',
  'get.instance',
  'list.instances',
  'create.accept',
  'failover.simulated',
  'hostile',
  'hosts.scale',
] as const;
/** On a cloud of its own. */
const auditRow = 'audit.cost.controlPlane';
const labRows = [
  'deploy.lab',
  'migrate.lab.downtime',
  'migrate.lab.total',
  'drain.lab',
  'failover.lab',
  'audit.cost.agent',
] as const;
/** It has a stack of its own. */
const hereRow = 'hosts.scale.here';
type SimulatedRow = (typeof simulatedRows)[number];

const latestPath = fileURLToPath(new URL('latest.json', import.meta.url));
const args = process.argv.slice(2);
const flags = new Set(args.filter((arg) => arg.startsWith('--')));
const names = args.filter((arg) => !arg.startsWith('--'));
const log = (line: string): void => console.error(`  ${line}`);

// Each program that runs beside this one is ended at its exit, and there may be more than the ten that Node takes for a leak.
process.setMaxListeners(20);

/** Told at once, too: a run that is ended before its table has not measured for nothing. */
function told(measured: Figure[]): Figure[] {
  for (const { name, value, unit, ratio } of measured)
    log(`${name}: ${value.toFixed(2)} ${unit}${ratio === null ? '' : `, ratio ${ratio.toFixed(2)}`}`);
  return measured;
}

/** Ends what the rows run on; also when the benchmark is told to end. */
let stop = async (): Promise<void> => {};
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => {
    void stop().finally(() => process.exit(1));
  });

/** So many hosts are added through the API. */
const joining = 20;

/** Starts a control plane over machines, and stops both when they were measured. */
async function onStack(
  machines: Machines,
  measure: (bench: BenchStack) => Promise<Figure[]>,
  here?: { perHost: number; hostWorkers: number },
): Promise<Figure[]> {
  const bench = await startBenchStack({ machines, profile: flags.has('--profile'), ...(here ? { here } : {}), log });
  stop = bench.stop;
  try {
    return await measure(bench);
  } finally {
    await bench.stop();
  }
}

async function simulated(rows: readonly SimulatedRow[]): Promise<Figure[]> {
  const first = rows.includes('deploy.simulated') ? 1_000 : joining;
  const hosts = rows.includes('hosts.scale') ? Number(process.env.BELAY_BENCH_HOSTS ?? 10_000) : first;
  return onStack(await simulatedMachines(Math.max(hosts, first), first), async (bench) => {
    const figures: Figure[] = [];
    for (const row of rows) {
      log(row);
      if (row === 'memory.idle') figures.push(...told(await memoryIdle(bench.stack)));
      else if (row === 'hostile') figures.push(...told(await hostileTenant(await bench.cloud())));
      else if (row === 'hosts.scale')
        figures.push(...told(await hostsScale(await bench.cloud(), { count: hosts }, log)));
      else {
        const cloud = await bench.cloud();
        const measure = {
          'deploy.idle': deployIdle,
          'deploy.simulated': deploySimulated,
          'get.instance': getInstance,
          'list.instances': listInstances,
          'create.accept': createAccept,
          'failover.simulated': failoverSimulated,
        }[row];
        figures.push(...told([await measure(cloud)]));
      }
    }
    return figures;
  });
}

async function audited(): Promise<Figure[]> {
  log(auditRow);
  return onStack(await simulatedMachines(1, 1), async (bench) => told(await auditControlPlane(await bench.cloud())));
}

async function here(): Promise<Figure[]> {
  const env = process.env;
  const hosts = Number(env.BELAY_BENCH_HOSTS ?? 10_000);
  const perHost = Number(env.BELAY_BENCH_INSTANCES ?? 10);
  return onStack(
    await simulatedMachines(joining, joining),
    async (bench) => {
      log(hereRow);
      return told(await hostsScale(await bench.cloud(), { count: hosts, perHost }, log));
    },
    { perHost, hostWorkers: Number(env.BELAY_BENCH_HOST_WORKERS ?? 1) },
  );
}

async function real(wanted: (row: string) => boolean): Promise<Figure[]> {
  const home = join(benchHome, '..');
  // What a run before has left in Ceph belongs to a cloud that is gone.
  await downLab(home, { keep: false });
  const lab = await upLab(home, log);
  const machines = { underlay: realUnderlay(lab), ovn: lab.ovn, stop: () => downLab(home, { keep: false }) };
  return onStack(machines, async (bench) => {
    const cloud = await bench.cloud();
    const figures: Figure[] = [];
    for (const [measure, rows] of [
      [deployLab, ['deploy.lab']],
      [migrateLab, ['migrate.lab.downtime', 'migrate.lab.total']],
      [drainLab, ['drain.lab']],
      [failoverLab, ['failover.lab']],
      [auditAgent, ['audit.cost.agent']],
    ] as const) {
      if (!rows.some(wanted)) continue;
      log(rows.join(', '));
      figures.push(...told(await measure(cloud, lab)));
    }
    return figures.filter(({ name }) => wanted(name));
  });
}

/** There is one lab per machine, and it needs root: unasked, its rows are measured only where nobody else has it. */
const labIsFree = (): boolean => process.getuid?.() === 0 && !existsSync(ownerFile);

async function main(): Promise<number> {
  const known: readonly string[] = [...simulatedRows, auditRow, hereRow, ...labRows];
  const isBelow = (row: string, name: string): boolean => row === name || row.startsWith(`${name}.`);
  const unknown = [
    ...names.filter((name) => !known.some((row) => isBelow(row, name))),
    ...[...flags].filter((flag) => !['--lab', '--profile'].includes(flag)),
  ];
  if (unknown.length > 0) {
    console.error(`unknown: ${unknown.join(' ')}; possible are ${known.join(', ')}, --lab, --profile`);
    return 2;
  }
  // What is measured alone is asked for by its whole name.
  const wanted = (row: string): boolean => names.length === 0 || names.some((name) => isBelow(row, name));
  if (names.includes(hereRow) && names.length > 1) {
    console.error(`${hereRow} is measured alone`);
    return 2;
  }
  const figures: Figure[] = [];
  if (names.includes(hereRow)) figures.push(...(await here()));
  const rows = simulatedRows.filter(wanted);
  if (rows.length > 0) figures.push(...(await simulated(rows)));
  if (wanted(auditRow)) figures.push(...(await audited()));
  const onLab = labRows.some(wanted);
  if (onLab && (flags.has('--lab') || labIsFree())) figures.push(...(await real(wanted)));
  else if (onLab)
    log(`${labRows.filter(wanted).join(', ')}: not measured; they need root and a free lab (--lab insists)`);
  console.log(table(figures));
  writeFigures(latestPath, figures);
  return figures.every(reached) ? 0 : 1;
}

process.exit(await main());
