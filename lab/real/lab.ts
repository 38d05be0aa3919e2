import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Board, boardOf } from '../../runtime/progress.mjs';
import { type CephAccess, cephAccess, downCeph, upCeph } from './ceph.ts';
import { buildGuestImage } from './guest-image.ts';
import {
  crashHost,
  ensureSshKey,
  execHost,
  freezeHost,
  hostAccess,
  hostFile,
  hostInit,
  type LabHost,
  libvirtSocket,
  startHost,
  stopHost,
  strayProcesses,
} from './host.ts';
import { type HostNumber, hostName, hostNumbers, type LabPaths, labPaths, machineLink, ownerFile } from './layout.ts';
import { allNamespaces, downNetwork, setPlugged, setStorageReached, upNetwork } from './network.ts';
import { downOvn, type OvnEndpoints, ovnEndpoints, upOvn } from './ovn.ts';
import { ensurePackages } from './packages.ts';
import {
  commandLine,
  endProcesses,
  labProcesses,
  processIdentity,
  type RunOptions,
  type RunResult,
  run,
  waitUntil,
} from './processes.ts';

export type { CephAccess } from './ceph.ts';
export type { LabHost } from './host.ts';
export type { OvnEndpoints } from './ovn.ts';
export type { RunResult } from './processes.ts';

