import { createHash } from 'node:crypto';
import type * as protocol from '../../../host-agent/protocol/facts.ts';
import type { HostFacts, HostInventory, HostMetrics } from '../../../host-agent/protocol.ts';
import { contentOf } from '../ceph.ts';
import type { CallHandlers, Host, TaskHandlers } from './host.ts';
import { heartbeatAge } from './witness.ts';

const mib = 2 ** 20;

export function facts(host: Host): HostFacts {
  const { vcpusPerHost, memoryMibPerHost } = host.world.settings;
  return {
    hostname: host.name,
    machineId: uuidOf('machine', host.name).replaceAll('-', ''),
    os: 'Debian GNU/Linux 12 (bookworm)',
    kernel: '6.1.0-simulated',
    architecture: 'x86_64',
    cpuModel: 'Simulated CPU',
    vcpus: vcpusPerHost,
    memoryMib: memoryMibPerHost,
    disks: [{ name: 'nvme0n1', sizeBytes: 960 * 10 ** 9, rotational: false }],
    interfaces: [{ name: 'eth0', mac: macOf(host.name), mtu: 9000, addresses: [host.ip] }],
    kvm: host.kvm,
    kernelDatapath: true,
    versions: {
      agent: 'simulated',
      libvirt: '9.0.0',
      qemu: '7.2.0',
      ovs: '3.1.0',
      ovn: '23.03.1',
      ceph: '16.2.15',
      node: process.version.slice(1),
    },
  };
}

function uuidOf(...parts: string[]): string {
  const hex = createHash('md5').update(parts.join('\n')).digest('hex');
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
}

function macOf(name: string): string {
  return `52:54:00:${contentOf('mac', name)
    .slice(0, 6)
    .replace(/(..)(..)(..)/, '$1:$2:$3')}`;
}

/** As `tap<11 hex>`: an interface's name has at most 15 characters. */
function tapName(interfaceId: string): string {
  return `tap${interfaceId.replaceAll('-', '').slice(0, 11)}`;
}

export function inventory(host: Host): HostInventory {
  const domains = [...host.domains.values()].sort((a, b) => (a.spec.id < b.spec.id ? -1 : 1));
  const clusters = [...host.clusters.keys()].sort();
  return {
    domains: domains.map(({ spec, state }) => ({ id: spec.id, state, tags: spec.tags })),
    ports: domains
      .flatMap(({ live }) => live?.interfaces ?? [])
      .map(({ id }) => ({ name: tapName(id), interfaceId: id }))
      .sort((a, b) => (a.interfaceId < b.interfaceId ? -1 : 1)),
    mappings: [...host.mappings].sort().map(([physicalNetworkId, bridge]) => ({ physicalNetworkId, bridge })),
    secrets: clusters,
    files: [
      ...clusters.flatMap((id) => [`/etc/ceph/${id}.conf`, `/etc/ceph/${id}.keyring`]),
      ...(host.hypervisor
        ? [
            '/etc/libvirt/libvirtd.conf',
            '/etc/pki/CA/cacert.pem',
            '/etc/pki/libvirt/private/serverkey.pem',
            '/etc/pki/libvirt/servercert.pem',
          ]
        : []),
    ],
    tasks: [...host.tasks.values()].filter(({ task }) => task.state === 'running').map(({ task }) => task.id),
  };
}

function metrics(host: Host): HostMetrics {
  const now = Date.now();
  const totalBytes = host.world.settings.memoryMibPerHost * mib;
  const hypervisorAnswers = !host.cutFrom.has('hypervisor');
  const domains = [...(hypervisorAnswers ? host.domains.values() : [])].flatMap(({ live, startedAt }) => {
    if (!live) return [];
    const seconds = (now - startedAt) / 1000;
    return [
      {
        id: live.id,
        cpuSeconds: seconds * live.vcpus * 0.05,
        memoryBytes: live.memoryMib * mib,
        readBytes: Math.round(seconds * 10_000),
        writtenBytes: Math.round(seconds * 20_000),
        readOperations: Math.round(seconds * 2),
        writeOperations: Math.round(seconds * 4),
        receivedBytes: Math.round(seconds * 1_000),
        sentBytes: Math.round(seconds * 1_000),
      },
    ];
  });
  const sum = (field: 'cpuSeconds' | 'receivedBytes' | 'sentBytes') =>
    domains.reduce((total, domain) => total + domain[field], 0);
  return {
    cpuSeconds: sum('cpuSeconds'),
    cpuCount: host.world.settings.vcpusPerHost,
    memoryTotalBytes: totalBytes,
    memoryAvailableBytes: totalBytes - host.claimedMemoryMib * mib,
    load1: host.claimedVcpus * 0.05,
    networkReceivedBytes: sum('receivedBytes'),
    networkSentBytes: sum('sentBytes'),
    heartbeatAgeSeconds: heartbeatAge(host),
    storageClients: [...host.clusters.keys()].map((storageClusterId) => ({ storageClusterId, addresses: [host.ip] })),
    hypervisorAnswers,
    domains,
  };
}

export const calls: CallHandlers<typeof protocol.calls> = {
  'host.facts': facts,
  'host.inventory': inventory,
  'host.metrics': metrics,
};

export const tasks: TaskHandlers<typeof protocol.tasks> = {
  async 'host.probe'(host) {
    host.kvm = true;
    return facts(host);
  },
};
