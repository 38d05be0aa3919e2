/** Where hosts are and how they are entered, as the records say; and the connections that are kept to them. */
import { type HostConnections, type KnownHost, keepConnections } from '../runtime/hosts.ts';
import type { Database } from './database.ts';
import { isSilent } from './placement.ts';
import { readSecret } from './secrets.ts';
import { from, statement, type Values } from './statement.ts';
import { platformOwner } from './wellKnown.ts';

const entryOf = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('host as h')
    .select(['h.address', 'h.sshPort', 'h.sshUser', 'h.sshHostKey', 'h.fencedAt', isSilent.as('silent')])
    .where('h.id', '=', p.hostId),
);

/** Undefined for a host that there is not. */
export async function knownHost(database: Database, hostId: string): Promise<KnownHost | undefined> {
  const [host] = await entryOf(database.connections, { hostId });
  if (!host) return undefined;
  const isSimulated = host.address.startsWith('sim://');
  const privateKey = isSimulated
    ? null
    : ((await readSecret(database, { kind: 'host', id: hostId }, 'hostSshPrivateKey')) ??
      (await readSecret(database, platformOwner, 'sshPrivateKey')));
  return {
    isSilent: host.silent,
    isFenced: host.fencedAt !== null,
    target: {
      address: host.address,
      port: host.sshPort,
      user: host.sshUser,
      ...(privateKey ? { privateKey } : {}),
      ...(host.sshHostKey ? { hostKey: host.sshHostKey } : {}),
    },
  };
}

const connections = new WeakMap<Database, HostConnections>();

/** The connections of this process. */
export function hostConnections(database: Database): HostConnections {
  let known = connections.get(database);
  if (!known) {
    known = keepConnections((hostId) => knownHost(database, hostId));
    connections.set(database, known);
  }
  return known;
}
