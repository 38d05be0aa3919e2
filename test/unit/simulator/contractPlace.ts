import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { connectHost } from '../../../host-agent/connection.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { smallRawDisk } from '../../../lab/underlay.ts';
import type { Place } from '../../support/contract.ts';
import { configurationOf, firstStamp, idOf, migrationAddress } from './cloud.ts';

/** Two simulated hosts at these addresses, configured, with a disk to fetch; `ceph` is the one that they know, and `stop` ends whoever plays them. */
export async function simulatedPlace(
  simulator: Simulator,
  addresses: readonly string[],
  { monitors, fsid, adminUser: user, adminKey: key }: Simulator['ceph'],
  stop: () => Promise<void>,
): Promise<Place> {
  const disk = smallRawDisk();
  const images = http.createServer((_, response) => response.end(disk));
  await new Promise<void>((resolve) => images.listen(0, '127.0.0.1', resolve));
  const [here, there] = await Promise.all(addresses.map((address) => connectHost({ address })));
  if (!here || !there) throw new Error('there are no two hosts');
  for (const [n, host] of [here, there].entries()) {
    const step = host.as(firstStamp, async () => {});
    await step.call('hypervisor.ensureConfigured', configurationOf(simulator, n).hypervisor);
    await step.call('switch.ensureConfigured', configurationOf(simulator, n).switch);
  }
  return {
    here,
    there,
    targetAddress: migrationAddress(1),
    filesPath: '/srv/contract',
    access: { storageClusterId: idOf('contract'), monitors, fsid, user, key },
    pool: 'contract',
    source: {
      url: `http://127.0.0.1:${(images.address() as AddressInfo).port}/disk`,
      format: 'raw',
      sha256: createHash('sha256').update(disk).digest('hex'),
    },
    ...configurationOf(simulator, 0),
    async close() {
      await Promise.all([here.close(), there.close()]);
      images.close();
      await stop();
    },
  };
}
