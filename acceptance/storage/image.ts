import type { Transaction } from '../../database/database.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { instantAt } from '../../model/forms.ts';
import {
  type BackupStoreType,
  backupStoreTypes,
  backupStoreTypesThat,
  storeInability,
} from '../../model/storage/backupStoreTypes.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks, Row } from '../change.ts';
import { keyOf, lockAll } from '../holds.ts';
import { invalid } from '../violation.ts';

/** How long the bytes of an announced image may take to arrive. */
const uploadWindowMs = 24 * 3600 * 1000;

const storesOf = statement((p: Values<{ zoneId: string }>) =>
  from
    .selectFrom('backupStore')
    .select('id')
    .where('zoneId', '=', p.zoneId)
    .where('driver', 'in', backupStoreTypesThat('images'))
    .where('state', '=', 'ready')
    .where('enabled', '=', true)
    .where('readOnly', '=', false)
    .where('deletedAt', 'is', null)
    .orderBy('createdAt')
    .limit(2),
);

/** The one store that an image of the zone can mean without naming it. Throws INVALID_ARGUMENT when there is not exactly one. */
async function onlyStoreOf(tx: Transaction, zoneId: unknown): Promise<{ id: string }> {
  const [only, another] = await storesOf(tx, { zoneId: String(zoneId) });
  if (only && !another) return only;
  throw invalid(
    'backupStoreId',
    only ? 'is needed: the zone has several backup stores' : 'is needed: the zone has no backup store that is ready',
  );
}

/** @throws Problem NOT_SUPPORTED */
function mustKeepImages({ id, driver }: Row): void {
  if (!backupStoreTypes[driver as BackupStoreType].can.images)
    throw new Problem('NOT_SUPPORTED', `backup store ${id} is of type ${driver}, which ${storeInability.images}`, {
      resource: { kind: 'backupStore', id },
    });
}

export const imageHooks: Hooks = {
  'image.create': {
    async accept({ tx, row, input, references }) {
      if (!input.backupStoreId) {
        const only = await onlyStoreOf(tx, input.zoneId);
        // As if the request had named it: it does not go meanwhile.
        await lockAll(tx, new Map([[keyOf({ kind: 'backupStore', id: only.id }), 'S']]));
        const still = await onlyStoreOf(tx, input.zoneId);
        if (still.id !== only.id) throw invalid('backupStoreId', 'is needed: the stores of the zone are being changed');
        row.backupStoreId = still.id;
      } else {
        const store = references.get(`backupStore/${String(input.backupStoreId)}`);
        if (store?.zoneId !== input.zoneId) throw invalid('backupStoreId', 'is in another zone');
        if (store?.enabled === false || store?.readOnly === true) throw invalid('backupStoreId', 'takes no new images');
        if (store) mustKeepImages(store);
      }
      row.uploadExpiresAt = instantAt(new Date(Date.now() + uploadWindowMs));
    },
  },
};
