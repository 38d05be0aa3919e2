import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem } from '../problem.ts';
import type { CephAccess, ImageAddress, PoolAddress } from '../protocol.ts';
import { escapeXml, unescapeXml } from './domainXml.ts';
import type { Libvirt } from './libvirt.ts';
import { filesBelow, PATHS, readIfExists, writeFileAtomically } from './paths.ts';
import type { RbdHelper } from './rbd.ts';

/**
 * The clusters this host is connected to. The access is kept in files, the key in the keyring (0600), so that an agent that
 * restarts goes on without asking; libvirt has the key a second time as a secret, for QEMU.
 */
export interface Storage {
  /** Answers the addresses under which the cluster knows this host. */
  connect(access: CephAccess): Promise<{ addresses: string[] }>;
  disconnect(storageClusterId: string): Promise<void>;
  /** @throws Problem PRECONDITION_FAILED when this host is not connected to that cluster. */
  access(storageClusterId: string): Promise<CephAccess>;
  /** One operation of the librbd helper on a pool or an image. */
  onPool<Result>(
    operation: string,
    address: PoolAddress | ImageAddress,
    args?: Record<string, unknown>,
  ): Promise<Result>;
  configurationFiles(storageClusterId: string): { configuration: string; keyring: string };
  /** The ids of libvirt's secrets that Belay made. */
  secrets(): Promise<string[]>;
}

const CEPH_DIRECTORY = join(PATHS.configuration, 'ceph');

function usageOf(storageClusterId: string): string {
  return `belay-${storageClusterId}`;
}

export function cephConfiguration({ fsid, monitors }: CephAccess, keyring: string): string {
  // A client of librbd that leaves no log, socket or pid file behind.
  return `[global]
fsid = ${fsid}
mon_host = ${monitors.join(',')}
[client]
keyring = ${keyring}
log_file = /dev/null
admin_socket =
client_mount_timeout = 10
`;
}

export function storage(libvirt: Libvirt, rbd: RbdHelper): Storage {
  const known = new Map<string, CephAccess>();

  const files = (storageClusterId: string) => ({
    configuration: join(CEPH_DIRECTORY, `${storageClusterId}.conf`),
    keyring: join(CEPH_DIRECTORY, `${storageClusterId}.keyring`),
    access: join(CEPH_DIRECTORY, `${storageClusterId}.json`),
  });

  async function access(storageClusterId: string): Promise<CephAccess> {
    const remembered = known.get(storageClusterId);
    if (remembered) return remembered;
    const paths = files(storageClusterId);
    const kept = await readIfExists(paths.access);
    const key = /^\s*key = (\S+)/m.exec((await readIfExists(paths.keyring)) ?? '')?.[1];
    if (kept === undefined || key === undefined) {
      throw new Problem('PRECONDITION_FAILED', `this host is not connected to the storage cluster ${storageClusterId}`);
    }
    const read: CephAccess = { ...(JSON.parse(kept) as Omit<CephAccess, 'key'>), key };
    known.set(storageClusterId, read);
    return read;
  }

  async function ownSecret(storageClusterId: string): Promise<boolean> {
    const xml = await (await libvirt.session()).secretXml(storageClusterId);
    if (xml === null) return false;
    const usage = unescapeXml(/<name>([^<]*)<\/name>/.exec(xml)?.[1] ?? '');
    if (usage !== usageOf(storageClusterId)) {
      throw new Problem('NAME_IN_USE', `libvirt's secret ${storageClusterId} is not of Belay but of '${usage}'`);
    }
    return true;
  }

  return {
    access,
    async connect(wanted) {
      const { storageClusterId, key, ...rest } = wanted;
      const paths = files(storageClusterId);
      await ownSecret(storageClusterId);
      const { addresses } = await rbd.request<{ addresses: string[] }>('check', wanted, {});
      await writeFileAtomically(paths.keyring, `[client.${wanted.user}]\n\tkey = ${key}\n`, 0o600);
      await writeFileAtomically(paths.configuration, cephConfiguration(wanted, paths.keyring), 0o644);
      await writeFileAtomically(paths.access, `${JSON.stringify({ storageClusterId, ...rest })}\n`, 0o600);
      const xml = `<secret ephemeral='no' private='yes'><uuid>${escapeXml(storageClusterId)}</uuid><usage type='ceph'><name>${usageOf(storageClusterId)}</name></usage></secret>`;
      await (await libvirt.session()).defineSecret(xml, Buffer.from(key, 'base64'));
      known.set(storageClusterId, wanted);
      return { addresses };
    },
    async disconnect(storageClusterId) {
      if (await ownSecret(storageClusterId)) await (await libvirt.session()).undefineSecret(storageClusterId);
      for (const path of Object.values(files(storageClusterId))) await rm(path, { force: true });
      known.delete(storageClusterId);
    },
    async onPool(operation, address, args = {}) {
      const { storageClusterId, ...names } = address;
      return rbd.request(operation, await access(storageClusterId), { ...names, ...args });
    },
    configurationFiles: files,
    async secrets() {
      const all = await (await libvirt.session()).listSecrets();
      return all.filter(({ uuid, usage }) => usage === usageOf(uuid)).map(({ uuid }) => uuid);
    },
  };
}

export async function placedFiles(): Promise<string[]> {
  return filesBelow(PATHS.configuration);
}
