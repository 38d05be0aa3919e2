/**
 * A whole cloud's outside world in one process: hosts that speak the agent's protocol, the Ceph cluster they share, the OVN
 * databases and an S3 store. The control plane meets the real ones in the same words; only the addresses differ.
 *
 *     node lab/simulated/simulator.ts --hosts 100 --port 9400
 */
import { randomUUID } from 'node:crypto';
import type { AddressInfo, Server, Socket } from 'node:net';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { createRedfish } from '../redfish.ts';
import { type Admin, adminRoutes, createMishaps, type HostRecord } from './admin.ts';
import { adminUser, type CephRecord, createCeph, findImage, type PoolRecord, recordOfPool } from './ceph.ts';
import { createFaults, type Rule, type Rules } from './faults.ts';
import { createHost, type Host, type HostWorld } from './host/host.ts';
import { createHostServer, type Message } from './host/server.ts';
import { createOvn, type OvnRecord } from './ovn.ts';
import { createOvsdbServer } from './ovsdb.ts';
import { refuse } from './problem.ts';
import { createS3Server, type S3Record } from './s3.ts';

export type { Rule, Rules };

export interface SimulatorOptions {
  /** Their names are `<namePrefix><n>`, n from 0 to hosts - 1. */
  hosts: number;
  namePrefix?: string;
  /** The hosts' port; OVSDB then listens on the next, S3 on the one after, BMCs on the one after that. 0 takes any free ports. */
  port?: number;
  ports?: { hosts?: number; ovn?: number; s3?: number; bmc?: number };
  vcpusPerHost?: number;
  memoryMibPerHost?: number;
  /** Running domains may have this many times the host's vCPUs; memory is never overcommitted. */
  vcpuOvercommit?: number;
  /** Of every call and OVSDB transaction. */
  latencyMs?: number;
  /** By call name; wins over `latencyMs`. */
  callLatencyMs?: Record<string, number>;
  /** From a domain's start to `READY <hostname>` on its serial log. */
  bootMs?: number;
  shutDownMs?: number;
  migrationMs?: number;
  rebootMs?: number;
}

export interface SimulatorInventory {
  hosts: Record<string, HostRecord>;
  ceph: CephRecord;
  /** By the directory of each pool of files. */
  files: Record<string, PoolRecord>;
  ovn: OvnRecord;
  s3: Record<string, S3Record>;
}

export interface Simulator extends Admin {
  /** What steps asked of hosts that changes something, the newest last. */
  messages(): Message[];
  /** Where the admin path `/_sim/…` and all hosts are. */
  url: string;
  hostNames(): string[];
  /** `sim://127.0.0.1:<port>/<name>`, which answers under `http://127.0.0.1:<port>/<name>/v1/…`. */
  hostAddress(n: number): string;
  ceph: { monitors: string[]; fsid: string; adminUser: string; adminKey: string };
  ovn: { nbRemote: string; sbRemote: string };
  s3: { endpoint: string; region: string; accessKey: string; secretKey: string; bucket: string };
  rules: Rules;
  /** Everything that exists, sorted, without times and row ids: equal before and after a roll-back. */
  inventory(): SimulatorInventory;
  stop(): Promise<void>;
}

const loopback = '127.0.0.1';
const credentials = { accessKey: 'SIMULATEDACCESSKEY00', secretKey: 'simulated-secret-key' };
const bucket = 'belay';
const bmcPassword = 'simulated-password';

/** By the directory, which is what a host sees of it. */
const filePoolsOf = ({ filePools }: HostWorld): Record<string, PoolRecord> =>
  Object.fromEntries(
    [...filePools.values()]
      .sort((a, b) => (a.place < b.place ? -1 : 1))
      .map((pool) => [pool.place, recordOfPool(pool)]),
  );

