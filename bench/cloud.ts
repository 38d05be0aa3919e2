/** A control plane over simulated hosts, each part a process of its own, provisioned through the API. */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Api, openApi } from '../lab/api.ts';
import { freePorts } from '../lab/ports.ts';
import { type Cloud, provision, timing, type Underlay } from '../lab/provision.ts';
import type { Simulator } from '../lab/simulated/simulator.ts';
import { type OvnAddresses, type Stack, startStack, stopStack } from '../lab/stack.ts';
import { simulatedUnderlay } from '../lab/underlay.ts';
import { nodeArguments, nodeCommand } from '../runtime/node.mjs';
import { endWithUs } from './child.ts';

export interface BenchCloud {
  stack: Stack;
  cloud: Cloud;
  admin: Api;
  /** How long it took to add all hosts through the API. */
  hostSeconds: number;
}

export interface BenchStack {
  stack: Stack;
  /** Makes the cloud at its first call. */
  cloud(): Promise<BenchCloud>;
  stop(): Promise<void>;
}

export const benchHome = join(process.env.BELAY_HOME ?? fileURLToPath(new URL('../.belay', import.meta.url)), 'bench');

interface SimulatorAddress extends Pick<Simulator, 'ovn' | 'ceph' | 's3'> {
  firstHostAddress: string;
}

async function startSimulatorProcess(hosts: number): Promise<SimulatorAddress & { stop(): Promise<void> }> {
  const program = fileURLToPath(new URL('../lab/simulated/simulator.ts', import.meta.url));
  const child = spawn(nodeCommand(), [...nodeArguments, program, '--hosts', String(hosts)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  endWithUs(child);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const ready = await Promise.race([
    new Promise<string>((resolve) => createInterface({ input: child.stdout }).once('line', resolve)),
    ended.then(() => Promise.reject(new Error('the simulator did not start'))),
  ]);
  return {
    ...(JSON.parse(ready) as SimulatorAddress),
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Of hosts within the processes of the workers, without the number at the end. */
export const hereAddress = 'sim://here/host-';

/** What lies below the control plane; it takes the underlay in after it was started. */
export interface Machines {
  underlay: Underlay;
  ovn: OvnAddresses;
  stop(): Promise<void>;
}

/** Of so many that could join, the first so many do. */
export async function simulatedMachines(hosts: number, joining: number): Promise<Machines> {
  const simulator = await startSimulatorProcess(hosts);
  const first = simulator.firstHostAddress.replace(/0$/, '');
  const list = Array.from({ length: joining }, (_, n) => ({ name: `host-${n}`, address: `${first}${n}` }));
  return { underlay: simulatedUnderlay(simulator, list), ovn: simulator.ovn, stop: simulator.stop };
}

/** `profile` writes a CPU profile of each process at its end. Stops the machines with the rest. */
export async function startBenchStack(options: {
  machines: Machines;
  profile: boolean;
  /** Hosts at `hereAddress` are in the processes of the workers, with so many guests each. */
  here?: { perHost: number; hostWorkers: number };
  log(line: string): void;
}): Promise<BenchStack> {
  const { machines, profile, here, log } = options;
  await stopStack(benchHome);
  rmSync(benchHome, { recursive: true, force: true });
  const preloaded = [
    ...(profile ? [new URL('profile.mjs', import.meta.url)] : []),
    ...(here ? [new URL('../lab/simulated/here.ts', import.meta.url)] : []),
  ];
  const environment: Record<string, string> = {
    // One caller makes all the load here.
    BELAY_REQUESTS_PER_MINUTE: '100000000',
    ...(preloaded.length > 0 ? { NODE_OPTIONS: preloaded.map((url) => `--import=${url}`).join(' ') } : {}),
    ...(profile ? { BELAY_PROFILES: join(benchHome, '..', 'profiles') } : {}),
    ...(here ? { BELAY_SIMULATED_GUESTS: String(here.perHost) } : {}),
  };
  const { underlay, ovn } = machines;
  const stack = await startStack({
    home: benchHome,
    ports: await freePorts(),
    ovn,
    allowSimulatedHosts: true,
    faultInjection: false,
    hostWorkers: here?.hostWorkers ?? 1,
    environment,
    log,
  }).catch(async (error: unknown) => {
    await stopStack(benchHome);
    await machines.stop();
    throw error;
  });
  let made: Promise<BenchCloud> | undefined;
  const make = async (): Promise<BenchCloud> => {
    let hostSeconds = 0;
    const admin = openApi(stack.apiUrl, stack.token);
    const cloud = await provision(
      admin,
      underlay,
      timing((what, ms) => {
        log(`${what} ${(ms / 1000).toFixed(1)} s`);
        if (what.includes('hosts')) hostSeconds = ms / 1000;
      }),
    );
    return { stack, cloud, admin, hostSeconds };
  };
  return {
    stack,
    cloud: () => {
      made ??= make();
      return made;
    },
    async stop() {
      await stack.stop();
      await machines.stop();
    },
  };
}
