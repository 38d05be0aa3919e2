import { backupStores } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Registers a store once it has taken a small object and given it back. */
export const createBackupStore = workflow('backupStore.create', async (step, { backupStoreId }) => {
  await step(backupStores.reach, { backupStoreId });
  await step(backupStores.probe, { backupStoreId });
});
