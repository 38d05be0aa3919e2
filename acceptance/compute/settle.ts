import type { Database } from '../../database/database.ts';
import type { Kind } from '../../model/kind.ts';
import { kinds } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { acceptChange } from '../accept.ts';
import { systemCaller } from '../caller.ts';

/** Begins the operation that asks a host what a guest is doing. Answers false when something else is at work on the instance. */
export async function askToSettle(database: Database, instanceId: string, requestId: string): Promise<boolean> {
  try {
    await acceptChange(database, {
      kind: kinds.instance as unknown as Kind,
      verb: 'settle',
      targetId: instanceId,
      body: {},
      caller: systemCaller(),
      requestId,
      sourceAddress: 'system',
      dryRun: false,
      idempotencyKey: null,
      onBusy: 'fail',
      ifMatch: null,
      undispatched: true,
    });
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return false;
  }
}
