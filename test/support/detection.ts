/** A zone of hosts that tell of one another, and what is asked about them. */
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';

export interface DetectedHost extends Resource {
  health: string;
  healthReason: string | null;
  connection: string;
  currentOperationId: string | null;
}

export const isFenced = ({ state, currentOperationId }: DetectedHost): boolean =>
  state === 'fenced' && currentOperationId === null;

export interface Detecting {
  now(host: Resource | undefined): Promise<DetectedHost>;
  list<T>(path: string, filter: string): Promise<T[]>;
  failovers(host: Resource | undefined): Promise<OperationView[]>;
  /** What befalls a simulated host. */
  suffer(host: Resource | undefined, what: string, body?: unknown): Promise<void>;
  /** Simulated hosts of these names, in a cluster of their own. */
  cluster(
    name: string,
    zoneId: string,
    hostNames: readonly string[],
  ): Promise<{ cluster: Resource; hosts: Resource[] }>;
  /** The same in a zone of their own, with one pool of files in which they leave their heartbeats. */
  zone(hostNames: readonly string[]): Promise<{ zone: Resource; hosts: Resource[] }>;
}

export function detecting(admin: Api, simulatorUrl: string): Detecting {
  const simulator = new URL(simulatorUrl).host;
  const list: Detecting['list'] = async <T>(path: string, filter: string) =>
    (await admin.call<{ items: T[] }>('GET', `/v1/${path}?pageSize=500&filter=${encodeURIComponent(filter)}`)).items;
  const cluster: Detecting['cluster'] = async (name, zoneId, hostNames) => {
    const pod = await admin.call('POST', '/v1/pods', { name, zoneId });
    const made = await admin.call('POST', '/v1/clusters', { name, podId: pod.id });
    const hosts = await Promise.all(
      hostNames.map((host) =>
        make(admin, 'hosts', { name: host, clusterId: made.id, address: `sim://${simulator}/${host}` }),
      ),
    );
    return { cluster: made, hosts };
  };
  return {
    now: (host) => admin.call('GET', `/v1/hosts/${host?.id}`),
    list,
    failovers: (host) => list('operations', `targetId = "${host?.id}" AND type = "host.failover"`),
    async suffer(host, what, body = {}) {
      await fetch(`${simulatorUrl}/_sim/hosts/${host?.name}/${what}`, { method: 'POST', body: JSON.stringify(body) });
    },
    cluster,
    async zone(hostNames) {
      const zone = await admin.call('POST', '/v1/zones', { name: 'detection' });
      const made = await cluster('detection', zone.id, hostNames);
      await make(admin, 'storage-pools', {
        name: 'heartbeats',
        type: 'sharedMount',
        storageClass: 'detection',
        clusterIds: [made.cluster.id],
        source: { path: '/srv/detection' },
      });
      return { zone, hosts: made.hosts };
    },
  };
}
