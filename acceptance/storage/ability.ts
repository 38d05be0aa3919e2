/** What a pool can not do by its type is refused here, before anything waits for it. */
import type { Transaction } from '../../database/database.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import { inability, type PoolCan, type PoolType, poolTypesWithout } from '../../model/storage/poolTypes.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Row } from '../change.ts';
import { invalid } from '../violation.ts';

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
export async function poolsMustBeAble(
  tx: Transaction,
  poolIds: unknown[],
  ability: keyof PoolCan,
  resource: { kind: string; id: string },
): Promise<void> {
  const unable = poolTypesWithout(ability);
  if (unable.length === 0) return;
  const among = poolIds.flatMap((id) => (typeof id === 'string' ? [id] : []));
  const [pool] = await ofType(tx, { poolIds: among, types: unable });
  if (pool)
    throw new Problem(
      'NOT_SUPPORTED',
      `the storage of ${resource.kind} ${resource.id} is of type ${pool.type}, which ${inability[ability]}`,
      { resource },
    );
}

/** The same for all pools that an instance has volumes in. */
export async function poolsOfInstanceMustBeAble(
  tx: Transaction,
  instanceId: string,
  ability: keyof PoolCan,
): Promise<void> {
  if (poolTypesWithout(ability).length === 0) return;
  const volumes = await poolsOfInstance(tx, { instanceId });
  await poolsMustBeAble(
    tx,
    volumes.map(({ poolId }) => poolId),
    ability,
    { kind: 'instance', id: instanceId },
  );
}

const poolById = statement((p: Values<{ poolId: string; types: PoolType[] }>) =>
  from
    .selectFrom('storagePool as p')
    .select(['p.id', 'p.storageClass'])
    .where('p.id', '=', p.poolId)
    .where((eb) => isAmong(eb.ref('p.type'), p.types)),
);

/**
 * The only pool that a volume from that snapshot can be made in; null where it may be any. `field` is what the caller named the class by.
 *
 * @throws Problem INVALID_ARGUMENT when that pool is of another class
 */
export async function onlyPoolOf(
  tx: Transaction,
  snapshot: Row | undefined,
  storageClass: unknown,
  field: string,
): Promise<string | null> {
  const types = poolTypesWithout('cloneAcross');
  if (!snapshot?.poolId || types.length === 0) return null;
  const [pool] = await poolById(tx, { poolId: String(snapshot.poolId), types });
  if (!pool) return null;
  if (pool.storageClass !== storageClass)
    throw invalid(
      field,
      `is of storage class ${String(storageClass)}; what is made from snapshot ${snapshot.id} lies beside it, in ${pool.storageClass}`,
    );
  return pool.id;
}
