/** A domain as its host holds it: where it may run, and what it takes of the host while it does. */
import { Problem } from '../../../host-agent/problem.ts';
import type { DiskSource, DiskSpec, DomainSpec, DomainState, DomainStatus } from '../../../host-agent/protocol.ts';
import { contentOf, type Image } from '../ceph.ts';
import { refuse } from '../problem.ts';
import type { Domain, Host } from './host.ts';
import { openSource, sourcesOf } from './storage.ts';

/** Refuses one that is only arriving, too: it is there, but nothing can be done to it yet. */
export function findDomain(host: Host, id: string): Domain {
  const domain = host.domains.get(id);
  if (!domain) throw refuse('NOT_FOUND', `${host.name} defines no domain ${id}`);
  if (domain.incoming) throw refuse('INVALID_STATE', `Domain ${id} is just arriving on ${host.name}`, true);
  return domain;
}

export function isActive(domain: Domain): boolean {
  return domain.state === 'running' || domain.state === 'paused';
}

export function checkElsewhere(host: Host, id: string): void {
  const elsewhere = host.world.running.get(id);
  if (elsewhere && elsewhere !== host) throw refuse('INVALID_STATE', `Domain ${id} runs on ${elsewhere.name}`);
}

/** A domain's image that is not there is not "not found": what was asked about is the domain. */
export function openDomainImage(host: Host, source: DiskSource): Image {
  try {
    return openSource(host, source);
  } catch (error) {
    if (error instanceof Problem && error.code === 'NOT_FOUND') throw refuse('PRECONDITION_FAILED', error.message);
    throw error;
  }
}

/** Throws unless this host could run it: its images, its pools' clusters, the switch, memory and processors. */
export function checkRunnable(host: Host, spec: DomainSpec): void {
  for (const source of sourcesOf(spec)) openDomainImage(host, source);
  if (spec.interfaces.length > 0 && !host.switch)
    throw refuse('PRECONDITION_FAILED', `${host.name} has no integration bridge: its switch is not configured`);
  const { vcpusPerHost, vcpuOvercommit, memoryMibPerHost } = host.world.settings;
  const freeVcpus = vcpusPerHost * vcpuOvercommit - host.claimedVcpus;
  const freeMemoryMib = memoryMibPerHost - host.claimedMemoryMib;
  if (spec.vcpus > vcpusPerHost || spec.vcpus > freeVcpus)
    throw refuse(
      'PRECONDITION_FAILED',
      `${spec.vcpus} vCPUs asked of ${host.name}, ${freeVcpus} of ${vcpusPerHost} free`,
    );
  if (spec.memoryMib > freeMemoryMib)
    throw refuse('PRECONDITION_FAILED', `${spec.memoryMib} MiB asked of ${host.name}, ${freeMemoryMib} free`);
}

/** Watches its images, claims its share of the host and plugs its interfaces. */
export function occupy(host: Host, spec: DomainSpec): void {
  host.claimedVcpus += spec.vcpus;
  host.claimedMemoryMib += spec.memoryMib;
  for (const disk of spec.disks) watch(host, spec.id, disk);
  for (const { id } of spec.interfaces) plugIn(host, id);
}

/** The host has the interface of a guest on its switch. */
export function plugIn(host: Host, interfaceId: string): void {
  const hosts = host.world.interfaces.get(interfaceId);
  if (hosts) hosts.add(host);
  else host.world.interfaces.set(interfaceId, new Set([host]));
  host.world.network.interfaceChanged(interfaceId);
}

export function pullOut(host: Host, interfaceId: string): void {
  const hosts = host.world.interfaces.get(interfaceId);
  hosts?.delete(host);
  if (hosts?.size === 0) host.world.interfaces.delete(interfaceId);
  host.world.network.interfaceChanged(interfaceId);
}

export function vacate(host: Host, spec: DomainSpec): void {
  host.claimedVcpus -= spec.vcpus;
  host.claimedMemoryMib -= spec.memoryMib;
  for (const disk of spec.disks) unwatch(host, spec.id, disk);
  for (const { id } of spec.interfaces) pullOut(host, id);
}

/** librbd watches what it opens for writing; a read-only open leaves no watcher. */
export function watch(host: Host, domainId: string, disk: DiskSpec): void {
  if (disk.readOnly) return;
  const nonce = Number.parseInt(contentOf(host.name, domainId).slice(0, 8), 16);
  openSource(host, disk.source).watchers.set(`${host.name}/${domainId}`, `${host.ip}:0/${nonce}`);
}

export function unwatch(host: Host, domainId: string, disk: DiskSpec): void {
  const { source } = disk;
  const image =
    source.type === 'rbd'
      ? host.world.ceph.pools.get(source.pool)?.images.get(source.image)
      : source.type === 'file'
        ? host.world.filePools.get(source.poolId)?.images.get(`${source.of}-${source.id}`)
        : undefined;
  image?.watchers.delete(`${host.name}/${domainId}`);
}

export function newDomain(spec: DomainSpec, over: Partial<Domain> = {}): Domain {
  return {
    spec,
    live: null,
    state: 'off',
    reason: 'unknown',
    frozen: false,
    incoming: false,
    leaving: false,
    serial: { earlier: '', text: '', readers: new Set() },
    bootTimer: undefined,
    startedAt: 0,
    ...over,
  };
}

/** Undefined: with the domain goes its serial log. */
export function forget(host: Host, domain: Domain): void {
  clearTimeout(domain.bootTimer);
  host.domains.delete(domain.spec.id);
  for (const reader of domain.serial.readers) reader.end();
}

export const statusOf = (host: Host, id: string): DomainStatus => {
  const { state, reason } = host.domains.get(id) ?? { state: 'absent', reason: 'absent' };
  return { state, reason };
};

/** A domain as the inventory of the whole world shows it. */
export interface DomainRecord {
  state: DomainState;
  incoming: boolean;
  frozen: boolean;
  spec: DomainSpec;
}

/** Every domain of the host by id, arriving ones too. */
export function recordOf(host: Host): Record<string, DomainRecord> {
  const sorted = [...host.domains.values()].sort((a, b) => (a.spec.id < b.spec.id ? -1 : 1));
  return Object.fromEntries(
    sorted.map(({ spec, state, incoming, frozen }) => [
      spec.id,
      { state, incoming, frozen, spec: structuredClone(spec) },
    ]),
  );
}
