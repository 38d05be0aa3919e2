/** The driver of each hypervisor. */
import { from, statement, type Values } from '../../../database/statement.ts';
import type { Hypervisor } from '../../../model/platform/hypervisors.ts';
import { refuse } from '../../failure.ts';
import type { World } from '../../world.ts';
import type { ComputeDriver, Guests } from './driver.ts';
import { libvirt } from './libvirt.ts';

export const drivers = { kvm: libvirt } satisfies Record<Hypervisor, ComputeDriver>;

/** By the host. Neither the cluster of a host nor the hypervisor of a cluster ever changes. */
const known = new WeakMap<World, Map<string, Hypervisor>>();

const hypervisorOfHost = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('host as h')
    .innerJoin('cluster as c', 'c.id', 'h.clusterId')
    .select('c.hypervisor')
    .where('h.id', '=', p.hostId),
);

async function hypervisorOf(world: World, hostId: string): Promise<Hypervisor> {
  const ofWorld = known.get(world) ?? new Map<string, Hypervisor>();
  known.set(world, ofWorld);
  const before = ofWorld.get(hostId);
  if (before) return before;
  const [host] = await hypervisorOfHost(world.database.connections, { hostId });
  if (!host) throw refuse('NOT_FOUND', `host ${hostId} is gone`);
  ofWorld.set(hostId, host.hypervisor);
  return host.hypervisor;
}

/** The guests of a host that answers. @throws HOST_UNREACHABLE */
export async function guestsOn(world: World, hostId: string): Promise<Guests> {
  const [host, hypervisor] = await Promise.all([world.host(hostId), hypervisorOf(world, hostId)]);
  return drivers[hypervisor](host);
}
