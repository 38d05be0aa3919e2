import { isDeepStrictEqual } from 'node:util';
import type * as protocol from '../../../host-agent/protocol/domains.ts';
import type { DiskSpec, DomainSpec, InterfaceSpec } from '../../../host-agent/protocol.ts';
import { foreign } from '../ceph.ts';
import { refuse } from '../problem.ts';
import {
  checkElsewhere,
  findDomain,
  forget,
  isActive,
  newDomain,
  openDomainImage,
  plugIn,
  pullOut,
  statusOf,
  unwatch,
  watch,
} from './domainState.ts';
import { type CallHandlers, type Domain, nothing } from './host.ts';
import { halt } from './power.ts';
import { openSource, sourcesOf } from './storage.ts';

function checkDevicesMayChange(domain: Domain): void {
  if (domain.leaving) throw refuse('INVALID_STATE', `Domain ${domain.spec.id} is being migrated`, true);
}

function withDisk(spec: DomainSpec, disk: DiskSpec): DomainSpec {
  const known = spec.disks.some(({ volumeId }) => volumeId === disk.volumeId);
  const disks = known
    ? spec.disks.map((other) => (other.volumeId === disk.volumeId ? disk : other))
    : [...spec.disks, disk];
  return { ...spec, disks };
}

function withoutDisk(spec: DomainSpec, volumeId: string): DomainSpec {
  return { ...spec, disks: spec.disks.filter((disk) => disk.volumeId !== volumeId) };
}

function withInterface(spec: DomainSpec, nic: InterfaceSpec): DomainSpec {
  const known = spec.interfaces.some(({ id }) => id === nic.id);
  const interfaces = known
    ? spec.interfaces.map((other) => (other.id === nic.id ? nic : other))
    : [...spec.interfaces, nic];
  return { ...spec, interfaces };
}

const withoutInterface = (spec: DomainSpec, interfaceId: string): DomainSpec => ({
  ...spec,
  interfaces: spec.interfaces.filter(({ id }) => id !== interfaceId),
});

export const calls: CallHandlers<typeof protocol.calls> = {
  'domain.ensureDefined'(host, spec) {
    checkElsewhere(host, spec.id);
    const known = host.domains.get(spec.id);
    if (known?.incoming) throw refuse('INVALID_STATE', `Domain ${spec.id} is just arriving on ${host.name}`, true);
    if (known && known.spec.tags.id !== spec.tags.id) throw foreign('domain', spec.id, known.spec.tags);
    for (const source of sourcesOf(spec)) openDomainImage(host, source);
    if (known) known.spec = spec;
    else host.domains.set(spec.id, newDomain(spec));
    return nothing;
  },
  'domain.ensureAbsent'(host, { id }) {
    const domain = host.domains.get(id);
    if (!domain) return nothing;
    // An arriving one is taken away from its migration, which then fails and gives back what it occupies.
    if (!domain.incoming && isActive(domain)) halt(host, domain, 'off', 'destroyed');
    forget(host, domain);
    return nothing;
  },
  'domain.status': (host, { id }) => statusOf(host, id),
  'domain.ensureDisk'(host, { id, disk }) {
    const domain = findDomain(host, id);
    const known = domain.spec.disks.find(({ volumeId }) => volumeId === disk.volumeId);
    if (known && !isDeepStrictEqual(known.source, disk.source))
      throw refuse('NAME_IN_USE', `Domain ${id} has volume ${disk.volumeId} elsewhere`);
    openDomainImage(host, disk.source);
    checkDevicesMayChange(domain);
    domain.spec = withDisk(domain.spec, disk);
    if (domain.live) {
      domain.live = withDisk(domain.live, disk);
      watch(host, id, disk);
    }
    return nothing;
  },
  'domain.ensureDiskAbsent'(host, { id, volumeId, mustBeThere }) {
    const domain = mustBeThere ? findDomain(host, id) : host.domains.get(id);
    if (!domain || domain.incoming) return nothing;
    const plugged = domain.live?.disks.find((disk) => disk.volumeId === volumeId);
    checkDevicesMayChange(domain);
    domain.spec = withoutDisk(domain.spec, volumeId);
    if (domain.live && plugged) {
      domain.live = withoutDisk(domain.live, volumeId);
      unwatch(host, id, plugged);
    }
    return nothing;
  },
  'domain.ensureInterface'(host, { id, interface: nic }) {
    const domain = findDomain(host, id);
    if (!host.switch)
      throw refuse('PRECONDITION_FAILED', `${host.name} has no integration bridge: its switch is not configured`);
    checkDevicesMayChange(domain);
    domain.spec = withInterface(domain.spec, nic);
    if (domain.live) {
      domain.live = withInterface(domain.live, nic);
      plugIn(host, nic.id);
    }
    return nothing;
  },
  'domain.ensureInterfaceAbsent'(host, { id, interfaceId, mustBeThere }) {
    const domain = mustBeThere ? findDomain(host, id) : host.domains.get(id);
    if (!domain || domain.incoming) return nothing;
    checkDevicesMayChange(domain);
    const isPlugged = domain.live?.interfaces.some((nic) => nic.id === interfaceId);
    domain.spec = withoutInterface(domain.spec, interfaceId);
    if (domain.live && isPlugged) {
      domain.live = withoutInterface(domain.live, interfaceId);
      pullOut(host, interfaceId);
    }
    return nothing;
  },
  'domain.growDisk'(host, { id, volumeId, sizeGib }) {
    const domain = findDomain(host, id);
    const disk = (domain.live ?? domain.spec).disks.find((candidate) => candidate.volumeId === volumeId);
    if (!disk) throw refuse('NOT_FOUND', `Domain ${id} has no volume ${volumeId}`);
    host.world.ceph.ensureSize(openSource(host, disk.source), sizeGib, false);
    return nothing;
  },
  'domain.freeze'(host, { id }) {
    const domain = findDomain(host, id);
    domain.frozen = domain.state === 'running';
    return { frozen: domain.frozen };
  },
  'domain.thaw'(host, { id }) {
    const domain = host.domains.get(id);
    if (domain) domain.frozen = false;
    return nothing;
  },
};
