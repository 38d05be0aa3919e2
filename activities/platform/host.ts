/** A machine becomes a host: it is met, let in by the platform's own key, and given an agent. */
import { isIP } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { forgetCapacity, openCapacity } from '../../database/claims.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { HostConnection } from '../../host-agent/connection.ts';
import {
  authorizeKey,
  type InstallFacts,
  installAgent,
  installPackages,
  readFacts,
  removeInstalledPackages,
  revertAgent,
} from '../../host-agent/install.ts';
import { config } from '../../runtime/config.ts';
import { refuse, tryAgain } from '../failure.ts';
import { refuseLate } from '../holder.ts';
import { unlessFenced } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { isHostname, platformSshKey } from './credentials.ts';
import { type Host, type HostRef, hostEntry, isNew, isSimulated } from './hostEntry.ts';
import { refuseRunning } from './hostGuests.ts';
import { noteState } from './hostPower.ts';
import { powerOf } from './power/index.ts';

/** So long an agent may take to answer on a machine that was a host before. */
const agentPatienceMs = 15_000;

/** So long a machine may take from power on until it lets us in, and so often it is asked. */
const bootMs = { most: 900_000, between: 1_000, power: 60_000 };

const architectureOf = statement((p: Values<{ clusterId: string }>) =>
  from.selectFrom('cluster').select('architecture').where('id', '=', p.clusterId),
);

/** That of the first contact. */
const pinKey = statement((p: Values<{ hostId: string; key: string | null }>) =>
  from
    .updateTable('host')
    .set((eb) => ({ sshHostKey: eb.fn.coalesce('sshHostKey', p.key) }))
    .where('id', '=', p.hostId),
);

/**
 * A machine that was a host before, was declared dead, and was not: its guests may run a second time elsewhere by now. They are not ended
 * without a person who has looked; nor is anything else touched there.
 */
async function refuseLivingGuests(
  { address }: Host,
  { agent }: InstallFacts,
  connection: HostConnection,
): Promise<void> {
  // A machine that is new has no agent to ask.
  if (agent === null) return;
  // One that has just been switched on may be starting it.
  for (const end = performance.now() + agentPatienceMs; ; await setTimeout(500)) {
    if (await connection.health({ timeoutMs: 5_000 }).catch(() => null)) break;
    if (performance.now() > end)
      throw refuse(
        'PRECONDITION_FAILED',
        `${address} has an agent of an earlier life, which does not answer: start it, or remove it, so that it is known whether guests run there`,
      );
  }
  refuseRunning(address, await connection.call('host.inventory', {}));
}

