/** What an idle control plane holds in memory. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Stack } from '../lab/stack.ts';
import { alone, type Figure } from './figures.ts';

const parts = ['api', 'control', 'host', 'dispatcher', 'temporal', 'postgres'] as const;

function parentOf(pid: string): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
  } catch {
    return undefined;
  }
}

/** A process and all below it: PostgreSQL has one for each connection. */
function familyOf(pid: number): number[] {
  const parents = new Map(readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [[name, parentOf(name)]] : [])));
  const family = [String(pid)];
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

/** Resident memory of all parts; shared pages count in each process that has them, in PSS once. */
export async function memoryIdle(stack: Stack): Promise<Figure[]> {
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const each = parts.map((part) => {
    const members = familyOf(stack.pid(part)).map(memoryOf);
    const sum = (of: (memory: Memory) => number): number => members.reduce((total, memory) => total + of(memory), 0);
    return { part, rssMib: sum(({ rssMib }) => rssMib), pssMib: sum(({ pssMib }) => pssMib) };
  });
  const text = (of: 'rssMib' | 'pssMib'): string =>
    each.map((memory) => `${memory.part} ${memory[of].toFixed(0)}`).join(', ');
  const total = (of: 'rssMib' | 'pssMib'): number => each.reduce((sum, memory) => sum + memory[of], 0);
  const note = 'ten seconds after the start, no hosts';
  return [
    alone('memory.idle', total('rssMib'), 'MiB', null, `resident, ${note}: ${text('rssMib')}`),
    alone('memory.idle.pss', total('pssMib'), 'MiB', null, `proportional, ${note}: ${text('pssMib')}`),
  ];
}
