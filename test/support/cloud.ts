/** A running control plane over simulated hosts, provisioned through the API. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Api, openApi } from '../../lab/api.ts';
import { type Cloud, provision, type Underlay } from '../../lab/provision.ts';
import { startSimulator } from '../../lab/simulated/simulator.ts';
import { freePorts, type Stack, startStack } from '../../lab/stack.ts';
import { simulatedUnderlay } from '../../lab/underlay.ts';

/** What tests in other threads need to speak to it. */
export interface CloudAddress {
  apiUrl: string;
  token: string;
  databaseUrl: string;
  temporalAddress: string;
  simulatorUrl: string;
  ceph: Underlay['ceph'];
  s3: Underlay['s3'];
  cloud: Omit<Cloud, 'tenant'>;
}

export interface SimulatedCloud {
  address: CloudAddress;
  stack: Stack;
  stop(): Promise<void>;
}

const spareHosts = 200;

export async function startSimulatedCloud(options: {
  hosts: number;
  faultInjection: boolean;
  environment?: Record<string, string>;
}): Promise<SimulatedCloud> {
  const home = mkdtempSync(join(tmpdir(), 'belay-sim-'));
  // Beside the hosts of the cloud there are some that belong to nobody yet.
  const simulator = await startSimulator({ hosts: options.hosts + spareHosts });
  const lines: string[] = [];
  let stack: Stack | undefined;
  const stop = async (): Promise<void> => {
    await stack?.stop();
    await simulator.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    stack = await startStack({
      home,
      ports: await freePorts(),
      ovn: simulator.ovn,
      allowSimulatedHosts: true,
      faultInjection: options.faultInjection,
      ...(options.environment ? { environment: options.environment } : {}),
      log: (line) => lines.push(line),
    });
    const hosts = simulator
      .hostNames()
      .slice(0, options.hosts)
      .map((name, index) => ({ name, address: simulator.hostAddress(index) }));
    const { tenant: _, ...cloud } = await provision(
      openApi(stack.apiUrl, stack.token),
      simulatedUnderlay(simulator, hosts),
      (what, ms) => lines.push(`${what} ${Math.round(ms)} ms`),
    );
    return {
      address: {
        apiUrl: stack.apiUrl,
        token: stack.token,
        databaseUrl: stack.databaseUrl,
        temporalAddress: stack.temporalAddress,
        simulatorUrl: simulator.url,
        ceph: simulator.ceph,
        s3: simulator.s3,
        cloud,
      },
      stack,
      stop,
    };
  } catch (error) {
    console.error(lines.join('\n'));
    if (stack && !process.env.BELAY_KEEP) await stop();
    throw error;
  }
}

/** Joins a cloud from another thread. */
export function joinCloud(address: CloudAddress): { admin: Api; cloud: Cloud } {
  const admin = openApi(address.apiUrl, address.token);
  return { admin, cloud: { ...address.cloud, tenant: admin.as(address.cloud.tenantToken) } };
}
