/** What a host can testify of another one: whether it answers in the network, and whether it still writes to the storage that both reach. */
import type { Static } from 'typebox';
import * as Type from 'typebox';
import { change, object, question } from './call.ts';
import { ipAddress, name, uuid } from './fields.ts';

/** A pool in which hosts leave their heartbeats, each in an object or a file that is named by its id. */
const place = Type.Union([
  object({ type: Type.Literal('rbd'), storageClusterId: uuid, pool: name }),
  object({ type: Type.Literal('file'), poolId: uuid }),
]);
export type HeartbeatPlace = Static<typeof place>;

const places = Type.Array(place, { maxItems: 16 });
const withinMs = Type.Integer({ minimum: 100, maximum: 20_000 });

/**
 * What answers there: a server that speaks; one that takes the connection and says nothing, as the kernel does for a server that hangs; the kernel
 * alone, which refuses; or nothing.
 */
const sign = Type.Enum(['speaks', 'accepts', 'refuses', 'silent']);
export type NetworkSign = Static<typeof sign>;

export const calls = {
  /** From now on the host leaves its heartbeat in these places and in no others, also after a restart. */
  'heartbeat.ensure': change({ hostId: uuid, places }),
  /**
   * Looks at the heartbeats of hosts until all of them have moved, or the time is over. A host that is in neither list was never seen there, or the
   * one who looks could not write to that place itself: then nothing is known. Nobody's clock is compared with another's.
   */
  'heartbeat.watch': question(
    { hostIds: Type.Array(uuid, { minItems: 1, maxItems: 64 }), places, withinMs },
    { moved: Type.Array(uuid), still: Type.Array(uuid) },
    { watches: true },
  ),
  /** Whether servers at these addresses, such as those of SSH, answer a connection. */
  'peer.probe': question(
    {
      addresses: Type.Array(object({ address: ipAddress, port: Type.Integer({ minimum: 1, maximum: 65535 }) }), {
        minItems: 1,
        maxItems: 64,
      }),
      withinMs,
    },
    { signs: Type.Array(sign) },
    { watches: true },
  ),
};