export const hosts = (world: World) => {
  const { database } = world;
  const { connections } = database;
  const { find, ofHolder, overSsh, platformCredential, closeDoor } = hostEntry(world);

  /** Whether it is a machine that its cluster can use. Its key is pinned at first contact. */
  async function meet(host: Host, connection: HostConnection): Promise<void> {
    const facts = await readFacts(connection);
    const [cluster] = await architectureOf(connections, { clusterId: host.clusterId });
    if (facts.architecture !== cluster?.architecture)
      throw refuse(
        'PRECONDITION_FAILED',
        `host ${host.address} is ${facts.architecture}, its cluster is ${cluster?.architecture}`,
      );
    if (isNew(host)) await refuseLivingGuests(host, facts, connection);
    await pinKey(connections, { hostId: host.id, key: connection.hostKey });
  }

  /** A host that can be one at all: what is wrong with its address does not get better. */
  async function findUsable(hostId: string): Promise<Host> {
    const host = await find(hostId);
    if (isSimulated(host) && !config.allowSimulatedHosts)
      throw refuse('INVALID_ARGUMENT', `${host.address} is a simulated host, and this installation takes none`);
    if (!isSimulated(host) && !isIP(host.address) && !isHostname(host.address))
      throw refuse('INVALID_ARGUMENT', `"${host.address}" is neither an IP address nor a host name`);
    return host;
  }

  const authorize = async (connection: HostConnection): Promise<void> => {
    const { publicKey, comment } = await platformSshKey(database);
    await authorizeKey(connection, { publicKey, comment });
  };

  return {
    /** The host answers with the key it always had, and is a machine this cluster can use. Its key is pinned at first contact. */
    reach: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const host = await findUsable(hostId);
        await overSsh(host, (connection) => meet(host, connection));
      },
    }),

    /** Switched on by its BMC, and booted: it lets us in. */
    wake: step({
      system: 'bmc',
      async do({ hostId }: HostRef, context) {
        const { cancellationSignal: signal } = Context.current();
        const host = await findUsable(hostId);
        const power = await powerOf(database, hostId);
        if (!power) return;
        await refuseLate(connections, context);
        if ((await power.state()) === 'off') await power.command('on');
        if ((await power.until('on', bootMs.power, signal)) !== 'on')
          throw tryAgain(
            'BACKEND_UNAVAILABLE',
            `the BMC of host ${hostId} was told to switch it on, and it is off still`,
          );
        await noteState(database, power.host, 'on');
        for (const end = performance.now() + bootMs.most; ; await setTimeout(bootMs.between, undefined, { signal })) {
          try {
            return void (await overSsh(host, readFacts));
          } catch (error) {
            if (!(error instanceof AgentError && error.retryable)) throw error;
            // One that has not come up in all this time does not in the next try either.
            if (performance.now() > end)
              throw refuse('TIMEOUT', `host ${hostId} is on, and does not let us in: ${error.message}`);
          }
        }
      },
      undoText: 'switch it off again',
      async undo({ hostId }, context) {
        const power = await powerOf(database, hostId);
        if (!power) return;
        await refuseLate(connections, context);
        if ((await power.state()) === 'off') return;
        await power.command('off');
        if ((await power.until('off', bootMs.power)) !== 'off')
          throw tryAgain(
            'BACKEND_UNAVAILABLE',
            `the BMC of host ${hostId} was told to switch it off, and it is on still`,
          );
        await noteState(database, power.host, 'off');
      },
    }),

    /**
     * The platform's own key takes the place of the caller's credential, which is forgotten. First of all changes, so that every
     * later step and every undo come in by the same door; its undo is the last and closes it.
     */
    authorizeKey: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const host = await find(hostId);
        await overSsh(host, authorize);
        // Only once the new key has opened the door the old one may be thrown away.
        await overSsh(host, async () => {}, await platformCredential(hostId));
        await forgetSecrets(connections, { kind: 'host', id: hostId }, ['sshPrivateKey', 'sshPassword']);
      },
      undoText: 'remove key',
      undo: ({ hostId }) => closeDoor(hostId),
    }),

    installPackages: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const { cancellationSignal: signal } = Context.current();
        await overSsh(await find(hostId), (connection) => installPackages(connection, { signal }));
      },
      undoText: 'remove packages newly installed',
      undo: async ({ hostId }) => overSsh(await find(hostId), removeInstalledPackages),
    }),

    /** Beside the one that runs; the undo goes back to that, or leaves none. */
    installAgent: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const { cancellationSignal: signal } = Context.current();
        await overSsh(await find(hostId), (connection) => installAgent(connection, { signal }));
      },
      undoText: 'version before, or none',
      async undo({ hostId }) {
        const host = await find(hostId);
        await unlessFenced(world, hostId, () =>
          overSsh(host, async (connection) => {
            const health = isNew(host) ? null : await connection.health().catch(() => null);
            // The version before still runs: this operation replaced nothing.
            if (health === null || health.agent !== host.agentVersion) await revertAgent(connection);
          }),
        );
      },
    }),

    /** Placement may use it, once it is active. What may be promised of it the database says by itself. */
    enable: step({
      system: 'record',
      async do({ hostId }: HostRef, context) {
        await ofHolder(context, hostId, openCapacity);
      },
      // Nothing was placed there: a host that is being added is closed.
      undoText: 'disable',
      async undo({ hostId }, context) {
        await ofHolder(context, hostId, forgetCapacity);
      },
    }),

    /** By SSH, over as few connections as it takes: the platform's key is let in, and by that key comes all that a host needs before it can be spoken to through its agent. */
    install: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const { cancellationSignal: signal } = Context.current();
        const host = await find(hostId);
        await overSsh(host, authorize);
        await overSsh(
          host,
          async (connection) => {
            // Only once the new key has opened the door the old one may be thrown away.
            await forgetSecrets(connections, { kind: 'host', id: hostId }, ['sshPrivateKey', 'sshPassword']);
            await installPackages(connection, { signal });
            await installAgent(connection, { signal });
          },
          await platformCredential(hostId),
        );
      },
      undoText: 'remove agent, packages newly installed, and key',
      async undo({ hostId }) {
        await overSsh(await find(hostId), async (connection) => {
          await revertAgent(connection);
          await removeInstalledPackages(connection);
        });
        await closeDoor(hostId);
      },
    }),
  };
};
