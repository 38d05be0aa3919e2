/** Network interfaces in the records: where each is attached, and what it has. */

import { patched } from '../../acceptance/patch.ts';
import { freeAddress, takeAddress } from '../../database/addresses.ts';
import { leadingTo } from '../../database/floatingIps.ts';
import { takeInterfaceSlot } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { isAtWire } from '../../database/wires.ts';
import { kindOf } from '../../model/kinds.ts';
import { familyOfAddress } from '../../model/network/ipAddress.ts';
import { interfaceSlots, type Qos } from '../../model/network/networkInterface.ts';
import { Problem } from '../../runtime/problem.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { mustAnswer } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import type { PortChange } from './networkInterface.ts';

interface InterfaceRef {
  networkInterfaceId: string;
}
interface Slot extends InterfaceRef {
  instanceId: string;
  index: number | null;
}

const free = statement((p: Values<InterfaceRef & { instanceId: string; alone: boolean }>) =>
  from
    .updateTable('networkInterface')
    .set({ instanceId: null, index: null, alone: p.alone })
    .where('id', '=', p.networkInterfaceId)
    .where('instanceId', '=', p.instanceId),
);

const give = statement((p: Values<Slot & { alone: boolean }>) =>
  from
    .updateTable('networkInterface')
    .set({ instanceId: p.instanceId, index: p.index, alone: p.alone })
    .where('id', '=', p.networkInterfaceId)
    .where('instanceId', 'is', null),
);

const writeColumns = statement(
  (
    p: Values<{
      networkInterfaceId: string;
      securityGroupIds: string[];
      portSecurity: boolean | null;
      allowedPairs: string;
      linkUp: boolean;
      qos: string | null;
      name: string;
      description: string;
      labels: string;
      operationId: string;
    }>,
  ) =>
    // What anybody may PATCH no guard of the table keeps from a try that comes late.
    from
      .updateTable('networkInterface')
      .set({
        securityGroupIds: p.securityGroupIds,
        portSecurity: p.portSecurity,
        allowedPairs: p.allowedPairs,
        linkUp: p.linkUp,
        qos: p.qos,
        name: p.name,
        description: p.description,
        labels: p.labels,
      })
      .where('id', '=', p.networkInterfaceId)
      .where('currentOperationId', '=', p.operationId),
);

const setAddresses = statement(
  (p: Values<{ networkInterfaceId: string; address: string; address6: string | null; secondaryAddresses: string }>) =>
    from
      .updateTable('networkInterface')
      .set({ address: p.address, address6: p.address6, secondaryAddresses: p.secondaryAddresses })
      .where('id', '=', p.networkInterfaceId),
);

const attachedTo = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('networkInterface')
    .select(['id', 'index'])
    .where('instanceId', '=', p.instanceId)
    .where('alone', '=', true)
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

/** What a change makes of the whole of an interface. */
export interface After {
  securityGroupIds: string[];
  portSecurity: boolean | null;
  allowedPairs: NonNullable<PortChange['allowedPairs']>;
  linkUp: boolean;
  qos: Qos | null;
  name: string;
  description: string;
  labels: Record<string, string>;
}

/** Nobody else has it from then on, and no try that comes late takes it. */
const writeName = statement((p: Values<{ networkInterfaceId: string; dnsName: string | null; operationId: string }>) =>
  from
    .updateTable('networkInterface')
    .set({ dnsName: p.dnsName })
    .where('id', '=', p.networkInterfaceId)
    .where('currentOperationId', '=', p.operationId),
);

/** All addresses that an interface shall have. */
interface Given {
  address: string;
  address6: string | null;
  secondaryAddresses: string[];
}
const allOf = ({ address, address6, secondaryAddresses }: Given): string[] => [
  address,
  ...secondaryAddresses,
  ...(address6 ? [address6] : []),
];

interface Called {
  before: string | null;
  after: string | null;
}

interface Addresses {
  address: string | null;
  /** A run of before says nothing of it. */
  address6?: string | null;
  secondaryAddresses: string[] | null;
}

