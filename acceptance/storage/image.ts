import { run } from '../../database/database.ts';
import { instantAt } from '../../model/forms.ts';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

/** How long the bytes of an announced image may take to arrive. */
const uploadWindowMs = 24 * 3600 * 1000;

export const imageHooks: Hooks = {
  'image.create': {
    async accept({ tx, row, input, references }) {
      if (!input.backupStoreId) {
        const stores = await run<{ id: string }>(
          tx,
          `SELECT id FROM "backupStore" WHERE "zoneId" = $1 AND state = 'ready' AND enabled AND NOT "readOnly" AND "deletedAt" IS NULL ORDER BY "createdAt" LIMIT 2`,
          [input.zoneId],
        );
        if (stores.length !== 1)
          throw invalid(
            'backupStoreId',
            stores.length === 0
              ? 'is needed: the zone has no backup store that is ready'
              : 'is needed: the zone has several backup stores',
          );
        row.backupStoreId = stores[0]?.id;
      } else {
        const store = references.get(`backupStore/${String(input.backupStoreId)}`);
        if (store?.zoneId !== input.zoneId) throw invalid('backupStoreId', 'is in another zone');
        if (store?.enabled === false || store?.readOnly === true) throw invalid('backupStoreId', 'takes no new images');
      }
      row.uploadExpiresAt = instantAt(new Date(Date.now() + uploadWindowMs));
    },
  },
};
