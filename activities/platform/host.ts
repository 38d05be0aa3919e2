import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { askToSettle } from '../../acceptance/compute/settle.ts';
import { declareDead, forgetCapacity, guestsPlacedOn, openCapacity, takeBackDeath } from '../../database/claims.ts';
import type { Transaction } from '../../database/database.ts';
import { seenNoMore } from '../../database/findings.ts';
import { forgetSecrets, readSecret } from '../../database/secrets.ts';
import { from, now, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { connectHost, type HostConnection } from '../../host-agent/connection.ts';
import {
  authorizeKey,
  type InstallFacts,
  installAgent,
  installPackages,
  readFacts,
  removeAgent,
  removeInstalledPackages,
  removeKey,
  revertAgent,
} from '../../host-agent/install.ts';
import { peerAddress } from '../../host-agent/peerAddress.ts';
import type { HostInventory } from '../../host-agent/protocol.ts';
import { config } from '../../runtime/config.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { joined, type StepContext, step } from '../step.ts';
import { connectStorage, disconnectStorage, disownStorage, unfenceStorage } from '../storage/drivers/index.ts';
import type { World } from '../world.ts';
import { hostCertificate, isHostname, platformSshKey } from './credentials.ts';
import { freeTunnelAddress, removeChassis } from './southbound.ts';

interface HostRef {
  hostId: string;
}
interface Credential {
  privateKey?: string;
  password?: string;
}

/** So long an agent may take to answer on a machine that was a host before. */
const agentPatienceMs = 15_000;

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

type Host = Awaited<ReturnType<typeof entryOf>>[number];

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

/** Chassis are named by the ids of hosts, unless somebody else has made them. */
const hostOfChassis = statement((p: Values<{ chassis: string }>) =>
  from
    .selectFrom('host')
    .select('name')
    .where((eb) => eb.cast<string>('id', 'text'), '=', p.chassis)
    .where('deletedAt', 'is', null),
);

const noteFacts = statement(
  (
    p: Values<{
      hostId: string;
      vcpus: number;
      memoryMib: number;
      kvm: boolean | null;
      inventory: string;
      agentVersion: string;
    }>,
  ) =>
    from
      .updateTable('host')
      .set({
        vcpus: p.vcpus,
        memoryMib: p.memoryMib,
        kvm: p.kvm,
        inventory: p.inventory,
        agentVersion: p.agentVersion,
        connection: 'connected',
        lastSeenAt: now,
        updatedAt: now,
      })
      .where('id', '=', p.hostId),
);

const claimsOn = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('hostClaim as c')
    .innerJoin('instance as i', 'i.id', 'c.instanceId')
    .select(['i.id', 'i.name'])
    .where('c.hostId', '=', p.hostId)
    .orderBy('i.name')
    .orderBy('i.id')
    .limit(20),
);

const isAway = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('id').where('id', '=', p.hostId).where('connection', '=', 'disconnected'),
);

const isSimulated = (host: Host): boolean => host.address.startsWith('sim://');

/** It is being added. */
const isNew = (host: Host): boolean => host.state === 'adding';

/** OVN tunnels end at addresses, and libvirt listens at one, not at names. */
async function ipOf(host: Host, address: string): Promise<string> {
  return isIP(address) ? address : isSimulated(host) ? peerAddress(address) : (await lookup(address)).address;
}

const tunnelAddress = (host: Host): Promise<string> => ipOf(host, host.underlayAddress ?? host.address);

/** Guests of this platform that a machine knows, those that run and the others. */
function guestsIn({ domains }: HostInventory): { running: string[]; idle: string[] } {
  const guests = domains.filter(({ tags }) => tags?.kind === 'instance');
  const idsOf = (wanted: boolean): string[] =>
    guests.filter(({ state }) => (state === 'running' || state === 'paused') === wanted).map(({ id }) => id);
  return { running: idsOf(true), idle: idsOf(false) };
}

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

function refuseRunning(address: string, found: HostInventory): void {
  const { running } = guestsIn(found);
  if (running.length > 0)
    throw refuse(
      'PRECONDITION_FAILED',
      `guests of an earlier life run on ${address}, and perhaps elsewhere too; end them there before it is added: ${running.join(', ')}`,
    );
}

