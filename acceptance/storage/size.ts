/** How large volumes may be: one rule for every action that makes, grows or shrinks one. */
import type { Transaction } from '../../database/database.ts';
import { roomIn } from '../../database/placement.ts';
import { sizeToBeOf } from '../../database/quota.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Row } from '../change.ts';
import { enforce } from '../quota.ts';
import { invalid } from '../violation.ts';

/** Refuses a size that the volume's type does not allow. `field` is what the caller set it by. */
export function typeAllows(type: Row | undefined, sizeGib: number, field: string): void {
  const least = Number(type?.minSizeGib ?? 1);
  const most = Number(type?.maxSizeGib ?? 65_536);
  if (sizeGib < least || sizeGib > most)
    throw invalid(field, `makes a volume of ${sizeGib} GiB; its volume type allows ${least} to ${most}`);
}

/** Refuses new space of a type that is not offered any more; what there is of it stays in use. */
export function typeIsOffered(type: Row | undefined, field: string): void {
  if (type?.enabled === false) throw invalid(field, 'asks for space of a volume type that is not offered any more');
}

const typeById = statement((p: Values<{ id: string }>) =>
  from.selectFrom('volumeType').selectAll().where('id', '=', p.id),
);

async function refuseFullPool(tx: Transaction, volume: Row, sizeGib: number): Promise<void> {
  const [pool] = await roomIn(tx, {
    poolId: (volume.poolId as string | null | undefined) ?? null,
    exceptVolumeId: volume.id,
  });
  if (pool && pool.free < sizeGib)
    throw new Problem('NO_CAPACITY', `the pool of volume ${volume.id} has no room for ${sizeGib} GiB`);
}

/**
 * Refuses another size of a volume that is there, when its type, a quota or its pool does not allow it. The growth is not in the
 * records yet, so it is asked of the limits as if it were; what earlier operations were promised is.
 */
export async function acceptSize(accepting: Accepting, sizeGib: number, field: string): Promise<void> {
  const { tx, row: volume } = accepting;
  const [type] = await typeById(tx, { id: String(volume.volumeTypeId) });
  typeAllows(type, sizeGib, field);
  if (sizeGib <= Number(volume.sizeGib)) return;
  typeIsOffered(type, field);
  const [promised] = await sizeToBeOf(tx, { volumeId: volume.id });
  const growth = Math.max(0, sizeGib - Number(promised?.sizeGib));
  await enforce(accepting, { projectId: String(volume.projectId) }, { volumeGib: growth }, { recorded: false });
  await refuseFullPool(tx, volume, sizeGib);
}
