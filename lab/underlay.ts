/** What the machines below look like to the API: the real lab, or the simulator. */
import { readFileSync } from 'node:fs';
import type { PoolSpec, Underlay } from './provision.ts';
import type { Lab } from './real/lab.ts';
import type { Simulator } from './simulated/simulator.ts';

const poolNames = ['fast', 'flow', 'bulk'];

/** A disk that passes for one: a boot sector, and nothing behind it. */
export function smallRawDisk(): Uint8Array {
  const disk = new Uint8Array(1024 * 1024);
  disk[510] = 0x55;
  disk[511] = 0xaa;
  return disk;
}

export function simulatedUnderlay(
  simulator: Pick<Simulator, 'ceph' | 's3'>,
  hosts: { name: string; address: string }[],
): Underlay {
  return {
    hosts,
    ceph: simulator.ceph,
    s3: simulator.s3,
    pools: poolNames.map((pool): PoolSpec => ({ pool, deviceClass: null, replicas: 1, failureDomain: 'osd' })),
    image: { name: 'tiny', bytes: smallRawDisk() },
    instanceType: { vcpus: 1, memoryMib: 128 },
  };
}

export function realUnderlay(lab: Lab): Underlay {
  const { monitors, fsid, adminUser, adminKey, s3 } = lab.ceph;
  return {
    hosts: lab.hosts.map(({ name, address, tunnelAddress, sshPort, sshUser, privateKeyPath }) => ({
      name,
      address,
      sshPort,
      sshUser,
      sshPrivateKey: readFileSync(privateKeyPath, 'utf8'),
      underlayAddress: tunnelAddress,
    })),
    ceph: { monitors, fsid, adminUser, adminKey },
    s3: { endpoint: s3.endpoint, accessKey: s3.accessKey, secretKey: s3.secretKey, bucket: s3.bucket },
    pools: [
      { pool: 'fast', deviceClass: 'nvme', replicas: 1, failureDomain: 'osd' },
      { pool: 'flow', deviceClass: 'ssd', replicas: 1, failureDomain: 'osd' },
      { pool: 'bulk', deviceClass: 'hdd', replicas: 1, failureDomain: 'osd' },
    ],
    image: { name: 'tiny', path: lab.guestImage },
    instanceType: { vcpus: 1, memoryMib: 128 },
  };
}
