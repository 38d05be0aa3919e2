/** How the targets of a group answer. OVN's hosts ask them; the southbound database tells what they heard. */
import { ovsdbTls } from '../activities/network/ovsdbSocket.ts';
import { type Monitored, monitoredAt } from '../activities/platform/southbound.ts';
import { interfacesOfTargets, portsAsked } from '../database/loadBalancers.ts';
import type { Target } from '../model/network/targetGroup.ts';
import { config } from '../runtime/config.ts';
import { Problem } from '../runtime/problem.ts';
import { send } from './request.ts';
import type { Viewing } from './views.ts';

async function monitored(log: Viewing['api']['log'], logicalPorts: string[]): Promise<Monitored[]> {
  const { ovnSouthbound: remotes } = config;
  try {
    return await monitoredAt({ remotes, tls: ovsdbTls([remotes]) }, logicalPorts);
  } catch (error) {
    // Where the database is, is not everybody's to know.
    log.warn({ error: error instanceof Error ? error.message : String(error) }, 'the health of targets is not known');
    throw new Problem('BACKEND_UNAVAILABLE', 'how targets are can not be told right now');
  }
}

type State = 'healthy' | 'unhealthy' | 'unknown' | 'disabled' | 'gone';

export async function targetHealth({ api, ctx, row }: Viewing): Promise<void> {
  const { connections } = api.database;
  const targets = row.targets as Target[];
  const ids = targets.flatMap(({ networkInterfaceId: id }) => (id ? [id] : []));
  const there = new Map(
    (await interfacesOfTargets(connections, { networkInterfaceIds: ids })).map((one) => [one.id, one]),
  );
  const asked = (await portsAsked(connections, { targetGroupId: row.id })).map(({ port }) => port);
  const seen = asked.length > 0 ? await monitored(api.log, [...there.keys()]) : [];
  const stateOf = (target: Target): State => {
    const id = target.networkInterfaceId;
    if (id && !there.has(id)) return 'gone';
    if (!target.enabled) return 'disabled';
    const ports = target.port ? [target.port] : asked;
    const answers = seen.filter(
      ({ logicalPort, port, protocol }) => logicalPort === id && protocol === row.protocol && ports.includes(port),
    );
    if (answers.some(({ isOnline }) => isOnline === false)) return 'unhealthy';
    return answers.length > 0 && answers.every(({ isOnline }) => isOnline) ? 'healthy' : 'unknown';
  };
  const items = targets.map((target) => {
    const nic = there.get(target.networkInterfaceId ?? '');
    return {
      networkInterfaceId: target.networkInterfaceId ?? null,
      instanceId: nic?.instanceId ?? null,
      address: nic?.address ?? target.address ?? null,
      port: target.port ?? (typeof row.port === 'number' ? row.port : null),
      health: stateOf(target),
    };
  });
  send(ctx, 200, JSON.stringify({ items }));
}
