import type { Database } from '../../database/database.ts';
import { acceptOwn } from '../own.ts';

/** Begins the operation that asks a host what a guest is doing. Answers false when something else is at work on the instance. */
export const askToSettle = (database: Database, instanceId: string, requestId: string): Promise<boolean> =>
  acceptOwn(database, 'instance', 'settle', instanceId, requestId);
