/** In which order a resource goes with all that hangs on it. */
import { systemCaller } from '../../acceptance/caller.ts';
import { hasTrash, separate } from '../../acceptance/cascade.ts';
import { everything, type Going, walkDown } from '../../acceptance/dependents.ts';
import { type WayInRow, waysInto } from '../../database/floatingIps.ts';
import { from, isAmong, statement, statementOfKind, tableOf, type Values } from '../../database/statement.ts';
import { removalOrderOf } from '../../model/cascade.ts';
import { childrenOf } from '../../model/columns.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import type { ChildRequest } from '../../model/platform/operation.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

/** Groups one after the other, the children of one group side by side. */
export interface CascadePlan {
  /** Brings it to where it can be recovered from. */
  destroy: (ChildRequest & { inverse: ChildRequest })[][];
  remove: ChildRequest[][];
}

interface Instance {
  id: string;
  state: string;
}
interface Volume extends Instance {
  instanceId: string | null;
  role: string;
}

const living = statementOfKind((kind, p: Values<{ id: string }>) =>
  from.selectFrom(tableOf(kind)).selectAll().where('t.id', '=', p.id).where('t.deletedAt', 'is', null),
);

const instancesOf = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('instance')
    .select(['id', 'state'])
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .orderBy('id'),
);

const volumesOf = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('volume')
    .select(['id', 'state', 'instanceId', 'role'])
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .orderBy('id'),
);

const interfacesOf = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('networkInterface')
    .select(['id', 'instanceId'])
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('alone', '=', true)
    .where('instanceId', 'is not', null)
    .orderBy('id'),
);

/** The root volume of an instance that is asked to leave it behind: it is free when the instance has gone. */
const isKept = ({ role, instanceId }: Volume): boolean => role === 'root' && instanceId !== null;

export const cascades = ({ database: { connections } }: World) => ({
  /** What is there now: all of it is held, so that it stays so. */
  plan: step({
    system: 'record',
    async do({ kind, id, expunge }: { kind: string; id: string; expunge: boolean }): Promise<CascadePlan> {
      const [row] = await living(kindOf(kind))(connections, { id });
      if (!row) throw refuse('NOT_FOUND', `${kind} ${id} is gone`);
      const { going, blocking } = await walkDown(connections, systemCaller(), kindOf(kind), row, everything);
      if (blocking[0]) throw refuse('HAS_DEPENDENTS', `${blocking[0].kind} ${blocking[0].id} hangs on it by now`);
      const alone = separate(going, id);
      const idsOf = (of: string): string[] => alone.flatMap((one) => (one.kind === of ? [one.id] : []));
      const ports = going.flatMap((one) => (one.kind === 'networkInterface' ? [one.id] : []));
      const [instances, volumes, interfaces, ways] = await Promise.all([
        instancesOf(connections, { ids: idsOf('instance') }),
        volumesOf(connections, { ids: idsOf('volume') }),
        interfacesOf(connections, { ids: idsOf('networkInterface') }),
        waysInto(connections, { networkInterfaceIds: ports }),
      ]);
      return {
        destroy: destroying(instances, volumes, interfaces, ways),
        remove: removing(alone, new Set(volumes.filter(isKept).map((one) => one.id)), id, expunge),
      };
    },
  }),
});

const order = removalOrderOf(allKinds, childrenOf);

function destroying(
  instances: Instance[],
  all: Volume[],
  interfaces: { id: string; instanceId: string | null }[],
  ways: WayInRow[],
): CascadePlan['destroy'] {
  const volumes = all.filter((one) => !isKept(one));
  const attached = volumes.filter(({ instanceId }) => instanceId !== null);
  return [
    ways
      .filter(({ state }) => state !== 'deleting')
      .map(({ kind, id: targetId, networkInterfaceId }) => ({
        type: `${kind}.detach`,
        targetId,
        inverse: { type: `${kind}.attach`, targetId, input: { networkInterfaceId } },
      })),
    instances
      .filter(({ state }) => state === 'running')
      .map(({ id: targetId }) => ({
        type: 'instance.stop',
        targetId,
        inverse: { type: 'instance.start', targetId },
      })),
    attached.map(({ id: targetId, instanceId }) => ({
      type: 'volume.detach',
      targetId,
      inverse: { type: 'volume.attach', targetId, input: { instanceId } },
    })),
    interfaces.map(({ id: targetId, instanceId }) => ({
      type: 'networkInterface.detach',
      targetId,
      inverse: { type: 'networkInterface.attach', targetId, input: { instanceId } },
    })),
    ...[
      { kind: 'instance', rows: instances },
      { kind: 'volume', rows: volumes },
    ].map(({ kind, rows }) =>
      rows
        .filter(({ state }) => state !== 'destroyed')
        .map(({ id: targetId }) => ({
          type: `${kind}.delete`,
          targetId,
          inverse: { type: `${kind}.recover`, targetId },
        })),
    ),
  ].filter((group) => group.length > 0);
}

/** What has been destroyed goes for good; of a target that may be recovered for a while, that is left out. */
function removing(alone: Going[], kept: ReadonlySet<string>, targetId: string, expunge: boolean): ChildRequest[][] {
  const groups = new Map<string, ChildRequest[]>();
  const put = (key: string, verb: string, { kind, id }: Going): void =>
    void groups.set(key, [...(groups.get(key) ?? []), { type: `${kind}.${verb}`, targetId: id }]);
  const left = alone.filter(({ id }) => kept.has(id));
  // The leaves first, which the walk has put there; of one kind one level after the other.
  const inOrder = alone
    .filter(({ id }) => !kept.has(id))
    .map((one, index) => ({ ...one, place: order.indexOf(one.kind), index }))
    .sort((a, b) => a.place - b.place || b.level - a.level || a.index - b.index);
  for (const one of inOrder) {
    if (hasTrash(one.kind) && one.id === targetId && !expunge) continue;
    put(`${one.kind}/${one.level}`, hasTrash(one.kind) ? 'expunge' : 'delete', one);
    if (one.kind !== 'instance') continue;
    // What instances leave behind follows them.
    for (const verb of ['delete', 'expunge']) groups.set(`left/${verb}`, []);
  }
  for (const verb of ['delete', 'expunge']) for (const one of left) put(`left/${verb}`, verb, one);
  return [...groups.values()].filter((group) => group.length > 0);
}
