/** What a pool can not do by its type is refused here, before anything waits for it. */
import type { Client } from '../../database/database.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import { type PoolCan, type PoolType, poolTypesWithout } from '../../model/storage/poolTypes.ts';
import { Problem } from '../../runtime/problem.ts';

/** What is refused, in words, by what it would need. */
const refusal: Record<keyof PoolCan, string> = {
  snapshot: 'takes no snapshots',
  snapshotInUse: 'takes no snapshots of volumes whose guest runs: stop it first',
  clone: 'makes no volumes from images or snapshots',
  cloneAcross: 'makes no volumes from snapshots in another pool',
  growInUse: 'grows no volume that is in use',
  shrink: 'takes back nothing that a volume has grown',
  liveMove: 'is not there for a running guest on another host',
};

const ofType = statement((p: Values<{ poolIds: string[]; types: PoolType[] }>) =>
  from
    .selectFrom('storagePool as p')
    .select(['p.id', 'p.type'])
    .where((eb) => isAmong(eb.ref('p.id'), p.poolIds))
    .where((eb) => isAmong(eb.ref('p.type'), p.types))
    .limit(1),
);

const poolsOfInstance = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('volume as v')
    .select('v.poolId')
    .distinct()
    .where('v.instanceId', '=', p.instanceId)
    .where('v.deletedAt', 'is', null),
);

/** @throws Problem NOT_SUPPORTED when one of the pools is of a type that is not able to. A volume that is in no pool yet is asked about later, by its step. */
export async function poolsMustBeAble(tx: Client, poolIds: unknown[], ability: keyof PoolCan): Promise<void> {
  const unable = poolTypesWithout(ability);
  if (unable.length === 0) return;
  const among = poolIds.flatMap((id) => (typeof id === 'string' ? [id] : []));
  const [pool] = await ofType(tx, { poolIds: among, types: unable });
  if (pool)
    throw new Problem('NOT_SUPPORTED', `storage pool ${pool.id} is of type ${pool.type}, which ${refusal[ability]}`, {
      resource: { kind: 'storagePool', id: pool.id },
    });
}

/** The same for all pools that an instance has volumes in. */
export async function poolsOfInstanceMustBeAble(tx: Client, instanceId: string, ability: keyof PoolCan): Promise<void> {
  if (poolTypesWithout(ability).length === 0) return;
  const volumes = await poolsOfInstance(tx, { instanceId });
  await poolsMustBeAble(
    tx,
    volumes.map(({ poolId }) => poolId),
    ability,
  );
}
