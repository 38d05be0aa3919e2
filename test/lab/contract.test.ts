/** The protocol as real hosts keep it. Two hosts of the cloud, a pool and a user of their own in Ceph; all of it is as before afterwards. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { inject } from 'vitest';
import { connectHost } from '../../host-agent/connection.ts';
import type { Calls } from '../../host-agent/protocol.ts';
import { attachLab } from '../../lab/real/lab.ts';
import { addresses } from '../../lab/real/layout.ts';
import { contract, inStep } from '../support/contract.ts';

const { home, cloud } = inject('lab');

contract(async () => {
  const lab = await attachLab(home);
  const [, target, source] = lab.hosts;
  if (!target || !source) throw new Error('the lab has no three hosts');
  const number = lab.hosts.indexOf(source) + 1;
  const heartbeatOf = async (host: typeof source) => {
    const kept = await lab.execHost(lab.hosts.indexOf(host) + 1, ['cat', '/var/lib/belay/heartbeat.json']);
    return JSON.parse(kept.stdout) as Calls['heartbeat.ensure']['input'];
  };
  const read = async (path: string): Promise<string> => (await lab.execHost(number, ['cat', path])).stdout;
  const pki = async (directory: string, certificate: string, privateKey: string) => ({
    caCertificate: await read(`/etc/belay/${directory}/cacert.pem`),
    certificate: await read(`/etc/belay/${directory}/${certificate}.pem`),
    privateKey: await read(`/etc/belay/${directory}/${privateKey}.pem`),
  });
  const connect = ({ address, hostKey, privateKeyPath }: typeof source) =>
    connectHost({ address, hostKey, privateKey: readFileSync(privateKeyPath, 'utf8') });
  const [here, there] = await Promise.all([connect(source), connect(target)]);

  const heartbeats = [
    { host: here, kept: await heartbeatOf(source) },
    { host: there, kept: await heartbeatOf(target) },
  ];

  const filesPath = `/tmp/contract-${randomUUID()}`;
  await lab.execHost(number, ['mkdir', filesPath]);
  const image = readFileSync(lab.guestImage);
  const images = http.createServer((_, response) => response.end(image));
  await new Promise<void>((resolve) => images.listen(0, addresses.machine, resolve));

  const { monitors, fsid, adminUser: user, adminKey: key } = lab.ceph;
  const storageClusterId = randomUUID();
  return {
    here,
    there,
    targetAddress: target.address,
    filesPath,
    access: { storageClusterId, monitors, fsid, user, key },
    pool: `contract-${storageClusterId}`,
    source: {
      url: `http://${addresses.machine}:${(images.address() as AddressInfo).port}/guest`,
      format: 'qcow2',
      sha256: createHash('sha256').update(image).digest('hex'),
    },
    hypervisor: { ...(await pki('pki', 'servercert', 'serverkey')), migrationAddress: source.address },
    switch: {
      systemId: cloud.hosts[number - 1]?.id ?? '',
      ovnRemote: lab.ovn.sbRemote,
      encapsulation: 'geneve',
      encapAddress: source.tunnelAddress,
      integrationBridge: 'br-int',
      tls: await pki('ovn', 'cert', 'key'),
    },
    async close() {
      for (const { host, kept } of heartbeats) await inStep(host).call('heartbeat.ensure', kept);
      await lab.execHost(number, ['rmdir', filesPath]);
      await Promise.all([here.close(), there.close()]);
      images.close();
    },
  };
});
