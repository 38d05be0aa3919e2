/** The driver of each type of backup store. */
import type { Database } from '../../../database/database.ts';
import { type BackupStoreType, backupStoreTypesThat } from '../../../model/storage/backupStoreTypes.ts';
import { Problem } from '../../../runtime/problem.ts';
import type { ObjectStore, StoreDriver, StoreRecord } from './driver.ts';
import { s3 } from './s3.ts';

export type { ObjectStore } from './driver.ts';

const drivers = { s3 } satisfies Record<BackupStoreType, StoreDriver>;

/** @throws Problem NOT_FOUND, or PRECONDITION_FAILED when the store's secret key is not known */
export async function openStore(database: Database, backupStoreId: string): Promise<ObjectStore> {
  const store = await database.prisma.backupStore.findUnique({ where: { id: backupStoreId } });
  if (!store) throw new Problem('NOT_FOUND', `backup store ${backupStoreId} is gone`);
  return drivers[store.driver as BackupStoreType](database, store as StoreRecord);
}

/** The stores that what Belay keeps for itself may be written to now, the oldest first. */
export async function openStores(database: Database): Promise<ObjectStore[]> {
  const stores = await database.prisma.backupStore.findMany({
    where: {
      driver: { in: backupStoreTypesThat('exports') },
      state: 'ready',
      enabled: true,
      readOnly: false,
      deletedAt: null,
    },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    select: { id: true },
  });
  return Promise.all(stores.map(({ id }) => openStore(database, id)));
}
