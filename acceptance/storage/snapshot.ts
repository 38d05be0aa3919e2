import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import { kindOf } from '../../model/kinds.ts';
import { layeredPoolTypes, type PoolType } from '../../model/storage/poolTypes.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import type { Condition, Hold, Hooks, Related, Row } from '../change.ts';
import { poolsMustBeAble } from './ability.ts';

const onLayers = statement((p: Values<{ volumeId: string; types: PoolType[] }>) =>
  from
    .selectFrom('volume as v')
    .innerJoin('storagePool as p', 'p.id', 'v.poolId')
    .select(['v.id', 'v.revision', 'v.instanceId'])
    .where('v.id', '=', p.volumeId)
    .where((eb) => isAmong(eb.ref('p.type'), p.types)),
);

/** What the holds were told from must still be so when the turn has come: a volume that was attached meanwhile needs its instance held too. */
export const stillAttachedTo = (volume: Row): Condition => ({
  field: 'instanceId',
  is: volume.instanceId ? String(volume.instanceId) : null,
  code: 'INVALID_STATE',
  message: volume.instanceId
    ? `volume ${volume.id} is not attached to instance ${String(volume.instanceId)} any more`
    : `volume ${volume.id} was attached to an instance meanwhile`,
});

/** The instance that a volume is attached to, when it is. */
export const instanceOf = (volume: Row | undefined): Hold[] =>
  volume?.instanceId ? [{ kind: 'instance', id: String(volume.instanceId), mode: 'X' }] : [];

/** For `Hook.related`: its row, too, is needed then. */
export const relatedInstance = (volume: Row | undefined): Related[] =>
  instanceOf(volume).map(({ kind, id }) => ({ kind, id }));

export const snapshotHooks: Hooks = {
  'snapshot.create': {
    // With whom the volume is shared may be allowed this too; the snapshot is the owner's all the same.
    permittedAt: (row, loaded) =>
      placeOf(kindOf('volume'), loaded.get(`volume/${String(row.volumeId)}`) ?? { id: String(row.volumeId) }),
    related: ({ input, loaded }) => relatedInstance(loaded.get(`volume/${String(input.volumeId)}`)),
    holds({ input, loaded }) {
      const volume = loaded.get(`volume/${String(input.volumeId)}`);
      if (!volume) return [];
      return [
        { kind: 'volume', id: volume.id, mode: 'X', from: ['ready'], conditions: [stillAttachedTo(volume)] },
        ...instanceOf(volume),
      ];
    },
    async accept({ tx, row, input, references, workflowInput }) {
      const volume = references.get(`volume/${String(input.volumeId)}`);
      const taken = { kind: 'volume', id: String(input.volumeId) };
      await poolsMustBeAble(tx, [volume?.poolId], 'snapshot', taken);
      const instance = volume?.instanceId ? references.get(`instance/${String(volume.instanceId)}`) : undefined;
      if (instance?.hostId) await poolsMustBeAble(tx, [volume?.poolId], 'snapshotInUse', taken);
      Object.assign(row, {
        zoneId: volume?.zoneId,
        sizeGib: volume?.sizeGib,
        poolId: volume?.poolId,
        architecture: volume?.architecture ?? null,
      });
      workflowInput.volumeId = input.volumeId;
      workflowInput.quiesce = input.quiesce ?? false;
    },
  },
  'snapshot.delete': {
    related: ({ row }) => [{ kind: 'volume', id: String(row.volumeId) }],
    holds: ({ row }) => [{ kind: 'volume', id: String(row.volumeId), mode: 'X' }],
    // Who has the volume must neither start, nor stop, nor leave while its layers are joined.
    async foresee(tx, _caller, { row }) {
      const [volume] = await onLayers(tx, { volumeId: String(row.volumeId), types: layeredPoolTypes });
      if (!volume) return [];
      return [
        { kind: 'volume', id: volume.id, mode: 'X', conditions: [stillAttachedTo(volume)] },
        ...instanceOf(volume),
      ];
    },
    accept({ row, references, workflowInput }) {
      if (!references.has(`volume/${String(row.volumeId)}`))
        throw new Problem('INVALID_STATE', `the volume of snapshot ${row.id} is gone`);
      workflowInput.volumeId = row.volumeId;
    },
  },
};
