/** Where hosts are and how they are entered, as the records say; and the connections that are kept to them. */
import { type HostConnections, type KnownHost, keepConnections } from '../runtime/hosts.ts';
import { type Database, run } from './database.ts';
import { platformOwner } from './installation.ts';
import { silent } from './placement.ts';
import { readSecret } from './secrets.ts';

interface HostRow {
  address: string;
  sshPort: number;
  sshUser: string;
  sshHostKey: string | null;
  silent: boolean;
}

async function findHost(database: Database, hostId: string): Promise<KnownHost | undefined> {
  const [host] = await run<HostRow>(
    database.pool,
    `SELECT address, "sshPort", "sshUser", "sshHostKey", ${silent} AS silent FROM "host" h WHERE id = $1`,
    [hostId],
  );
  if (!host) return undefined;
  const isSimulated = host.address.startsWith('sim://');
  const privateKey = isSimulated ? null : await readSecret(database, platformOwner, 'sshPrivateKey');
  return {
    isSilent: host.silent,
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
    known = keepConnections((hostId) => findHost(database, hostId));
    connections.set(database, known);
  }
  return known;
}
