import { saga } from '../saga.ts';
import { backupStores } from '../steps.ts';

export interface CreateBackupStore {
  backupStoreId: string;
}

/** Registers a store once it has taken a small object and given it back. */
export async function createBackupStore({ backupStoreId }: CreateBackupStore): Promise<void> {
  await saga(async (step) => {
    await step(backupStores.reach, { backupStoreId });
    await step(backupStores.probe, { backupStoreId });
  });
}
