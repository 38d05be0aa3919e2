/** The ports of a control plane on one machine: the usual ones, the environment's, or free ones. */
import { assertPortFree, freePort, isPortTaken } from '../postgres/owned-process.ts';

export interface Ports {
  postgres: number;
  temporal: number;
  temporalMetrics: number;
  temporalUi: number;
  /** First of seven. */
  temporalInternal: number;
  api: number;
  controlMetrics: number;
  hostMetrics: number;
  dispatcherMetrics: number;
}
type Name = keyof Ports;

interface Port {
  what: string;
  setting: string;
  usual: number;
  /** How many in a row, from this one on. */
  count: number;
  highest: number;
}

const port = (what: string, setting: string, usual: number): Port => ({
  what,
  setting,
  usual,
  count: 1,
  highest: 65_535,
});

const known: Readonly<Record<Name, Port>> = {
  postgres: port('PostgreSQL', 'BELAY_POSTGRES_PORT', 15_432),
  temporal: port('Temporal', 'BELAY_TEMPORAL_PORT', 17_233),
  temporalMetrics: port("Temporal's metrics", 'BELAY_TEMPORAL_METRICS_PORT', 17_234),
  temporalUi: port("Temporal's web page", 'BELAY_TEMPORAL_UI_PORT', 18_233),
  temporalInternal: {
    what: "Temporal's own parts",
    setting: 'BELAY_TEMPORAL_INTERNAL_PORT',
    usual: 17_240,
    count: 7,
    // Its parts find each other by a table that holds ports in 16 bits with a sign: above, they never do.
    highest: 32_767,
  },
  api: port('the API', 'BELAY_API_PORT', 18_080),
  controlMetrics: port("the control worker's metrics", 'BELAY_CONTROL_METRICS_PORT', 18_081),
  hostMetrics: port("the host worker's metrics", 'BELAY_HOST_METRICS_PORT', 18_082),
  dispatcherMetrics: port("the dispatcher's metrics", 'BELAY_DISPATCHER_METRICS_PORT', 18_083),
};
const names = Object.keys(known) as Name[];

const range = (first: number, count: number): number[] => Array.from({ length: count }, (_, offset) => first + offset);

/** What the environment asks for. Throws one line for what is no port, can not serve, or is asked for twice. */
function asked(environment: NodeJS.ProcessEnv): Partial<Ports> {
  const ports: Partial<Ports> = {};
  const taken = new Map<number, string>();
  for (const name of names) {
    const { setting, count, highest } = known[name];
    const text = environment[setting];
    if (text === undefined || text === '') continue;
    const first = Number(text);
    const last = first + count - 1;
    if (!Number.isInteger(first) || first < 1 || last > highest)
      throw new Error(
        count === 1
          ? `${setting} must be a port from 1 to ${highest}, found "${text}"`
          : `${setting} must be the first of ${count} ports in a row, none above ${highest}, found "${text}"`,
      );
    for (const one of range(first, count)) {
      const other = taken.get(one);
      if (other !== undefined) throw new Error(`${setting} and ${other} both ask for port ${one}`);
      taken.set(one, setting);
    }
    ports[name] = first;
  }
  return ports;
}

/**
 * A port for everything: the environment's, else the usual one, else, where that is in use, a free one, which is told. Throws one line when the
 * environment asks for what can not be had.
 */
export async function choosePorts(environment: NodeJS.ProcessEnv, tell: (line: string) => void): Promise<Ports> {
  const wanted = asked(environment);
  const ports = Object.fromEntries(names.map((name) => [name, wanted[name] ?? known[name].usual])) as unknown as Ports;
  const given = new Set<number>();
  const isFree = async (first: number, count: number): Promise<boolean> => {
    for (const one of range(first, count)) if (given.has(one) || (await isPortTaken(one))) return false;
    return true;
  };
  // What was asked for comes first: the others make way.
  for (const name of [...names].sort((a, b) => Number(b in wanted) - Number(a in wanted))) {
    const { what, setting, count, usual } = known[name];
    if (name in wanted) for (const one of range(ports[name], count)) await assertPortFree(what, one, setting);
    else if (!(await isFree(usual, count))) {
      do ports[name] = await freePort(count);
      while (!(await isFree(ports[name], count)));
      tell(`  port ${usual} is in use: ${what} gets ${ports[name]} (${setting} chooses another)`);
    }
    for (const one of range(ports[name], count)) given.add(one);
  }
  return ports;
}

/** Ports nobody uses right now, for tests side by side with other work. */
export async function freePorts(): Promise<Ports> {
  const total = names.reduce((sum, name) => sum + known[name].count, 0);
  let next = await freePort(total);
  const ports: Partial<Ports> = {};
  for (const name of names) {
    ports[name] = next;
    next += known[name].count;
  }
  return ports as Ports;
}

/** Fails with one line when another process listens on one of them. */
export async function assertPortsFree(ports: Ports): Promise<void> {
  for (const name of names)
    for (const one of range(ports[name], known[name].count))
      await assertPortFree(known[name].what, one, known[name].setting);
}
