/**
 * BMCs of the lab's hosts, one of each protocol for each: Redfish in this process, IPMI by `ipmi_sim`, which asks this process. They switch the power of the
 * real thing: all processes of a host end, or it boots.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../../postgres/owned-process.ts';
import { hasIpmiSim, prepareIpmiSim } from '../ipmiSim.ts';
import { createRedfish, type Machine } from '../redfish.ts';
import type { Lab } from './lab.ts';

/** How a host is told of its BMC. */
export interface LabBmc {
  bmc: { protocol: 'ipmi' | 'redfish'; address: string; port: number; user: string; system?: string };
  bmcPassword: string;
}

export interface LabBmcs {
  redfish(host: number): LabBmc;
  /** Null where Debian's package openipmi is not installed. */
  ipmi(host: number): Promise<LabBmc | null>;
  stop(): Promise<void>;
}

const address = '127.0.0.1';
const user = 'operator';

/** As a button does: it begins to boot, and nobody waits until it has. */
function machineOf(lab: Lab, host: number): Machine {
  return {
    isOn: () => lab.isUp(host),
    async on() {
      let failed = false;
      void lab.startHost(host).catch(() => {
        failed = true;
      });
      while (!lab.isUp(host) && !failed) await new Promise((resolve) => setTimeout(resolve, 50));
      if (failed) throw new Error(`host ${host} does not boot`);
    },
    off: () => lab.crashHost(host),
  };
}

const listen = (server: Server, port = 0): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => resolve((server.address() as AddressInfo).port));
  });

/** @param directory where `ipmi_sim` keeps its files */
export async function startBmcs(lab: Lab, directory: string): Promise<LabBmcs> {
  const bmcPassword = randomBytes(8).toString('hex');
  const hosts = new Map(lab.hosts.map(({ name }, index) => [name, machineOf(lab, index + 1)]));
  const redfish = await createRedfish({
    isUser: (name) => name === user,
    password: bmcPassword,
    names: () => [...hosts.keys()],
    find: (name) => hosts.get(name),
  });
  const redfishPort = await listen(redfish.server);
  const ipmiSims: ChildProcess[] = [];

  /** What the program that `ipmi_sim` asks does here: `/<host>/is`, `/<host>/on`, `/<host>/off`. */
  const switches = http.createServer((request, response) => {
    const [, name = '', what] = (request.url ?? '').split('/');
    const machine = hosts.get(name);
    const done = async (): Promise<boolean> => {
      if (what === 'on') await machine?.on();
      if (what === 'off') await machine?.off();
      return what === 'is' ? (await machine?.isOn()) === true : true;
    };
    done().then(
      (isSo) => response.writeHead(isSo ? 200 : 404).end(),
      () => response.writeHead(500).end(),
    );
  });
  const switchesPort = await listen(switches);

  return {
    redfish: (host) => ({
      bmc: { protocol: 'redfish', address, port: redfishPort, user, system: `host${host}` },
      bmcPassword,
    }),
    async ipmi(host) {
      if (!hasIpmiSim()) return null;
      const port = await freePort();
      const ask = (what: string): string =>
        `busybox wget -q -O /dev/null http://${address}:${switchesPort}/host${host}/${what}`;
      const [command = '', ...argv] = prepareIpmiSim({
        directory: join(directory, `bmc-of-host${host}`),
        address,
        port,
        user,
        password: bmcPassword,
        power: { isOn: ask('is'), on: ask('on'), off: ask('off') },
      });
      ipmiSims.push(spawn(command, argv, { stdio: 'ignore' }));
      return { bmc: { protocol: 'ipmi', address, port, user }, bmcPassword };
    },
    async stop() {
      for (const one of ipmiSims) one.kill('SIGKILL');
      redfish.server.closeAllConnections();
      switches.closeAllConnections();
      await Promise.all([redfish.server, switches].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}