/** A cloud's outside world on one machine: three bare hypervisor hosts, Ceph with an object gateway, OVN's databases. */
export interface Lab {
  ceph: CephAccess;
  ovn: OvnEndpoints;
  hosts: LabHost[];
  /** A guest of 128 MiB that boots in seconds; see guest-image.ts for what it does. */
  guestImage: string;
  /** Runs a command inside a host, without SSH. */
  execHost(host: number, argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** A power cut. */
  crashHost(host: number): Promise<void>;
  /** Power on; returns when SSH and libvirt answer. Also plugs the cables in. */
  startHost(host: number): Promise<void>;
  /** Whether its power is on. */
  isUp(host: number): boolean;
  /** All cables pulled; the host and its guests live on. */
  unplugHost(host: number): Promise<void>;
  plugHost(host: number): Promise<void>;
  /** Nothing goes to the storage any more; all else is as it was. */
  cutStorage(host: number): Promise<void>;
  mendStorage(host: number): Promise<void>;
  /** A host that hangs, with all that runs on it; and that goes on as if nothing had been. */
  freezeHost(host: number): void;
  thawHost(host: number): void;
  /** The file, seen from the machine, that a host keeps at `path`, such as a guest's serial log in /var/log/libvirt. */
  hostFile(host: number, path: string): string;
  /** The socket, seen from the machine, on which libvirt of a running host answers; undefined while its power is off. */
  libvirtSocket(host: number): string | undefined;
}

type Log = (line: string) => void;

/**
 * Brings up whatever of the lab is not up, and returns when all of it answers: about 15 s the first time, under a second when it is up.
 * It does not matter how an earlier run ended. Three hosts at most; one lab per machine.
 *
 * @param home Belay's state directory; the lab's is `<home>/lab`
 */
export async function upLab(home: string, log: Log, board: Board = boardOf(log)): Promise<Lab> {
  const paths = labPaths(home);
  const startedMs = performance.now();
  const timed = async <Result>(what: string, work: Promise<Result>): Promise<Result> => {
    const since = performance.now();
    const result = await work;
    log(`lab: ${what.padEnd(12)} ${((performance.now() - since) / 1000).toFixed(1)} s`);
    return result;
  };
  // The path stands in mount options and in Ceph's configuration, which both give a meaning to spaces, commas and colons.
  if (/[^\w./@+-]/.test(paths.root))
    throw new Error(`lab: ${paths.root} has characters beyond letters, digits and ./@+-_`);
  await timed('packages', ensurePackages(board));
  mkdirSync(paths.sockets, { recursive: true });
  await withLabLock(paths, async () => {
    own(paths);
    await timed('network', upNetwork());
    const hosts = async () => {
      await ensureSshKey(paths);
      await Promise.all(hostNumbers.map((host) => startHost(paths, host)));
    };
    await settled([
      timed('guest image', buildGuestImage(home, board)),
      timed('ceph', upCeph(paths)),
      timed('ovn', upOvn(paths)),
      timed('hosts', hosts()),
    ]);
  });
  log(`lab: up after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  return labOf(paths);
}

/** The lab that `upLab` brought up, perhaps in another process. Throws when none of this home is up. */
export async function attachLab(home: string): Promise<Lab> {
  const paths = labPaths(home);
  if (owner() !== paths.root)
    throw new Error(`lab: none is up at ${paths.root}; start it with: node lab/real/lab.ts up`);
  return labOf(paths);
}

/**
 * Ends every process of the lab, and removes its namespaces and links. Disks stay, so that the next `upLab` finds what was there.
 *
 * @param options.keep false also deletes all state except the guest image
 */
export async function downLab(home: string, options: { keep?: boolean } = {}): Promise<void> {
  const paths = labPaths(home);
  const other = owner();
  if (other !== undefined && other !== paths.root)
    throw new Error(`lab: the one that is up belongs to ${other}; take that one down`);
  mkdirSync(paths.root, { recursive: true });
  await withLabLock(paths, async () => {
    await Promise.all(hostNumbers.map((host) => stopHost(paths, host)));
    await Promise.all([downCeph(paths), downOvn(paths)]);
    await endProcesses([...labProcesses(paths.root).map(({ pid }) => pid), ...strayProcesses(paths)], 'SIGKILL');
    await downNetwork();
    rmSync(paths.sockets, { recursive: true, force: true });
    if (options.keep === false) {
      for (const name of readdirSync(paths.root)) {
        if (name !== 'guest' && name !== 'lock') rmSync(join(paths.root, name), { recursive: true, force: true });
      }
    }
    rmSync(ownerFile, { force: true });
  });
}

/** Everything of the lab that is on the machine now, one line each; after `downLab` there is nothing. */
export async function leftovers(home: string): Promise<string[]> {
  const paths = labPaths(home);
  const pids = new Set([...labProcesses(paths.root).map(({ pid }) => pid), ...strayProcesses(paths)]);
  const { stdout } = await run(['ip', '-brief', 'link']);
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return [
    ...[...pids].map((pid) => `process ${commandLine(pid)}`),
    ...allNamespaces.filter((name) => existsSync(`/run/netns/${name}`)).map((name) => `namespace ${name}`),
    ...stdout
      .split('\n')
      .filter((line) => line.startsWith(machineLink))
      .map((line) => `link ${line.split(/[ @]/)[0]}`),
    ...mounts
      .filter((line) => line.includes(`${paths.root}/`) || line.includes('/run/netns/by-'))
      .map((line) => `mount ${line.split(' ')[1]}`),
    ...(paths.sockets.startsWith('/run/') && existsSync(paths.sockets) ? [`directory ${paths.sockets}`] : []),
  ];
}

function labOf(paths: LabPaths): Lab {
  const checked = (host: number): HostNumber => {
    const found = hostNumbers.find((number) => number === host);
    if (found === undefined) throw new Error(`lab: there is no host ${host}; there are ${hostNumbers.join(', ')}`);
    return found;
  };
  return {
    ceph: cephAccess(paths),
    ovn: ovnEndpoints(paths),
    hosts: hostNumbers.map((host) => hostAccess(paths, host)),
    guestImage: paths.guestImage,
    execHost: (host, argv, options) => execHost(paths, checked(host), argv, options),
    crashHost: (host) => crashHost(paths, checked(host)),
    startHost: (host) => startHost(paths, checked(host)),
    isUp: (host) => hostInit(paths, checked(host)) !== undefined,
    unplugHost: (host) => setPlugged(checked(host), false),
    plugHost: (host) => setPlugged(checked(host), true),
    cutStorage: (host) => setStorageReached(checked(host), false),
    mendStorage: (host) => setStorageReached(checked(host), true),
    freezeHost: (host) => freezeHost(paths, checked(host), true),
    thawHost: (host) => freezeHost(paths, checked(host), false),
    hostFile: (host, path) => hostFile(paths, checked(host), path),
    libvirtSocket: (host) => libvirtSocket(paths, checked(host)),
  };
}

/** Waits for all, also when one fails, so that nothing is still being started after the error is reported; then throws the first error. */
async function settled(work: Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

function owner(): string | undefined {
  return existsSync(ownerFile) ? readFileSync(ownerFile, 'utf8').trim() : undefined;
}

/** Whether there is anything of a lab of this home: running, or left on the disk. */
export const hasLab = (home: string): boolean =>
  owner() === labPaths(home).root || (owner() === undefined && existsSync(labPaths(home).root));

function own(paths: LabPaths): void {
  const other = owner();
  if (other !== undefined && other !== paths.root && labProcesses(other).length > 0) {
    throw new Error(`lab: one of another home is up (${other}); take it down first, names and addresses are the same`);
  }
  writeFileSync(ownerFile, `${paths.root}\n`);
}

/** One process at a time brings the lab up or down; the lock of a process that is gone counts for nothing. */
async function withLabLock<Result>(paths: LabPaths, work: () => Promise<Result>): Promise<Result> {
  const lock = join(paths.root, 'lock');
  const mine = `${lock}.${process.pid}`;
  writeFileSync(mine, processIdentity(process.pid));
  await waitUntil(
    `the process that is bringing the lab up or down (${lock})`,
    () => {
      try {
        linkSync(mine, lock); // appears with its content, or not at all
        return true;
      } catch {
        const holder = existsSync(lock) ? readFileSync(lock, 'utf8') : '';
        if (processIdentity(Number.parseInt(holder, 10)) !== holder) rmSync(lock, { force: true });
        return false;
      }
    },
    120_000,
    50,
  ).finally(() => rmSync(mine, { force: true }));
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

const usage = `lab.ts up | down [--purge] | status | exec <host> -- <command> | crash|start|unplug|plug <host>`;

async function main([command, ...rest]: string[]): Promise<number> {
  const home = resolve(process.env.BELAY_HOME ?? join(import.meta.dirname, '../../.belay'));
  const paths = labPaths(home);
  const say: Log = (line) => console.log(line);
  const host = Number(/^(?:host)?([1-9])$/.exec(rest[0] ?? '')?.[1]);
  switch (command) {
    case 'up':
      await upLab(home, say);
      return 0;
    case 'down':
      await downLab(home, { keep: !rest.includes('--purge') });
      say(`lab: down; left: ${(await leftovers(home)).join(', ') || 'nothing'}`);
      return 0;
    case 'status': {
      for (const { pid, part } of labProcesses(paths.root).filter(({ part }) => !part.startsWith('host')))
        say(`${part.padEnd(12)} ${pid}`);
      for (const number of hostNumbers) say(`${hostName(number).padEnd(12)} ${hostInit(paths, number) ?? 'off'}`);
      return 0;
    }
    case 'exec': {
      const result = await (await attachLab(home)).execHost(host, rest.slice(rest[1] === '--' ? 2 : 1));
      process.stdout.write(result.stdout);
      process.stderr.write(result.stderr);
      return result.code;
    }
    case 'crash':
    case 'start':
    case 'unplug':
    case 'plug':
      await (await attachLab(home))[`${command}Host`](host);
      return 0;
    default:
      console.error(usage);
      return 2;
  }
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === resolve(process.argv[1])) {
  main(process.argv.slice(2)).then(
    (code) => {
      process.exitCode = code;
    },
    (error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      process.exitCode = 1;
    },
  );
}
