import { saga } from '../saga.ts';
import { backupStores } from '../steps.ts';

export interface DeleteBackupStore {
  backupStoreId: string;
}

/** Forgets a store that keeps no image. There is no way back once its keys are forgotten. */
export async function deleteBackupStore({ backupStoreId }: DeleteBackupStore): Promise<void> {
  await saga(async (step) => {
    step.commit();
    await step(backupStores.forget, { backupStoreId });
  });
}