export const hosts = (world: World) => {
  const { database } = world;
  const { connections } = database;
  const find = async (hostId: string): Promise<Host> => {
    const [host] = await entryOf(connections, { hostId });
    if (!host) throw refuse('NOT_FOUND', `there is no host ${hostId}`);
    return host;
  };

  const platformCredential = async (): Promise<Credential> => ({
    privateKey: (await platformSshKey(database)).privateKey,
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
      ...(isSimulated(host) ? {} : (credential ?? (await callersCredential(host.id)) ?? (await platformCredential()))),
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

  /** In the name of the operation, which has to hold the host. Answers the rows. */
  const ofHolder = (
    context: StepContext,
    hostId: string,
    ask: (tx: Transaction, of: { hostId: string; operationId: string }) => Promise<unknown[]>,
  ): Promise<unknown[]> => asHolder(database, context, (tx) => ask(tx, { hostId, operationId: context.operationId }));
  const closeCapacity = async (hostId: string, context: StepContext): Promise<void> => {
    await ofHolder(context, hostId, forgetCapacity);
  };

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

  /** What a host is made of once its agent answers, each with how it is left again. */
  const parts = {
    /**
     * What the machine has kept of a life as another host, which was deleted while it was off: definitions of guests that are elsewhere by now,
     * and ways into storage that are closed.
     */
    clearEarlierLife: {
      async do({ hostId }: HostRef) {
        const agent = await world.host(hostId);
        const found = await agent.call('host.inventory', {});
        refuseRunning((await find(hostId)).address, found);
        for (const id of guestsIn(found).idle) {
          await agent.call('domain.ensureAbsent', { id });
          await agent.call('domain.ensureSerialLogAbsent', { id });
        }
        for (const storageClusterId of found.secrets)
          await agent.call('storage.ensureDisconnected', { storageClusterId });
      },
    },

    /** libvirt's settings, and the certificate that lets guests come and go encrypted. */
    configureHypervisor: {
      async do({ hostId }: HostRef) {
        const host = await find(hostId);
        const certificate = await hostCertificate(database, hostId, host.address);
        const migrationAddress = await ipOf(host, host.address);
        await (await world.host(hostId)).call('hypervisor.ensureConfigured', { ...certificate, migrationAddress });
      },
      async undo({ hostId }: HostRef) {
        await (await world.host(hostId)).call('hypervisor.ensureUnconfigured', {});
      },
    },

    /** The host as a chassis of OVN; its name there is the host's id, which ports are bound by. */
    configureSwitch: {
      async do({ hostId }: HostRef) {
        const { remotes, tls } = world.southbound;
        if (!remotes)
          throw refuse('PRECONDITION_FAILED', "BELAY_OVN_SOUTHBOUND names no address of OVN's southbound database");
        const agent = await world.host(hostId);
        const host = await find(hostId);
        const encapAddress = await tunnelAddress(host);
        const freeAddress = (): Promise<void> =>
          freeTunnelAddress(world.southbound, encapAddress, hostId, async (chassis) => {
            const [other] = await hostOfChassis(connections, { chassis });
            return other?.name ?? null;
          });
        await freeAddress();
        await agent.call('switch.ensureConfigured', {
          systemId: hostId,
          ovnRemote: remotes,
          // As a host it shows what it shows to other hosts; whom it trusts there is another authority.
          tls: tls && {
            ...(await hostCertificate(database, hostId, host.address)),
            caCertificate: tls().ca ?? '',
          },
          encapsulation: 'geneve',
          encapAddress,
          integrationBridge: 'br-int',
        });
        // Until it got its name, a machine that was another host before has claimed the address under that one, as often as it was taken away.
        await freeAddress();
      },
      async undo({ hostId }: HostRef) {
        await leaveNetwork(await find(hostId));
      },
    },

    /** Rights in, and the way to, every storage pool that this host's cluster reaches. */
    connectStorage: {
      async do({ hostId }: HostRef) {
        const host = await find(hostId);
        // Only itself can be connected.
        await world.host(hostId);
        await connectStorage(world, host);
      },
      async undo({ hostId }: HostRef) {
        await disconnectStorage(world, await find(hostId));
      },
    },

    /** A machine whose address was shut out when it was another host, of which it has kept nothing. */
    openStorage: {
      do: async ({ hostId }: HostRef) => unfenceStorage(world, await find(hostId)),
    },

    /** What the host is and can do, found out by trying. */
    probe: {
      async do({ hostId }: HostRef, { operationId }: StepContext) {
        const { cancellationSignal: signal } = Context.current();
        const agent = await world.host(hostId);
        const facts = await agent.runTask('host.probe', `${operationId}-probe`, {}, { signal });
        const { vcpus, memoryMib, kvm, versions } = facts;
        const inventory = JSON.stringify(facts);
        await noteFacts(connections, { hostId, vcpus, memoryMib, kvm, inventory, agentVersion: versions.agent });
      },
    },
  };

  /** For runs that began when one step both added a host and renewed one: what was there before stays. */
  const ifNew =
    (undo: (input: HostRef) => Promise<void>) =>
    async (input: HostRef): Promise<void> => {
      if (isNew(await find(input.hostId))) await undo(input);
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
        await overSsh(host, async () => {}, await platformCredential());
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
        await overSsh(host, async (connection) => {
          const health = isNew(host) ? null : await connection.health().catch(() => null);
          // The version before still runs: this operation replaced nothing.
          if (health === null || health.agent !== host.agentVersion) await revertAgent(connection);
        });
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
      undo: ({ hostId }, context) => closeCapacity(hostId, context),
    }),

    /** Placement has not used it since it is being deleted; refused while anything holds a claim on it, or when nobody is there to be cleaned. */
    disable: step({
      system: 'record',
      async do({ hostId, force }: HostRef & { force?: boolean }) {
        const claims = await claimsOn(connections, { hostId });
        if (claims.length > 0)
          throw refuse('HAS_DEPENDENTS', `instances are on host ${hostId}: stop or migrate them first`, {
            blockers: claims.map((claim) => ({ kind: 'instance', ...claim })),
          });
        const [away] = await isAway(connections, { hostId });
        if (away && !force)
          throw refuse(
            'HOST_UNREACHABLE',
            `host ${hostId} does not answer and can not be cleaned: connect it again, or delete it with force`,
          );
      },
    }),

    /** From now on nothing waits for it, and nothing is taken to be on it. */
    declareDead: step({
      system: 'record',
      async do({ hostId }: HostRef, context) {
        const [dead] = await ofHolder(context, hostId, declareDead);
        if (!dead) throw refuse('PRECONDITION_FAILED', `host ${hostId} answers again: it is not dead`);
      },
      undoText: 'take it back',
      async undo({ hostId }, context) {
        await ofHolder(context, hostId, takeBackDeath);
      },
    }),

    /** The guests of a dead host are stopped by operations of their own, each as soon as no other is at work on its instance. */
    freeGuests: step({
      system: 'record',
      async do({ hostId }: HostRef) {
        const { cancellationSignal: signal } = Context.current();
        for (;;) {
          const guests = await guestsPlacedOn(connections, { hostId });
          if (guests.length === 0) return;
          for (const { id, idle } of guests) if (idle) await askToSettle(database, id, `dead-host-${hostId}`);
          await setTimeout(500, undefined, { signal });
        }
      },
    }),

    /** What the agent can take back: storage, network, hypervisor settings. `force` is for a host that will never answer again. */
    clean: step({
      system: 'host',
      async do({ hostId, force }: HostRef & { force: boolean }) {
        const host = await find(hostId);
        try {
          await disconnectStorage(world, host);
          await leaveNetwork(host);
          await (await world.host(hostId)).call('hypervisor.ensureUnconfigured', {});
        } catch (error) {
          if (!force || !(error instanceof AgentError)) throw error;
          world.log.warn({ hostId, error: error.message }, 'a host is removed without being cleaned');
          await forgetLostHost(host);
        }
      },
    }),

    /** The agent, the packages that came with it, and last the key. */
    uninstall: step({
      system: 'host',
      async do({ hostId, force }: HostRef & { force: boolean }) {
        try {
          await overSsh(await find(hostId), async (connection) => {
            await removeAgent(connection);
            await removeInstalledPackages(connection);
          });
          await closeDoor(hostId);
        } catch (error) {
          // Without our key there is nothing of ours left to remove: an earlier attempt got to the end.
          if (error instanceof AgentError && error.code === 'PRECONDITION_FAILED') return;
          if (!force || !(error instanceof AgentError)) throw error;
          world.log.warn({ hostId, error: error.message }, 'a host is removed with its agent on it');
        }
      },
    }),

    forget: step({
      system: 'record',
      async do({ hostId }: HostRef, context) {
        await closeCapacity(hostId, context);
        await seenNoMore(connections, { resourceKind: 'host', resourceIds: [hostId] });
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
          await platformCredential(),
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
    /** Through its agent: what the host is part of, and what it can do. */
    configure: step({
      system: 'host',
      ...joined(
        parts.clearEarlierLife,
        parts.configureHypervisor,
        parts.configureSwitch,
        parts.connectStorage,
        parts.openStorage,
        parts.probe,
      ),
      undoText: 'leave storage and network, delete chassis, restore files',
    }),

    // What should be so anyway, on a host that was there before: it has nothing to go back to.
    renewHypervisor: step({ system: 'libvirt', do: parts.configureHypervisor.do }),
    renewSwitch: step({ system: 'ovs', do: parts.configureSwitch.do }),
    renewStorage: step({ system: 'host', do: parts.connectStorage.do }),
    probe: step({ system: 'host', do: parts.probe.do }),

    configureHypervisor: step({
      system: 'libvirt',
      do: parts.configureHypervisor.do,
      undoText: 'restore files',
      undo: ifNew(parts.configureHypervisor.undo),
    }),
    configureSwitch: step({
      system: 'ovs',
      do: parts.configureSwitch.do,
      undoText: 'restore, delete chassis',
      undo: ifNew(parts.configureSwitch.undo),
    }),
    connectStorage: step({
      system: 'host',
      do: parts.connectStorage.do,
      undoText: 'revoke key, disconnect',
      undo: ifNew(parts.connectStorage.undo),
    }),
  };

  /** Removes the platform's key. When it no longer opens the door, it is gone. */
  async function closeDoor(hostId: string): Promise<void> {
    const host = await find(hostId);
    const { comment } = await platformSshKey(database);
    try {
      await overSsh(host, (connection) => removeKey(connection, { comment }));
    } catch (error) {
      const isRefused = error instanceof AgentError && error.code === 'PRECONDITION_FAILED';
      if (!isRefused || (await callersCredential(hostId)) !== null) throw error;
    }
  }

  /** A lost host's rights end from outside: in storage through any other host, in OVN with its chassis. */
  async function forgetLostHost(host: Host): Promise<void> {
    await disownStorage(world, host);
    if (world.southbound.remotes) await removeChassis(world.southbound, host.id);
  }
};
