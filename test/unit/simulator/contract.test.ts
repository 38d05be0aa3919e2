import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { connectHost } from '../../../host-agent/connection.ts';
import { startSimulator } from '../../../lab/simulated/simulator.ts';
import { smallRawDisk } from '../../../lab/underlay.ts';
import { contract } from '../../support/contract.ts';
import { configurationOf, firstStamp, idOf, migrationAddress } from './cloud.ts';

contract(async () => {
  const simulator = await startSimulator({ hosts: 2, bootMs: 1, shutDownMs: 1, migrationMs: 20 });
  const disk = smallRawDisk();
  const images = http.createServer((_, response) => response.end(disk));
  await new Promise<void>((resolve) => images.listen(0, '127.0.0.1', resolve));
  const [here, there] = await Promise.all([0, 1].map((n) => connectHost({ address: simulator.hostAddress(n) })));
  if (!here || !there) throw new Error('the simulator has no two hosts');
  const { monitors, fsid, adminUser: user, adminKey: key } = simulator.ceph;
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
      await simulator.stop();
    },
  };
});
