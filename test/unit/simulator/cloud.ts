import { createHash, randomUUID } from 'node:crypto';
import net from 'node:net';
import type { AgentProblem } from '../../../host-agent/problem.ts';
import type {
  CallName,
  Calls,
  CephAccess,
  DomainSpec,
  ImageAddress,
  Tags,
  Task,
  TaskName,
  Tasks,
} from '../../../host-agent/protocol.ts';
import {
  CLOCK_HEADER,
  LEASE_HEADER,
  leaseText,
  MESSAGE_SECONDS,
  type Moment,
  momentText,
  readMoment,
  STEP_HEADER,
  type Stamp,
  stepText,
  UNTIL_HEADER,
} from '../../../host-agent/stamp.ts';
import { createFramer } from '../../../lab/simulated/ovsdb.ts';
import type { Json } from '../../../lab/simulated/ovsdbDatabase.ts';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../../lab/simulated/simulator.ts';

export const storageClusterId = 'c0000000-0000-4000-8000-000000000001';
export const pool = 'fast';

/** The id of what a test calls so. */
export const idOf = (name: string): string =>
  `00000000-0000-4000-8000-${createHash('md5').update(name).digest('hex').slice(0, 12)}`;

/** What passes for a certificate. */
const pem = '-----BEGIN TEST-----\nAAAA\n-----END TEST-----\n';

export function tags(id: string, operation = 'operation-1'): Tags {
  return { id, kind: 'volume', operation, revision: 1 };
}

export function image(name: string): ImageAddress {
  return { storageClusterId, pool, image: name };
}

/** Of the first holder of a shard, in the first try of a step. */
export const firstStamp: Stamp = {
  lease: { shard: 1, epoch: 1 },
  step: { operationId: 'operation-1', index: 0, round: 1, attempt: 1 },
};

export const headersOf = ({ lease, step }: Stamp, until?: Moment): Record<string, string> => ({
  [LEASE_HEADER]: leaseText(lease),
  [STEP_HEADER]: stepText(step),
  ...(until ? { [UNTIL_HEADER]: momentText(until) } : {}),
});

/** Until when a message may be acted on that is sent now; undefined where nobody answers. */
export async function fromNow(simulator: Simulator, host: string): Promise<Moment | undefined> {
  const { headers } = await fetch(`${simulator.url}/${host}/v1/health`);
  const now = readMoment(headers.get(CLOCK_HEADER) ?? '');
  return now && { ...now, ms: now.ms + MESSAGE_SECONDS * 1_000 };
}

/** A call's answer, or the problem it was refused with. */
export async function ask<Name extends CallName>(
  simulator: Simulator,
  host: string,
  name: Name,
  input: Calls[Name]['input'],
  stamp: Stamp = firstStamp,
  until?: Moment,
): Promise<Calls[Name]['result']> {
  const response = await fetch(`${simulator.url}/${host}/v1/calls/${name}`, {
    method: 'POST',
    headers: headersOf(stamp, until ?? (await fromNow(simulator, host))),
    body: JSON.stringify(input),
  });
  const body = await response.json();
  if (!response.ok) throw new Refusal(body as AgentProblem);
  return body as Calls[Name]['result'];
}

export class Refusal extends Error {
  readonly code: string;
  constructor({ code, message }: AgentProblem) {
    super(message);
    this.code = code;
  }
}

export async function putTask<Name extends TaskName>(
  simulator: Simulator,
  host: string,
  name: Name,
  input: Tasks[Name]['input'],
  id: string = randomUUID(),
  stamp: Stamp = firstStamp,
  until?: Moment,
): Promise<Task<Name>> {
  const body = JSON.stringify({ name, input });
  const headers = headersOf(stamp, until ?? (await fromNow(simulator, host)));
  const response = await fetch(`${simulator.url}/${host}/v1/tasks/${id}`, { method: 'PUT', headers, body });
  const answer = await response.json();
  if (!response.ok) throw new Refusal(answer as AgentProblem);
  return answer as Task<Name>;
}

export async function getTask(simulator: Simulator, host: string, id: string, waitSeconds = 0): Promise<Task> {
  const response = await fetch(`${simulator.url}/${host}/v1/tasks/${id}?waitSeconds=${waitSeconds}`);
  return (await response.json()) as Task;
}

export async function runTask<Name extends TaskName>(
  simulator: Simulator,
  host: string,
  name: Name,
  input: Tasks[Name]['input'],
): Promise<Task> {
  let task: Task = await putTask(simulator, host, name, input);
  while (task.state === 'running') task = await getTask(simulator, host, task.id, 5);
  return task;
}

