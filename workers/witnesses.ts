/** Asks those who can tell whether a host lives, when the control plane does not hear it. While all is well nobody is asked. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Database } from '../database/database.ts';
import type { SilentHost } from '../database/detection.ts';
import { heartbeatPlaces } from '../database/heartbeats.ts';
import { peerAddress } from '../host-agent/peerAddress.ts';
import { BEAT_SECONDS, type NetworkSign } from '../host-agent/protocol.ts';
import type { HostConnections } from '../runtime/hosts.ts';
import type { Testimony, Witnesses } from './verdict.ts';

/** A server in the same network answers within milliseconds; a busy one gets time for it. */
const probeMs = 1_500;
/** Longer than two heartbeats are apart at the worst; and when it was missed for so long already, longer than one. */
const watchMs = { first: 1.75 * BEAT_SECONDS * 1_000, again: 1.25 * BEAT_SECONDS * 1_000 };
/** For opening a connection to a witness, and for its answer to come. */
const askMs = 3_000;

/** By signs of one host at several addresses, as several others see them. */
export function ofNetwork(signs: readonly NetworkSign[]): Testimony {
  if (signs.length === 0) return 'unknown';
  if (signs.includes('speaks')) return 'seen';
  // Its kernel takes connections and nobody speaks in them: it hangs. Then what its kernel refuses elsewhere is no sign of life either.
  if (signs.includes('accepts')) return 'missed';
  return signs.includes('refuses') ? 'seen' : 'missed';
}

/** By what others saw of its heartbeat: whether it moved, or stood still, or nobody could tell. */
export function ofStorage(looks: readonly ('moved' | 'still' | 'unknown')[]): Testimony {
  if (looks.includes('moved')) return 'seen';
  return looks.includes('still') ? 'missed' : 'unknown';
}

async function addressesOf({ address, underlayAddress, sshPort }: SilentHost) {
  const found = await Promise.all(
    [address, underlayAddress ?? address].map(async (name) => {
      const ip = peerAddress(name);
      return isIP(ip) ? ip : (await lookup(ip).catch(() => null))?.address;
    }),
  );
  return [...new Set(found)].flatMap((ip) => (ip === undefined ? [] : [{ address: ip, port: sshPort }]));
}

const inTime = <T>(work: Promise<T>, ms: number): Promise<T | null> =>
  Promise.race([
    work.catch(() => null),
    new Promise<null>((resolve) => {
      setTimeout(() => resolve(null), ms).unref();
    }),
  ]);

/** What the peers of a silent host testify. One that does not answer in time testifies nothing. */
export async function askWitnesses(
  database: Database,
  hosts: HostConnections,
  hostId: string,
  silent: SilentHost,
): Promise<Witnesses> {
  const [addresses, places] = await Promise.all([addressesOf(silent), heartbeatPlaces(database.connections, hostId)]);
  const withinMs = silent.health === 'well' || silent.health === 'unreachable' ? watchMs.first : watchMs.again;
  const ask = async (peer: string) => {
    const connection = await hosts.connect(peer);
    const [network, storage] = await Promise.all([
      addresses.length === 0 ? null : inTime(connection.call('peer.probe', { addresses, withinMs: probeMs }), askMs),
      places.length === 0
        ? null
        : inTime(connection.call('heartbeat.watch', { hostIds: [hostId], places, withinMs }), withinMs + askMs),
    ]);
    return { network, storage };
  };
  const answers = await Promise.all(silent.peers.map((peer) => inTime(ask(peer), withinMs + 2 * askMs)));
  return {
    peers: ofNetwork(answers.flatMap((answer) => answer?.network?.signs ?? [])),
    storage: ofStorage(
      answers.map((answer) =>
        answer?.storage?.moved.includes(hostId)
          ? 'moved'
          : answer?.storage?.still.includes(hostId)
            ? 'still'
            : 'unknown',
      ),
    ),
  };
}
