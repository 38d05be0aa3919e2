/**
 * Measures what the control plane adds to the least that its work could cost, both side by side in one run.
 *
 *     npm run bench                               all rows on simulated hosts
 *     npm run bench -- get.instance deploy.idle   some rows
 *     npm run bench -- --lab                      also the rows on real hosts, as root
 *     npm run bench -- --profile                  with a CPU profile of each process, in .belay/profiles
 */
import { fileURLToPath } from 'node:url';
import { startBenchStack } from './cloud.ts';
import { createAccept, deployIdle, deploySimulated } from './deploys.ts';
import { type Figure, reached, table, writeFigures } from './figures.ts';
import { memoryIdle } from './memory.ts';
import { getInstance, listInstances } from './reads.ts';

/** In the order in which they disturb each other least. */
const simulatedRows = [
  'memory.idle',
  'deploy.idle',
  'deploy.simulated',
  'get.instance',
  'list.instances',
  'create.accept',
] as const;
const labRows = ['deploy.lab', 'migrate.lab.downtime', 'migrate.lab.total'] as const;
type SimulatedRow = (typeof simulatedRows)[number];

const latestPath = fileURLToPath(new URL('latest.json', import.meta.url));
const args = process.argv.slice(2);
const flags = new Set(args.filter((arg) => arg.startsWith('--')));
const names = args.filter((arg) => !arg.startsWith('--'));
const log = (line: string): void => console.error(`  ${line}`);

async function simulated(rows: readonly SimulatedRow[]): Promise<Figure[]> {
  const figures: Figure[] = [];
  const hosts = rows.includes('deploy.simulated') ? 1_000 : 20;
  const bench = await startBenchStack({ hosts, profile: flags.has('--profile'), log });
  try {
    for (const row of rows) {
      log(row);
      if (row === 'memory.idle') figures.push(...(await memoryIdle(bench.stack)));
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
  console.log(table(figures));
  writeFigures(latestPath, figures);
  return figures.every(reached) ? 0 : 1;
}

process.exit(await main());
