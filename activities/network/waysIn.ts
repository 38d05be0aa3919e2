/** What leads to interfaces from outside, as a whole: whoever ends one sees to it first that nothing leads there any more. */
import {
  floatingIpOf,
  isLeading,
  portForwardOf,
  type WayIn,
  type WayInRow,
  wayOfForward,
  waysInto,
  writeForward,
  writeTarget,
} from '../../database/floatingIps.ts';
import { portsGoingWith } from '../../database/networks.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { addressAt } from './floatingIp.ts';
import type { OvsdbOperation } from './northbound.ts';
import { leadOperations, removalOperations } from './portForward.ts';
import { operationsAt, removalAt, routerIsThere } from './router.ts';

/** Of an instance those interfaces that go with it. */
type Of = { instanceId: string } | { networkInterfaceId: string } | { portForwardId: string };

interface Ways {
  ways: WayIn[];
}

export const waysIn = (world: World) => {
  const { database } = world;
  const { connections } = database;

  async function look(of: Of): Promise<WayInRow[]> {
    if ('portForwardId' in of) return wayOfForward(connections, of);
    if ('networkInterfaceId' in of) return waysInto(connections, { networkInterfaceIds: [of.networkInterfaceId] });
    const ports = await portsGoingWith(connections, of);
    return waysInto(connections, { networkInterfaceIds: ports.map(({ id }) => id) });
  }

  async function opening({ kind, id, target }: WayIn, prefix: string): Promise<OvsdbOperation[]> {
    if (kind === 'floatingIp') {
      const [row] = await floatingIpOf(connections, { floatingIpId: id });
      return row ? [routerIsThere(target.vpcId), ...(await operationsAt(world, addressAt(row, target), prefix))] : [];
    }
    const [row] = await portForwardOf(connections, { portForwardId: id });
    return row && isLeading(row) ? leadOperations(world, row, prefix) : [];
  }
  async function closing({ kind, id, target }: WayIn): Promise<OvsdbOperation[]> {
    if (kind === 'floatingIp') return removalAt(world, { kind, id, vpcId: target.vpcId });
    const [row] = await portForwardOf(connections, { portForwardId: id });
    return row ? removalOperations(world, row) : [];
  }
  /** All in one transaction. */
  async function transact(what: string, parts: Promise<OvsdbOperation[]>[]): Promise<void> {
    const operations = (await Promise.all(parts)).flat();
    if (operations.length > 0) await world.northbound.transact(what, operations);
  }
  const record = (ways: WayIn[], leading: boolean, context: StepContext): Promise<void> =>
    asHolder(database, context, async (tx) => {
      for (const { kind, id, target } of ways) {
        const { networkInterfaceId, fixedAddress, vpcId } = leading
          ? target
          : { networkInterfaceId: null, fixedAddress: null, vpcId: null };
        if (kind === 'floatingIp') await writeTarget(tx, { floatingIpId: id, networkInterfaceId, fixedAddress, vpcId });
        else await writeForward(tx, { portForwardId: id, networkInterfaceId, address: fixedAddress, vpcId });
      }
    });

  return {
    /** What leads there. All of it is held, unless somebody ends it: whoever does closes it. */
    find: step({
      system: 'record',
      async do(of: Of, { operationId }): Promise<Ways> {
        const found = (await look(of)).filter(({ state }) => state !== 'deleting');
        const other = found.find(({ currentOperationId }) => currentOperationId !== operationId);
        if (other)
          throw refuse('INVALID_STATE', `${other.kind} ${other.id} leads there by now, and is not held; ask once more`);
        return {
          ways: found.map(({ kind, id, networkInterfaceId, fixedAddress, vpcId }) => ({
            kind,
            id,
            target: { networkInterfaceId, fixedAddress, vpcId },
          })),
        };
      },
    }),

    close: step({
      system: 'ovn',
      do: ({ ways }: Ways) => transact('close ways in', ways.map(closing)),
      undoText: 'open again',
      undo: ({ ways }) =>
        transact(
          'open ways in',
          ways.map((way, index) => opening(way, `way${index}`)),
        ),
    }),

    forget: step({
      system: 'record',
      do: ({ ways }: Ways, context) => record(ways, false, context),
      undoText: 'what they led to',
      undo: ({ ways }, context) => record(ways, true, context),
    }),
  };
};
