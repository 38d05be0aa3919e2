/** Uploads whose server died: what they left in the store is thrown away, and the image waits for another one. */
import type { Database } from '../../database/database.ts';
import { abandonedUploads, endUpload, postponeUpload } from '../../database/uploads.ts';
import type { Log } from '../../runtime/log.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import { discardUpload } from '../storage/objects.ts';

export async function endAbandonedUploads(database: Database, log: Log): Promise<void> {
  for (const upload of await abandonedUploads(database))
    try {
      await discardUpload(database, upload).catch((error: unknown) => {
        // There is no image, or no store, that anything could be left of.
        if (!(error instanceof Problem && error.code === 'NOT_FOUND')) throw error;
      });
      await endUpload(database, upload);
      metrics.uploadsAbandoned.inc();
    } catch (error) {
      await postponeUpload(database, upload);
      log.warn(
        { imageId: upload.imageId, error: error instanceof Error ? error.message : String(error) },
        'what an upload left could not be thrown away; trying again',
      );
    }
}
