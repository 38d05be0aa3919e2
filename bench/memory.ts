/** What an idle control plane holds in memory. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Stack } from '../lab/stack.ts';
import { alone, type Figure } from './figures.ts';

export const parts = ['api', 'control', 'host', 'dispatcher', 'temporal', 'postgres'] as const;

/** `/proc/<pid>/stat`; nothing when the process has ended. */
function statOf(pid: string | number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
}

/** The fields from the third on, behind the name. */
const fieldsOf = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ');

const parentOf = (pid: string): string | undefined => fieldsOf(statOf(pid))[1];

/** With what its children took that have ended. Linux counts CPU time in hundredths of a second for every reader of /proc. */
export const cpuSecondsIn = (stat: string): number =>
  fieldsOf(stat)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + Number(ticks), 0) / 100;

const cpuSecondsOf = (pid: number): number => cpuSecondsIn(statOf(pid));

/** Processes and all below them: PostgreSQL has one for each connection. */
function familyOf(pids: number[]): number[] {
  const parents = new Map(readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [[name, parentOf(name)]] : [])));
  const family = pids.map(String);
  for (const member of family)
    for (const [child, parent] of parents) if (parent === member && child) family.push(child);
  return family.map(Number);
}

interface Memory {
  rssMib: number;
  pssMib: number;
}

function memoryOf(pid: number): Memory {
  let text = '';
  try {
    text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  } catch {
    // A connection's process may have ended since.
  }
  const mib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) / 1024;
  return { rssMib: mib('Rss'), pssMib: mib('Pss') };
}

/** So much of one core is what its clocks and polls take; starting takes whole ones. */
const idleCores = 0.25;
const idleSeconds = 5;
const patienceSeconds = 120;

/** Waits until all parts together have used hardly any CPU for some seconds in a row. Answers how much of a core they used in the last. */
async function untilIdle(stack: Stack): Promise<number> {
  const used = (): Map<number, number> =>
    new Map(parts.flatMap((part) => familyOf(stack.pids(part)).map((pid) => [pid, cpuSecondsOf(pid)])));
  let before = used();
  let at = performance.now();
  const until = at + patienceSeconds * 1000;
  for (let quiet = 0; ; ) {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const now = used();
    const seconds = (performance.now() - at) / 1000;
    at = performance.now();
    // A process that is new began with nothing.
    const cores = [...now].reduce((sum, [pid, cpu]) => sum + cpu - (before.get(pid) ?? 0), 0) / seconds;
    before = now;
    quiet = cores < idleCores ? quiet + 1 : 0;
    if (quiet === idleSeconds) return cores;
    if (at > until)
      throw new Error(`not idle within ${patienceSeconds} s: the parts still use ${cores.toFixed(2)} of a core`);
  }
}

export type OfParts = Record<(typeof parts)[number], number>;

const ofParts = (stack: Stack, of: (pid: number) => number): OfParts =>
  Object.fromEntries(
    parts.map((part) => [part, familyOf(stack.pids(part)).reduce((sum, pid) => sum + of(pid), 0)]),
  ) as OfParts;

/** CPU seconds that the parts have used so far. */
export const cpuSecondsUsed = (stack: Stack): OfParts => ofParts(stack, cpuSecondsOf);

/** Proportional memory of the parts, in MiB. */
export const memoryUsed = (stack: Stack): OfParts => ofParts(stack, (pid) => memoryOf(pid).pssMib);

export const sumOf = (each: OfParts): number => parts.reduce((sum, part) => sum + each[part], 0);

/** What has come to each part since. */
export const moreThan = (before: OfParts, now: OfParts): OfParts =>
  Object.fromEntries(parts.map((part) => [part, now[part] - before[part]])) as OfParts;

export const eachPart = (each: OfParts, digits = 0): string =>
  parts.map((part) => `${part} ${each[part].toFixed(digits)}`).join(', ');

/** Resident memory of all parts; shared pages count in each process that has them, in PSS once. */
export async function memoryIdle(stack: Stack): Promise<Figure[]> {
  const cores = await untilIdle(stack);
  const each = parts.map((part) => {
    const members = familyOf(stack.pids(part)).map(memoryOf);
    const sum = (of: (memory: Memory) => number): number => members.reduce((total, memory) => total + of(memory), 0);
    return { part, rssMib: sum(({ rssMib }) => rssMib), pssMib: sum(({ pssMib }) => pssMib) };
  });
  const text = (of: 'rssMib' | 'pssMib'): string =>
    each.map((memory) => `${memory.part} ${memory[of].toFixed(0)}`).join(', ');
  const total = (of: 'rssMib' | 'pssMib'): number => each.reduce((sum, memory) => sum + memory[of], 0);
  const note = `idle (${cores.toFixed(2)} of a core), no hosts`;
  return [
    alone('memory.idle', total('rssMib'), 'MiB', null, `resident, ${note}: ${text('rssMib')}`),
    alone('memory.idle.pss', total('pssMib'), 'MiB', null, `proportional, ${note}: ${text('pssMib')}`),
  ];
}
