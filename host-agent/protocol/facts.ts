/** What a host is, what it holds, and how much of it is used. */
import * as Type from 'typebox';
import { change, type Of, object, question } from './call.ts';
import { domainState, orNull, tags, uuid } from './fields.ts';

const text = Type.String();
const count = Type.Integer({ minimum: 0 });
const amount = Type.Number({ minimum: 0 });

const facts = {
  hostname: text,
  machineId: text,
  os: text,
  kernel: text,
  architecture: Type.Enum(['x86_64', 'aarch64']),
  cpuModel: text,
  vcpus: count,
  memoryMib: count,
  disks: Type.Array(object({ name: text, sizeBytes: count, rotational: Type.Boolean() })),
  interfaces: Type.Array(object({ name: text, mac: text, mtu: count, addresses: Type.Array(text) })),
  /** A guest really booted with KVM; null until `host.probe` has run. */
  kvm: orNull(Type.Boolean()),
  /** Whether Open vSwitch's kernel datapath exists; without it the userspace datapath carries the packets. */
  kernelDatapath: Type.Boolean(),
  versions: object({ agent: text, libvirt: text, qemu: text, ovs: text, ovn: text, ceph: text, node: text }),
};
export type HostFacts = Of<typeof facts>;

/** All tagged things a host holds, for the auditor and the tests. */
const inventory = {
  domains: Type.Array(object({ id: uuid, state: domainState, tags: orNull(tags) })),
  /** Interfaces on br-int that carry an iface-id. */
  ports: Type.Array(object({ name: text, interfaceId: text })),
  /** Physical networks that OVN leads through a bridge. Agents of before do not tell. */
  mappings: Type.Optional(Type.Array(object({ physicalNetworkId: uuid, bridge: text }))),
  /** libvirt secrets and configuration files that Belay placed. */
  secrets: Type.Array(text),
  files: Type.Array(text),
  tasks: Type.Array(text),
};
export type HostInventory = Of<typeof inventory>;

const metrics = {
  cpuSeconds: amount,
  cpuCount: count,
  memoryTotalBytes: count,
  memoryAvailableBytes: count,
  load1: amount,
  networkReceivedBytes: count,
  networkSentBytes: count,
  /** Since its last heartbeat in storage; null where there is none to leave one in. Agents of before do not tell. */
  heartbeatAgeSeconds: Type.Optional(orNull(count)),
  /** Under which addresses storage clusters knew this host at its last heartbeat there. Agents of before do not tell. */
  storageClients: Type.Optional(Type.Array(object({ storageClusterId: uuid, addresses: Type.Array(text) }))),
  /** Whether the hypervisor has said in time what guests use; without it `domains` is empty. Agents of before say nothing at all then. */
  hypervisorAnswers: Type.Optional(Type.Boolean()),
  domains: Type.Array(
    object({
      id: uuid,
      cpuSeconds: amount,
      memoryBytes: count,
      readBytes: count,
      writtenBytes: count,
      readOperations: count,
      writeOperations: count,
      receivedBytes: count,
      sentBytes: count,
    }),
  ),
};
export type HostMetrics = Of<typeof metrics>;

export const calls = {
  'host.facts': question({}, facts),
  'host.inventory': question({}, inventory),
  'host.metrics': question({}, metrics),
};

export const tasks = {
  /** Packages' versions, disks, datapath, and a guest really booted with KVM (bounded, 20 s). */
  'host.probe': change({}, facts),
};