/** Listens on all ports before it answers. Rejects when one is taken. */
export async function startSimulator(options: SimulatorOptions): Promise<Simulator> {
  const { hosts: hostCount, namePrefix = 'host-', port = 0, ports = {} } = options;
  const faults = createFaults(options.latencyMs ?? 0, options.callLatencyMs);
  const hosts = new Map<string, Host>();

  const findHost = (name: string): Host | undefined => {
    const known = hosts.get(name);
    if (known || !name.startsWith(namePrefix)) return known;
    const digits = name.slice(namePrefix.length);
    const n = Number(digits);
    if (String(n) !== digits || !Number.isInteger(n) || n < 0 || n >= hostCount) return undefined;
    const host = createHost(world, name);
    hosts.set(name, host);
    return host;
  };

  const ovn = createOvn(() => world, faults);
  const world: HostWorld = {
    settings: {
      vcpusPerHost: options.vcpusPerHost ?? 64,
      memoryMibPerHost: options.memoryMibPerHost ?? 262_144,
      vcpuOvercommit: options.vcpuOvercommit ?? 16,
      bootMs: options.bootMs ?? 20,
      shutDownMs: options.shutDownMs ?? 10,
      migrationMs: options.migrationMs ?? 200,
      rebootMs: options.rebootMs ?? 300,
    },
    ceph: createCeph(`${namePrefix} ${ports.hosts ?? (port || randomUUID())}`),
    filePools: new Map(),
    network: ovn,
    hosts,
    heartbeats: new Map(),
    running: new Map(),
    interfaces: new Map(),
    cutAll: (host) => hostServer.cutAll(host),
    findHost,
    findHostAt(address) {
      const atAddress = [...hosts.values()].filter((host) => host.hypervisor?.migrationAddress === address);
      return atAddress.length === 1 ? atAddress[0] : undefined;
    },
  };
  const { ceph } = world;

  const hostServer = createHostServer(
    world,
    faults,
    adminRoutes(world, faults, () => simulator),
  );
  const ovsdbServer = createOvsdbServer(ovn.databases, faults);
  const s3Server = createS3Server(credentials, [bucket], faults);
  const fixed = (n: number) => (port === 0 ? 0 : port + n);
  const hostsPort = await listen(hostServer.server, ports.hosts ?? fixed(0));
  const ovnPort = await listen(ovsdbServer, ports.ovn ?? fixed(1));
  const s3Port = await listen(s3Server.server, ports.s3 ?? fixed(2));
  const hostsAddress = `sim://${loopback}:${hostsPort}`;
  const ovnRemote = `tcp:${loopback}:${ovnPort}`;

  const { record, ...mishaps } = createMishaps(world, hostServer.cutAll);
  const bmcs = await createRedfish({
    password: bmcPassword,
    // One for each host, by its name: they change their own passwords.
    isUser: (user) => findHost(user) !== undefined,
    names: () => [...hosts.keys()],
    find(name) {
      const host = findHost(name);
      return (
        host && {
          isOn: () => host.isPowered,
          on: () => mishaps.powerHost(name, true),
          off: () => mishaps.powerHost(name, false),
        }
      );
    },
    mishapOf: (name) => hosts.get(name)?.bmcMishap,
  });
  const bmcPort = await listen(bmcs.server, ports.bmc ?? fixed(3));
  const simulator: Simulator = {
    url: `http://${loopback}:${hostsPort}`,
    hostNames: () => Array.from({ length: hostCount }, (_, n) => `${namePrefix}${n}`),
    hostAddress: (n) => `${hostsAddress}/${namePrefix}${n}`,
    ceph: { monitors: ceph.monitors, fsid: ceph.fsid, adminUser, adminKey: ceph.adminKey },
    ovn: { nbRemote: ovnRemote, sbRemote: ovnRemote },
    s3: { endpoint: `http://${loopback}:${s3Port}`, region: 'us-east-1', ...credentials, bucket },
    bmc: {
      bmc: { protocol: 'redfish', address: loopback, port: bmcPort },
      bmcPassword,
    },
    rules: faults,
    ...mishaps,
    messages: hostServer.messages,
    writeToImage(poolName, imageName, content) {
      const pool = ceph.pools.get(poolName);
      if (!pool) throw refuse('NOT_FOUND', `There is no pool ${poolName}`);
      findImage(pool, imageName).content = content;
    },
    inventory() {
      ovn.settle();
      const now = {
        hosts: record(),
        ceph: ceph.record(),
        files: filePoolsOf(world),
        ovn: ovn.record(),
        s3: s3Server.record(),
      };
      return structuredClone(now);
    },
    async stop() {
      faults.clear();
      for (const host of hosts.values()) for (const { bootTimer } of host.domains.values()) clearTimeout(bootTimer);
      await Promise.all([hostServer.server, ovsdbServer, s3Server.server, bmcs.server].map(close));
    },
  };
  return simulator;
}

/** Answers the port. Remembers connections, so that `close` need not wait for clients that keep theirs. */
function listen(server: Server, port: number): Promise<number> {
  const sockets = new Set<Socket>();
  connections.set(server, sockets);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host: loopback, backlog: 4096 }, () => resolve((server.address() as AddressInfo).port));
  });
}

const connections = new WeakMap<Server, Set<Socket>>();

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    for (const socket of connections.get(server) ?? []) socket.destroy();
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      hosts: { type: 'string', default: '10' },
      port: { type: 'string', default: '0' },
      'name-prefix': { type: 'string', default: 'host-' },
      'latency-ms': { type: 'string', default: '0' },
      'migration-ms': { type: 'string', default: '200' },
      'vcpus-per-host': { type: 'string', default: '64' },
      'memory-mib-per-host': { type: 'string', default: '262144' },
    },
  });
  const hosts = Number(values.hosts);
  const simulator = await startSimulator({
    hosts,
    port: Number(values.port),
    namePrefix: values['name-prefix'],
    latencyMs: Number(values['latency-ms']),
    migrationMs: Number(values['migration-ms']),
    vcpusPerHost: Number(values['vcpus-per-host']),
    memoryMibPerHost: Number(values['memory-mib-per-host']),
  });
  const { url, ceph, ovn, s3 } = simulator;
  const firstHostAddress = simulator.hostAddress(0);
  const ready = { url, hosts, namePrefix: values['name-prefix'], firstHostAddress, ceph, ovn, s3 };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.once(signal, () => void simulator.stop().then(() => process.exit(0)));
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