export const networkInterfaceRecords = (world: World) => {
  const record = (id: string) => world.database.prisma.networkInterface.findUniqueOrThrow({ where: { id } });
  const hostOf = async (instanceId: string | null): Promise<string | null> => {
    if (!instanceId) return null;
    const instance = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
    await mustAnswer(world.database.connections, instance);
    return instance.hostId;
  };

  return {
    /** The attachment in the records: which instance, which place. */
    reserveSlot: step({
      system: 'record',
      async do(
        { networkInterfaceId, instanceId }: InterfaceRef & { instanceId: string },
        context,
      ): Promise<{ hostId: string | null }> {
        const isWired = await asHolder(world.database, context, async (tx) => {
          await takeInterfaceSlot(tx, { networkInterfaceId, instanceId, slots: interfaceSlots });
          return isAtWire(tx, { networkInterfaceId, instanceId });
        });
        if (!isWired)
          throw refuse('NO_CAPACITY', `the host of instance ${instanceId} is not at the wire of the network`);
        const nic = await record(networkInterfaceId);
        if (!nic.instanceId)
          throw refuse(
            'NOT_SUPPORTED',
            `instance ${instanceId} has ${interfaceSlots} interfaces, and can have no more`,
          );
        if (nic.instanceId !== instanceId)
          throw refuse(
            'ALREADY_ATTACHED',
            `network interface ${networkInterfaceId} is attached to instance ${nic.instanceId}`,
          );
        return { hostId: await hostOf(instanceId) };
      },
      undoText: 'free place',
      undo: ({ networkInterfaceId, instanceId }, context) =>
        asHolder(
          world.database,
          context,
          async (tx) => void (await free(tx, { networkInterfaceId, instanceId, alone: true })),
        ),
    }),

    locate: step({
      system: 'record',
      async do({ networkInterfaceId }: InterfaceRef): Promise<{
        instanceId: string | null;
        hostId: string | null;
        index: number | null;
        alone: boolean;
      }> {
        const { instanceId, index, alone } = await record(networkInterfaceId);
        return { instanceId, hostId: await hostOf(instanceId), index, alone };
      },
    }),

    /** Those made alone that an instance has: it goes without them. */
    attached: step({
      system: 'record',
      async do({
        instanceId,
      }: {
        instanceId: string;
      }): Promise<{ networkInterfaceId: string; index: number | null }[]> {
        const found = await attachedTo(world.database.connections, { instanceId });
        return found.map(({ id, index }) => ({ networkInterfaceId: id, index }));
      },
    }),

    /** From now on it goes with no instance. */
    freeSlot: step({
      system: 'record',
      do: ({ networkInterfaceId, instanceId }: Slot & { alone: boolean }, context): Promise<void> =>
        asHolder(
          world.database,
          context,
          async (tx) => void (await free(tx, { networkInterfaceId, instanceId, alone: true })),
        ),
      undoText: 'reserve again',
      async undo(slot, context) {
        await asHolder(world.database, context, (tx) => give(tx, slot));
      },
    }),

    /** What a change makes of it, and where its guest runs. */
    plan: step({
      system: 'record',
      async do({ networkInterfaceId, patch }: InterfaceRef & { patch: Record<string, unknown> }): Promise<{
        hostId: string | null;
        instanceId: string | null;
        isLinkChanged: boolean;
        /** What it is called, where that changes. */
        called: Called | null;
        after: After;
      }> {
        const nic = await record(networkInterfaceId);
        const before: After = {
          securityGroupIds: nic.securityGroupIds,
          portSecurity: nic.portSecurity,
          allowedPairs: nic.allowedPairs as After['allowedPairs'],
          linkUp: nic.linkUp,
          qos: nic.qos as Qos | null,
          name: nic.name,
          description: nic.description,
          labels: nic.labels as After['labels'],
        };
        const { dnsName, ...after } = {
          ...before,
          ...patched(kindOf('networkInterface'), { ...before, dnsName: nic.dnsName }, patch),
        } as After & { dnsName?: string | null };
        const called =
          dnsName === undefined || dnsName === nic.dnsName ? null : { before: nic.dnsName, after: dnsName };
        const isLinkChanged = after.linkUp !== before.linkUp;
        return { hostId: await hostOf(nic.instanceId), instanceId: nic.instanceId, isLinkChanged, called, after };
      },
    }),

    /** The database gives a name to one interface of a network, and of a VPC. */
    takeName: step({
      system: 'record',
      async do({ networkInterfaceId, called }: InterfaceRef & { called: Called }, context) {
        await asHolder(world.database, context, (tx) =>
          writeName(tx, { networkInterfaceId, dnsName: called.after, operationId: context.operationId }),
        );
      },
      undoText: 'old name',
      async undo({ networkInterfaceId, called }, context) {
        await asHolder(world.database, context, (tx) =>
          writeName(tx, { networkInterfaceId, dnsName: called.before, operationId: context.operationId }),
        );
      },
    }),

    write: step({
      system: 'record',
      async do({ networkInterfaceId, after }: InterfaceRef & { after: After }, context) {
        await asHolder(world.database, context, (tx) =>
          writeColumns(tx, {
            ...after,
            networkInterfaceId,
            operationId: context.operationId,
            allowedPairs: JSON.stringify(after.allowedPairs),
            // A run of before knows of none.
            qos: after.qos ? JSON.stringify(after.qos) : null,
            labels: JSON.stringify(after.labels),
          }),
        );
      },
    }),

    /** The database gives each to one interface only. What it had it keeps until the new ones are in force. */
    takeAddresses: step({
      system: 'record',
      async do(
        { networkInterfaceId, address, address6, secondaryAddresses }: InterfaceRef & Addresses,
        context,
      ): Promise<{ change: Given }> {
        const nic = await record(networkInterfaceId);
        const change = {
          address: address ?? String(nic.address),
          address6: address6 ?? nic.address6,
          secondaryAddresses: secondaryAddresses ?? (nic.secondaryAddresses as string[]),
        };
        const [leading] =
          change.address === nic.address ? [] : await leadingTo(world.database.connections, { networkInterfaceId });
        if (leading)
          throw refuse(
            'HAS_DEPENDENTS',
            `${leading.kind} ${leading.id} leads to the address of interface ${networkInterfaceId}; detach it first`,
            { blockers: [leading] },
          );
        await asHolder(world.database, context, async (tx) => {
          for (const one of allOf(change)) {
            const subnetId = familyOfAddress(one) === 6 ? nic.subnet6Id : nic.subnetId;
            await takeAddress(tx, String(subnetId), networkInterfaceId, one, 'address');
          }
        }).catch((error: unknown) => {
          if (error instanceof Problem) throw refuse(error.code, error.message);
          throw error;
        });
        return { change };
      },
      undoText: 'give back',
      async undo({ networkInterfaceId }, context) {
        const { address, address6, secondaryAddresses } = await record(networkInterfaceId);
        const kept = allOf({
          address: String(address),
          address6,
          secondaryAddresses: secondaryAddresses as string[],
        });
        await asHolder(world.database, context, (tx) => freeAddress(tx, networkInterfaceId, { kept }));
      },
    }),

    /** The addresses that it has no more are free for others. */
    writeAddresses: step({
      system: 'record',
      async do(
        { networkInterfaceId, change }: InterfaceRef & { change: Omit<Given, 'address6'> & Partial<Given> },
        context,
      ) {
        const given = { ...change, address6: change.address6 ?? (await record(networkInterfaceId)).address6 };
        const { address, address6, secondaryAddresses } = given;
        await asHolder(world.database, context, async (tx) => {
          await setAddresses(tx, {
            networkInterfaceId,
            address,
            address6,
            secondaryAddresses: JSON.stringify(secondaryAddresses),
          });
          await freeAddress(tx, networkInterfaceId, { kept: allOf(given) });
        });
      },
    }),
  };
};
