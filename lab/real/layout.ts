import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';

/**
 * Where everything of the lab is: names, addresses, directories. Nothing else in this folder spells one of them.
 *
 * Three networks on purpose. Tunnel endpoints live on a bridge of the userspace switch; were management on the same network, SSH, storage
 * and migration would all run through, and die with, that switch.
 */
export const namespaces = { switch: 'by-sw', control: 'by-ctl', ceph: 'by-ceph', outside: 'by-out' } as const;
export const namespacePrefix = 'by-';

/** The machine's own cable into the management network: the only link the lab makes outside of its namespaces. */
export const machineLink = 'by-mgr';

export const addresses = { machine: '10.232.0.1', control: '10.232.0.2', ceph: '10.232.0.3' } as const;
/** Who is at the provider's network and none of the cloud: what guests reach outside, and who reaches them from there (RFC 5737). */
export const outside = { address: '198.51.100.1', network: '198.51.100.0/24' } as const;
/** The bridge of each host that leads to the provider's network. */
export const providerBridge = 'br-provider';
export const prefixLength = 24;
export const managementMtu = 1500;
/** Room for Geneve's headers around tenant packets of 1500 bytes. */
export const tunnelMtu = 1600;

export const ports = {
  northbound: 6641,
  southbound: 6642,
  monitorV1: 6789,
  monitorV2: 3300,
  rgw: 7480,
  ssh: 22,
} as const;

/** One OSD per device class; the place in the list is the OSD's id. */
export const deviceClasses = ['nvme', 'ssd', 'hdd'] as const;
export const imageBucket = 'belay-images';

export const hostNumbers = [1, 2, 3] as const;
export type HostNumber = (typeof hostNumbers)[number];

export const hostName = (host: HostNumber) => `host${host}`;
export const hostNamespace = (host: HostNumber) => `${namespacePrefix}${hostName(host)}`;
export const hostAddress = (host: HostNumber) => `10.232.0.${10 + host}`;
export const tunnelAddress = (host: HostNumber) => `10.232.1.${10 + host}`;
/** The sockets of the switch that a host's cables are in. */
export const switchPorts = (host: HostNumber) => ({
  management: `m-h${host}`,
  tunnel: `t-h${host}`,
  provider: `p-h${host}`,
});

/** Marks every process the lab starts, so that it is found again whoever started it: `BELAY_LAB=<state directory>`, `BELAY_LAB_PART=<name>`. */
export const labMark = 'BELAY_LAB';
export const partMark = 'BELAY_LAB_PART';

/** One lab at a time per machine, because names and addresses are fixed: this file names the home it belongs to. */
export const ownerFile = '/run/belay-lab';

const longestSocketDirectory = 80; // sun_path holds 108 bytes with its end; the longest socket name below it takes 24

export interface LabPaths {
  root: string;
  /** Unix sockets: below `root` when the path is short enough, else a directory in /run named after it. */
  sockets: string;
  ceph: string;
  ovn: string;
  ssh: string;
  privateKey: string;
  guest: string;
  guestImage: string;
  host(host: HostNumber): string;
}

export function labPaths(home: string): LabPaths {
  const root = join(resolve(home), 'lab');
  const inside = join(root, 'run');
  const name = createHash('sha256').update(root).digest('hex').slice(0, 12);
  return {
    root,
    sockets: inside.length <= longestSocketDirectory ? inside : `/run/belay-lab-${name}`,
    ceph: join(root, 'ceph'),
    ovn: join(root, 'ovn'),
    ssh: join(root, 'ssh'),
    privateKey: join(root, 'ssh', 'id_ed25519'),
    guest: join(root, 'guest'),
    guestImage: join(root, 'guest', 'tiny.qcow2'),
    host: (host) => join(root, 'hosts', hostName(host)),
  };
}
