/** Guests as their host defines them, and their devices. */

import type { Static } from 'typebox';
import * as Type from 'typebox';
import { change, type Of, object, question } from './call.ts';
import { diskSource, domain, domainStatus, hostname, orNull, sizeGib, tags, uuid } from './fields.ts';

/** Of one guest: as many as an instance has slots. */
export const DISKS_MAX = 64;

const limit = Type.Optional(Type.Integer({ minimum: 0 }));

const disk = object({
  source: diskSource,
  volumeId: uuid,
  readOnly: Type.Boolean(),
  /** The boot disk comes first. */
  boot: Type.Boolean(),
  qos: Type.Optional(object({ readIops: limit, writeIops: limit, readBytesPerSec: limit, writeBytesPerSec: limit })),
});
export type DiskSpec = Static<typeof disk>;

const networkInterface = object({
  /** Network interface id; is the logical port's name in OVN and the `iface-id` of the tap. */
  id: uuid,
  mac: Type.String({ pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$' }),
  mtu: Type.Integer({ minimum: 68, maximum: 65535 }),
  /** false: as if its cable were pulled. */
  linkUp: Type.Optional(Type.Boolean()),
});
export type InterfaceSpec = Static<typeof networkInterface>;

/** An instance as its host must run it. The agent adds what only the host knows: KVM or emulation, checksum offload. */
const spec = {
  ...domain,
  tags,
  hostname,
  vcpus: Type.Integer({ minimum: 1, maximum: 1024 }),
  memoryMib: Type.Integer({ minimum: 16, maximum: 1 << 25 }),
  firmware: Type.Enum(['bios', 'uefi']),
  disks: Type.Array(disk, { maxItems: DISKS_MAX }),
  /** The NoCloud seed image, made by `seed.ensure`. */
  seed: orNull(diskSource),
  interfaces: Type.Array(networkInterface, { maxItems: 16 }),
};
export type DomainSpec = Of<typeof spec>;

export const calls = {
  'domain.ensureDefined': change(spec),
  /** Stops and undefines. */
  'domain.ensureAbsent': change(domain),
  'domain.status': question(domain, domainStatus),
  /** In the running domain and in its definition; for a stopped one in the definition only. */
  'domain.ensureDisk': change({ ...domain, disk }),
  /** Asks the guest to release it and waits until it is gone and no watcher of this host is left. */
  'domain.ensureDiskAbsent': change({
    ...domain,
    volumeId: uuid,
    /** Fails with NOT_FOUND where the guest is not: it may run elsewhere and hold the disk there. An undo bears that it is gone. */
    mustBeThere: Type.Boolean(),
  }),
  /** Block resize inside QEMU, which grows the RBD image too. */
  'domain.growDisk': change({ ...domain, volumeId: uuid, sizeGib }),
  /** In the running domain and in its definition, and its link as it is said here; for a stopped one in the definition only. */
  'domain.ensureInterface': change({ ...domain, interface: networkInterface }),
  /** Asks the guest to release it and waits until it is gone. */
  'domain.ensureInterfaceAbsent': change({
    ...domain,
    interfaceId: uuid,
    /** Fails with NOT_FOUND where the guest is not. An undo bears that it is gone. */
    mustBeThere: Type.Boolean(),
  }),
  /** `frozen` is false when no guest agent answers. */
  'domain.freeze': change(domain, { frozen: Type.Boolean() }),
  'domain.thaw': change(domain),
};
