/** A running control plane over simulated hosts, provisioned through the API. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { asMigration, insertJoinedHosts } from '../../bench/rows.ts';
import { type Api, openApi, type Resource } from '../../lab/api.ts';
import { freePorts } from '../../lab/ports.ts';
import { type Cloud, instanceBody, make, provision, timing, type Underlay } from '../../lab/provision.ts';
import { type Simulator, startSimulator } from '../../lab/simulated/simulator.ts';
import { type Stack, type StackOptions, startStack } from '../../lab/stack.ts';
import { simulatedUnderlay } from '../../lab/underlay.ts';
import { untilSeen } from './operations.ts';
import { realityOf, simulatorInventory } from './simulated.ts';
import { atRest, differences, records, withoutRuns } from './world.ts';

/** What tests in other threads need to speak to it. */
export interface CloudAddress {
  apiUrl: string;
  token: string;
  databaseUrl: string;
  temporalAddress: string;
  simulatorUrl: string;
  /** OVN's northbound database. */
  northbound: string;
  ceph: Underlay['ceph'];
  s3: Underlay['s3'];
  cloud: Omit<Cloud, 'tenant'>;
}

export interface SimulatedCloud {
  address: CloudAddress;
  stack: Stack;
  stop(): Promise<void>;
}

const spareHosts = 260;

/** Hosts beside those that were added through the API, which takes long: they are told to records and simulator, and then are as all others. */
async function joinMore(
  databaseUrl: string,
  simulator: Simulator,
  { like, from, count }: { like: Resource; from: number; count: number },
): Promise<Resource[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const address = String(like.address).replace(/\d+$/, '');
    const hosts = await asMigration(client, () =>
      insertJoinedHosts(client, { likeId: like.id, from, to: from + count - 1, address }),
    );
    for (const { id, name } of hosts) simulator.joinLike(name, String(like.name), id);
    await untilSeen(
      () =>
        client.query(
          `SELECT 1 FROM "host" WHERE id = ANY($1) AND ("lastSeenAt" IS NULL OR connection <> 'connected') LIMIT 1`,
          [hosts.map(({ id }) => id)],
        ),
      ({ rowCount }) => rowCount === 0,
    );
    return hosts.map((host) => ({ ...like, ...host }));
  } finally {
    await client.end();
  }
}

export async function startSimulatedCloud(options: {
  hosts: number;
  /** So many more, which join without having been added one by one. */
  moreHosts?: number;
  faultInjection: boolean;
  environment?: Record<string, string>;
  temporal?: StackOptions['temporal'];
}): Promise<SimulatedCloud> {
  const home = mkdtempSync(join(tmpdir(), 'belay-sim-'));
  // Beside the hosts of the cloud there are some that belong to nobody yet.
  const moreHosts = options.moreHosts ?? 0;
  const simulator = await startSimulator({ hosts: options.hosts + moreHosts + spareHosts });
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
      // Tests end processes, not the machine: what PostgreSQL has handed to the system is there when it starts again.
      postgres: { fsync: 'off' },
      ...(options.environment ? { environment: options.environment } : {}),
      ...(options.temporal ? { temporal: options.temporal } : {}),
      log: (line) => lines.push(line),
    });
    const hosts = simulator
      .hostNames()
      .slice(0, options.hosts)
      .map((name, index) => ({ name, address: simulator.hostAddress(index) }));
    const admin = openApi(stack.apiUrl, stack.token);
    const { tenant: _, ...cloud } = await provision(
      admin,
      simulatedUnderlay(simulator, hosts),
      timing((what, ms) => lines.push(`${what} ${Math.round(ms)} ms`)),
    );
    // Tests cut hosts off and look what becomes of that. Those that are to be found and failed over are in clusters of their own.
    await admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
      ha: { enabled: true, requireFence: true, suspectSeconds: 3600 },
    });
    const [like] = cloud.hosts;
    if (like && moreHosts > 0)
      cloud.hosts.push(
        ...(await joinMore(stack.databaseUrl, simulator, { like, from: options.hosts, count: moreHosts })),
      );
    return {
      address: {
        apiUrl: stack.apiUrl,
        token: stack.token,
        databaseUrl: stack.databaseUrl,
        temporalAddress: stack.temporalAddress,
        simulatorUrl: simulator.url,
        northbound: simulator.ovn.nbRemote,
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

export interface JoinedCloud {
  admin: Api;
  cloud: Cloud;
  /** Everything there is, in the records and on the simulated systems. */
  picture(): Promise<unknown>;
  /** Where records and simulated systems differ. */
  wrong(): Promise<string[]>;
  /** Makes an instance; answers when it runs. */
  deploy(name: string, more?: Record<string, unknown>): Promise<{ id: string }>;
  /** Destroys an instance, unless it was, and frees it for good. */
  removeInstance(id: string): Promise<void>;
}

/** Joins a cloud from another thread. */
export function joinCloud(address: CloudAddress): JoinedCloud {
  const admin = openApi(address.apiUrl, address.token);
  const tenant = admin.as(address.cloud.tenantToken);
  const cloud = { ...address.cloud, tenant };
  return {
    admin,
    cloud,
    picture: () =>
      atRest(address.databaseUrl, async () => ({
        records: withoutRuns(await records(address.databaseUrl)),
        real: withoutRuns(await simulatorInventory(address.simulatorUrl)),
      })),
    wrong: async () => differences(address.databaseUrl, realityOf(await simulatorInventory(address.simulatorUrl))),
    deploy: (name, more) => make(tenant, 'instances', instanceBody(cloud, name, more)),
    async removeInstance(id) {
      const { state } = await tenant.call('GET', `/v1/instances/${id}`);
      if (state !== 'destroyed') await tenant.done('DELETE', `/v1/instances/${id}`);
      await tenant.done('POST', `/v1/instances/${id}/actions/expunge`, {});
    },
  };
}
