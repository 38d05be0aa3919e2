/** What a simulated host can testify of another one. Heartbeats are counted when somebody looks: nothing ticks for them. */
import type * as protocol from '../../../host-agent/protocol/witness.ts';
import type { HeartbeatPlace, NetworkSign } from '../../../host-agent/protocol.ts';
import { pause } from '../faults.ts';
import { type CallHandlers, type Host, nothing } from './host.ts';
import { openFilePool, openPool } from './storage.ts';

const lookMs = 50;

const isRunning = ({ connection }: Host): boolean => connection === 'up' || connection === 'partitioned';

/** Whether a host writes its heartbeat there now. */
function beatsIn(host: Host, place: HeartbeatPlace): boolean {
  if (!isRunning(host) || host.cutFrom.has('storage')) return false;
  try {
    if (place.type === 'rbd') openPool(host, place);
    else openFilePool(host, place.poolId);
  } catch {
    return false;
  }
  return leavesIt(host, place);
}

const leavesIt = (host: Host, place: HeartbeatPlace): boolean =>
  host.heartbeat?.places.some((one) => JSON.stringify(one) === JSON.stringify(place)) === true;

/** In seconds; null where there is none to be written. */
export const heartbeatAge = (host: Host): number | null =>
  host.heartbeat === null || host.heartbeat.places.length === 0
    ? null
    : host.storageCutAt === null
      ? 0
      : Math.round((performance.now() - host.storageCutAt) / 1000);

function signOf(host: Host, address: string): NetworkSign {
  const peer = host.world.findHostAt(address);
  if (!peer || host.cutFrom.has('peers') || peer.cutFrom.has('peers') || peer.connection === 'crashed') return 'silent';
  return peer.connection === 'frozen' ? 'accepts' : 'speaks';
}

export const calls: CallHandlers<typeof protocol.calls> = {
  'heartbeat.ensure'(host, { hostId, places }) {
    host.heartbeat = { hostId, places };
    host.world.heartbeats.set(hostId, host);
    return nothing;
  },
  async 'heartbeat.watch'(host, { hostIds, places, withinMs }) {
    const own = places.filter((place) => beatsIn(host, place));
    const look = (shows: typeof beatsIn): string[] =>
      hostIds.filter((hostId) => {
        const other = host.world.heartbeats.get(hostId);
        return other !== undefined && own.some((place) => shows(other, place));
      });
    for (const endsAt = performance.now() + withinMs; ; await pause(lookMs)) {
      const moved = look(beatsIn);
      if (moved.length === hostIds.length || performance.now() >= endsAt)
        return { moved, still: look(leavesIt).filter((hostId) => !moved.includes(hostId)) };
    }
  },
  async 'peer.probe'(host, { addresses, withinMs }) {
    const signs = addresses.map(({ address }) => signOf(host, address));
    // A server that says nothing is waited for.
    if (signs.some((sign) => sign === 'silent' || sign === 'accepts')) await pause(withinMs);
    return { signs };
  },
};
