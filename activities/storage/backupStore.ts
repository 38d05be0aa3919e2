import { forgetSecrets } from '../../database/secrets.ts';
import { Problem } from '../../runtime/problem.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { openStore } from './stores/index.ts';

interface BackupStoreRef {
  backupStoreId: string;
}

const probeKey = (operationId: string): string => `probes/${operationId}`;

export const backupStores = (world: World) => ({
  /** The endpoint answers and knows the bucket. By itself, so that a wrong address fails before there is anything to undo. */
  reach: step({
    system: 'rgw',
    async do({ backupStoreId }: BackupStoreRef) {
      await (await openStore(world.database, backupStoreId)).reach();
    },
  }),

  /** The bucket takes bytes and gives them back, unless it is only to be read. */
  probe: step({
    system: 'rgw',
    async do({ backupStoreId }: BackupStoreRef, { operationId }) {
      const store = await openStore(world.database, backupStoreId);
      if (!store.readOnly) await store.probe(probeKey(operationId));
    },
    undoText: 'delete probe',
    async undo({ backupStoreId }, { operationId }) {
      const store = await openStore(world.database, backupStoreId);
      if (store.readOnly) return;
      await store.discard(probeKey(operationId)).catch((error: unknown) => {
        // Keys that may not delete the probe were not allowed to write it.
        if (!(error instanceof Problem && error.code === 'PRECONDITION_FAILED')) throw error;
      });
    },
  }),

  /** Keys that are no longer needed are no longer kept; what lies in the bucket stays. */
  forget: step({
    system: 'record',
    async do({ backupStoreId }: BackupStoreRef, context) {
      await asHolder(world.database, context, (tx) => forgetSecrets(tx, { kind: 'backupStore', id: backupStoreId }));
    },
  }),
});
