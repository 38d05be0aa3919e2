/** What a host is made of once its agent answers: hypervisor, switch, storage, and what it can do. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { Context } from '@temporalio/activity';
import { from, now, statement, type Values } from '../../database/statement.ts';
import { wiresOfCluster } from '../../database/wires.ts';
import { peerAddress } from '../../host-agent/peerAddress.ts';
import { refuse } from '../failure.ts';
import { joined, type StepContext, step } from '../step.ts';
import { connectStorage, disconnectStorage, unfenceStorage } from '../storage/drivers/index.ts';
import type { World } from '../world.ts';
import { hostCertificate } from './credentials.ts';
import { type Host, type HostRef, hostEntry, isNew, isSimulated } from './hostEntry.ts';
import { guestsIn, refuseRunning } from './hostGuests.ts';
import { freeTunnelAddress } from './southbound.ts';

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

/** OVN tunnels end at addresses, and libvirt listens at one, not at names. */
async function ipOf(host: Host, address: string): Promise<string> {
  return isIP(address) ? address : isSimulated(host) ? peerAddress(address) : (await lookup(address)).address;
}

const tunnelAddress = (host: Host): Promise<string> => ipOf(host, host.underlayAddress ?? host.address);

export const hostSystems = (world: World) => {
  const { database } = world;
  const { connections } = database;
  const { find, leaveNetwork } = hostEntry(world);

  /** Each with how it is left again. */
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
        for (const { id, bridge } of await wiresOfCluster(connections, { clusterId: host.clusterId }))
          await agent.call('switch.ensureMapping', { physicalNetworkId: id, bridge });
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
};
