/**
 * Measures what the control plane adds to the least that its work could cost, both side by side in one run.
 *
 *     npm run bench                               all rows on simulated hosts
 *     npm run bench -- get.instance deploy.idle   some rows
 *     npm run bench -- --lab                      also the rows on real hosts, as root, whether the lab seems free or not
 *     npm run bench -- --profile                  with a CPU profile of each process, in .belay/profiles
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { downLab, upLab } from '../lab/real/lab.ts';
import { ownerFile } from '../lab/real/layout.ts';
import { realUnderlay } from '../lab/underlay.ts';
import { benchHome, simulatedMachines, startBenchStack } from './cloud.ts';
import { createAccept, deployIdle, deploySimulated } from './deploys.ts';
import { type Figure, reached, table, writeFigures } from './figures.ts';
import { hostileTenant } from './hostile.ts';
import { memoryIdle } from './memory.ts';
import { getInstance, listInstances } from './reads.ts';
import { deployLab, migrateLab } from './real.ts';

/** In the order in which they disturb each other least. */
const simulatedRows = [
  'memory.idle',
  'deploy.idle',
  'deploy.simulated',
  'get.instance',
  'list.instances',
  'create.accept',
  'hostile',
] as const;
const labRows = ['deploy.lab', 'migrate.lab.downtime', 'migrate.lab.total'] as const;
type SimulatedRow = (typeof simulatedRows)[number];

const latestPath = fileURLToPath(new URL('latest.json', import.meta.url));
const args = process.argv.slice(2);
const flags = new Set(args.filter((arg) => arg.startsWith('--')));
const names = args.filter((arg) => !arg.startsWith('--'));
const log = (line: string): void => console.error(`  ${line}`);

// Each program that runs beside this one is ended at its exit, and there may be more than the ten that Node takes for a leak.
process.setMaxListeners(20);

/** Ends what the rows run on; also when the benchmark is told to end. */
let stop = async (): Promise<void> => {};
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => {
    void stop().finally(() => process.exit(1));
  });

async function simulated(rows: readonly SimulatedRow[]): Promise<Figure[]> {
  const figures: Figure[] = [];
  const hosts = rows.includes('deploy.simulated') ? 1_000 : 20;
  const bench = await startBenchStack({
    machines: await simulatedMachines(hosts),
    profile: flags.has('--profile'),
    log,
  });
  stop = bench.stop;
  try {
    for (const row of rows) {
      log(row);
      if (row === 'memory.idle') figures.push(...(await memoryIdle(bench.stack)));
      else if (row === 'hostile') figures.push(...(await hostileTenant(await bench.cloud())));
      else {
        const cloud = await bench.cloud();
        const measure = {
          'deploy.idle': deployIdle,
          'deploy.simulated': deploySimulated,
          'get.instance': getInstance,
          'list.instances': listInstances,
          'create.accept': createAccept,
        }[row];
        figures.push(await measure(cloud));
      }
    }
  } finally {
    await bench.stop();
  }
  return figures;
}

async function real(wanted: (row: string) => boolean): Promise<Figure[]> {
  const home = join(benchHome, '..');
  // What a run before has left in Ceph belongs to a cloud that is gone.
  await downLab(home, { keep: false });
  const lab = await upLab(home, log);
  const machines = { underlay: realUnderlay(lab), ovn: lab.ovn, stop: () => downLab(home, { keep: false }) };
  const bench = await startBenchStack({ machines, profile: flags.has('--profile'), log });
  stop = bench.stop;
  try {
    const cloud = await bench.cloud();
    return [
      ...(wanted('deploy.lab') ? await deployLab(cloud, lab) : []),
      ...(wanted('migrate.lab.downtime') || wanted('migrate.lab.total') ? await migrateLab(cloud, lab) : []),
    ].filter(({ name }) => wanted(name));
  } finally {
    await bench.stop();
  }
}

/** There is one lab per machine, and it needs root: unasked, its rows are measured only where nobody else has it. */
const labIsFree = (): boolean => process.getuid?.() === 0 && !existsSync(ownerFile);

async function main(): Promise<number> {
  const known: readonly string[] = [...simulatedRows, ...labRows];
  const unknown = [
    ...names.filter((name) => !known.includes(name)),
    ...[...flags].filter((flag) => !['--lab', '--profile'].includes(flag)),
  ];
  if (unknown.length > 0) {
    console.error(`unknown: ${unknown.join(' ')}; possible are ${known.join(', ')}, --lab, --profile`);
    return 2;
  }
  const wanted = (row: string): boolean => names.length === 0 || names.includes(row);
  const figures: Figure[] = [];
  const rows = simulatedRows.filter(wanted);
  if (rows.length > 0) figures.push(...(await simulated(rows)));
  const onLab = labRows.some(wanted);
  if (onLab && (flags.has('--lab') || labIsFree())) figures.push(...(await real(wanted)));
  else if (onLab)
    log(`${labRows.filter(wanted).join(', ')}: not measured; they need root and a free lab (--lab insists)`);
  console.log(table(figures));
  writeFigures(latestPath, figures);
  return figures.every(reached) ? 0 : 1;
}

process.exit(await main());
