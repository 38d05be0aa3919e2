/** What the platform asks of OVN's southbound database, and the one thing that it writes there: a host that left takes its chassis along. */
import { refuse, tryAgain } from '../failure.ts';
import { type OvsdbTls, ovsdbSocket } from '../network/ovsdbSocket.ts';

const answerMs = 10_000;

interface Answer {
  error: unknown;
  result: Result[] | null;
}

/** One transaction over a connection of its own (RFC 7047): hosts come and go seldom, and people look seldom. */
function transact(remote: string, tls: OvsdbTls, operations: unknown[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = ovsdbSocket(remote, tls);
    let text = '';
    const settle = (act: () => void): void => {
      socket.destroy();
      act();
    };
    socket.setEncoding('utf8').setTimeout(answerMs);
    socket.on('timeout', () => settle(() => reject(new Error(`no answer within ${answerMs / 1000} s`))));
    socket.on('error', (error) => settle(() => reject(error)));
    socket.on('close', () => reject(new Error('the connection was closed')));
    socket.on('data', (chunk: string) => {
      text += chunk;
      try {
        const answer = JSON.parse(text) as Answer;
        settle(() => resolve(answer));
      } catch {
        // Not the whole answer yet.
      }
    });
    socket.write(JSON.stringify({ id: 1, method: 'transact', params: ['OVN_Southbound', ...operations] }));
  });
}

type Row = Record<string, unknown>;
type Result = { error?: string; details?: string; rows?: Row[] } | null;

export interface Southbound {
  /** Addresses, separated by commas; empty where none is set. */
  remotes: string;
  tls: OvsdbTls;
}

/** Runs the transaction on the first address that takes it. */
async function onAny({ remotes, tls }: Southbound, what: string, operations: unknown[]): Promise<Result[]> {
  let failure = 'no address is set';
  for (const remote of remotes.split(',').filter(Boolean)) {
    try {
      const { error, result } = await transact(remote, tls, operations);
      const refusal = error ?? result?.find((entry) => entry?.error);
      if (!refusal) return result ?? [];
      failure = JSON.stringify(refusal);
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
  }
  throw tryAgain('BACKEND_UNAVAILABLE', `OVN's southbound database did not ${what}: ${failure}`);
}

/** Ensures that a chassis is gone. ovn-controller removes its own only when it is stopped in peace. */
export async function removeChassis(southbound: Southbound, name: string): Promise<void> {
  const where = [['name', '==', name]];
  await onAny(southbound, `remove chassis ${name}`, [{ op: 'delete', table: 'Chassis', where }]);
  // Absent before OVN 20.09, which then refuses this and nothing else.
  await onAny(southbound, `remove chassis ${name}`, [{ op: 'delete', table: 'Chassis_Private', where }]).catch(
    () => {},
  );
}

/**
 * Ensures that no chassis of a machine's earlier life claims its tunnel address: it would keep the host from registering under
 * its own name, because OVN allows an address once. `livingHost` answers the name of another host that a chassis belongs to; its
 * chassis is left alone, and two hosts at one address are refused.
 */
export async function freeTunnelAddress(
  southbound: Southbound,
  address: string,
  owner: string,
  livingHost: (chassis: string) => Promise<string | null>,
): Promise<void> {
  const [encaps] = await onAny(southbound, `tell who has ${address}`, [
    { op: 'select', table: 'Encap', where: [['ip', '==', address]], columns: ['chassis_name'] },
  ]);
  for (const { chassis_name: name } of encaps?.rows ?? []) {
    if (typeof name !== 'string' || name === owner) continue;
    const other = await livingHost(name);
    if (other) throw refuse('PRECONDITION_FAILED', `the tunnel address ${address} is that of host ${other}`);
    await removeChassis(southbound, name);
  }
}

export interface Monitored {
  logicalPort: string;
  port: number;
  protocol: string;
  /** Null before it has been asked. */
  isOnline: boolean | null;
}

/** How the targets behind these switch ports answered, as the hosts that they are on say. */
export async function monitoredAt(southbound: Southbound, logicalPorts: string[]): Promise<Monitored[]> {
  if (logicalPorts.length === 0) return [];
  const answers = await onAny(
    southbound,
    'tell how targets are',
    logicalPorts.map((name) => ({
      op: 'select',
      table: 'Service_Monitor',
      where: [['logical_port', '==', name]],
      columns: ['logical_port', 'port', 'protocol', 'status'],
    })),
  );
  // An empty optional column comes as an empty set.
  const word = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
  return answers.flatMap((answer) =>
    (answer?.rows ?? []).map(({ logical_port, port, protocol, status }) => ({
      logicalPort: String(logical_port),
      port: Number(port),
      protocol: word(protocol) ?? 'tcp',
      isOnline: word(status) === null ? null : status === 'online',
    })),
  );
}
