import { backupStores } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Forgets a store that keeps no image. There is no way back once its keys are forgotten. */
export const deleteBackupStore = workflow('backupStore.delete', async (step, { backupStoreId }) => {
  step.commit();
  await step(backupStores.forget, { backupStoreId });
});
