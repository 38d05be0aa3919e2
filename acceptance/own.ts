/** Operations that the platform itself begins. */
import type { Database } from '../database/database.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { acceptChange } from './accept.ts';
import { systemCaller } from './caller.ts';

/**
 * Begins an operation that nobody asked for; answers false when it is refused. What refuses it, such as a protection or another
 * operation at work on the target, holds for the platform too.
 */
export async function acceptOwn(
  database: Database,
  kindName: string,
  verb: string,
  targetId: string,
  requestId: string,
): Promise<boolean> {
  try {
    await acceptChange(database, {
      kind: kindOf(kindName),
      verb,
      targetId,
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
