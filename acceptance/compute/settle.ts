import type { Database } from '../../database/database.ts';
import type { Outcome } from '../change.ts';
import { acceptOwn, type OwnReason } from '../own.ts';

/** Begins the operation that asks a host what a guest is doing. Answers null when something else is at work on the instance. */
export const askToSettle = (database: Database, instanceId: string, requestId: OwnReason): Promise<Outcome | null> =>
  acceptOwn(database, 'instance', 'settle', instanceId, requestId);