/** How a host is configured. */
export const configurationOf = (
  simulator: Simulator,
  host: number,
): {
  hypervisor: Calls['hypervisor.ensureConfigured']['input'];
  switch: Calls['switch.ensureConfigured']['input'];
} => ({
  hypervisor: { caCertificate: pem, certificate: pem, privateKey: pem, migrationAddress: migrationAddress(host) },
  switch: {
    systemId: `chassis-host-${host}`,
    ovnRemote: simulator.ovn.sbRemote,
    encapsulation: 'geneve',
    encapAddress: '127.0.0.1',
    integrationBridge: 'br-int',
    tls: { caCertificate: pem, certificate: pem, privateKey: pem },
  },
});

/** Where a guest goes that goes to this host. */
export const migrationAddress = (host: number): string => `10.0.0.${host + 1}`;

/** A simulator whose first hosts are configured and connected to one pool. */
export async function cloud(options: Partial<SimulatorOptions> = {}): Promise<Simulator> {
  const simulator = await startSimulator({ hosts: 3, bootMs: 1, shutDownMs: 1, migrationMs: 20, ...options });
  const { monitors, fsid, adminUser: user, adminKey: key } = simulator.ceph;
  const access: CephAccess = { storageClusterId, monitors, fsid, user, key };
  for (const [index, host] of simulator.hostNames().entries()) {
    const configuration = configurationOf(simulator, index);
    await ask(simulator, host, 'storage.ensureConnected', access);
    await ask(simulator, host, 'switch.ensureConfigured', configuration.switch);
    await ask(simulator, host, 'hypervisor.ensureConfigured', configuration.hypervisor);
  }
  const wanted = { pool, deviceClass: null, replicas: 3, failureDomain: 'host' as const, tags: tags('pool-1') };
  await ask(simulator, 'host-0', 'ceph.ensurePool', { access, ...wanted });
  return simulator;
}

export function domainSpec(id: string, over: Partial<DomainSpec> = {}): DomainSpec {
  return {
    id,
    tags: { ...tags(id), kind: 'instance' },
    hostname: `name-of-${id}`,
    vcpus: 2,
    memoryMib: 1024,
    firmware: 'bios',
    disks: [
      {
        source: { type: 'rbd', ...image(`volume-${id}`) },
        volumeId: idOf(`disk-of-${id}`),
        readOnly: false,
        boot: true,
      },
    ],
    seed: null,
    interfaces: [{ id: idOf(`port-of-${id}`), mac: '52:54:00:00:00:01', mtu: 1442 }],
    ...over,
  };
}

/** An instance with its volume, running. */
export async function runDomain(simulator: Simulator, host: string, id: string): Promise<DomainSpec> {
  const spec = domainSpec(id);
  await ask(simulator, host, 'rbd.ensureImage', { ...image(`volume-${id}`), sizeGib: 1, tags: tags(`volume-${id}`) });
  await ask(simulator, host, 'domain.ensureDefined', spec);
  await ask(simulator, host, 'domain.ensureRunning', { id });
  return spec;
}

export interface OvsdbClient {
  call(method: string, ...params: Json[]): Promise<Json>;
  transact(...operations: Json[]): Promise<Json[]>;
  notifications: { method: string; params: Json[] }[];
  close(): void;
}

export function ovsdbClient(remote: string): OvsdbClient {
  const [, host, port] = remote.split(':');
  const socket = net.connect(Number(port), host);
  const waiting = new Map<Json, { resolve(result: Json): void; reject(error: Error): void }>();
  const notifications: OvsdbClient['notifications'] = [];
  let lastId = 0;
  socket.setEncoding('utf8');
  const feed = createFramer(({ method, params, id, result, error }) => {
    if (typeof method === 'string') return void notifications.push({ method, params: params as Json[] });
    const pending = waiting.get(id ?? null);
    waiting.delete(id ?? null);
    if (error) pending?.reject(new Error(JSON.stringify(error)));
    else pending?.resolve(result ?? null);
  });
  socket.on('data', (chunk) => feed(chunk.toString()));
  socket.on('close', () => {
    for (const { reject } of waiting.values()) reject(new Error('connection cut'));
  });
  const call = (method: string, ...params: Json[]) =>
    new Promise<Json>((resolve, reject) => {
      lastId += 1;
      waiting.set(lastId, { resolve, reject });
      socket.write(JSON.stringify({ method, params, id: lastId }));
    });
  return {
    call,
    transact: async (...operations) => (await call('transact', 'OVN_Northbound', ...operations)) as Json[],
    notifications,
    close: () => socket.destroy(),
  };
}
