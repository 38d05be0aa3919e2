/** A host as its steps meet it: its record, and the way in by SSH. */
import type { Transaction } from '../../database/database.ts';
import { readSecret } from '../../database/secrets.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { connectHost, type HostConnection } from '../../host-agent/connection.ts';
import { removeKey } from '../../host-agent/install.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import type { StepContext } from '../step.ts';
import type { World } from '../world.ts';
import { sshKeyOf } from './credentials.ts';
import { removeChassis } from './southbound.ts';

export interface HostRef {
  hostId: string;
}
interface Credential {
  privateKey?: string;
  password?: string;
}

/** What the steps on a host need to know of it. */
const entryOf = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('host')
    .select([
      'id',
      'state',
      'clusterId',
      'zoneId',
      'address',
      'underlayAddress',
      'sshPort',
      'sshUser',
      'sshHostKey',
      'agentVersion',
    ])
    .where('id', '=', p.hostId),
);

export type Host = Awaited<ReturnType<typeof entryOf>>[number];

export const isSimulated = (host: Host): boolean => host.address.startsWith('sim://');

/** It is being added. */
export const isNew = (host: Host): boolean => host.state === 'adding';

export const hostEntry = (world: World) => {
  const { database } = world;
  const { connections } = database;
  const find = async (hostId: string): Promise<Host> => {
    const [host] = await entryOf(connections, { hostId });
    if (!host) throw refuse('NOT_FOUND', `there is no host ${hostId}`);
    return host;
  };

  const platformCredential = async (hostId: string): Promise<Credential> => ({
    privateKey: (await sshKeyOf(database, hostId)).privateKey,
  });

  /** The credential that came with the host, until the platform's own key has taken its place. */
  async function callersCredential(hostId: string): Promise<Credential | null> {
    const privateKey = await readSecret(database, { kind: 'host', id: hostId }, 'sshPrivateKey');
    const password = await readSecret(database, { kind: 'host', id: hostId }, 'sshPassword');
    if (privateKey === null && password === null) return null;
    return { ...(privateKey === null ? {} : { privateKey }), ...(password === null ? {} : { password }) };
  }

  /** Runs `work` over an SSH connection of its own: the agent may be absent, or about to be replaced. */
  async function overSsh<T>(
    host: Host,
    work: (connection: HostConnection) => Promise<T>,
    credential?: Credential,
  ): Promise<T> {
    const connection = await connectHost({
      address: host.address,
      port: host.sshPort,
      user: host.sshUser,
      ...(host.sshHostKey === null ? {} : { hostKey: host.sshHostKey }),
      ...(isSimulated(host)
        ? {}
        : (credential ?? (await callersCredential(host.id)) ?? (await platformCredential(host.id)))),
    });
    try {
      return await work(connection);
    } finally {
      await connection.close();
    }
  }

  async function leaveNetwork(host: Host): Promise<void> {
    await (await world.host(host.id)).call('switch.ensureUnconfigured', {});
    if (world.southbound.remotes) await removeChassis(world.southbound, host.id);
  }

  /** Removes the platform's key. When it no longer opens the door, it is gone. */
  async function closeDoor(hostId: string): Promise<void> {
    const host = await find(hostId);
    const { comment } = await sshKeyOf(database, hostId);
    try {
      await overSsh(host, (connection) => removeKey(connection, { comment }));
    } catch (error) {
      const isRefused = error instanceof AgentError && error.code === 'PRECONDITION_FAILED';
      if (!isRefused || (await callersCredential(hostId)) !== null) throw error;
    }
  }

  /** In the name of the operation, which has to hold the host. Answers the rows. */
  const ofHolder = (
    context: StepContext,
    hostId: string,
    ask: (tx: Transaction, of: { hostId: string; operationId: string }) => Promise<unknown[]>,
  ): Promise<unknown[]> => asHolder(database, context, (tx) => ask(tx, { hostId, operationId: context.operationId }));

  return { find, ofHolder, overSsh, platformCredential, leaveNetwork, closeDoor };
};
