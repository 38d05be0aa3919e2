/** Changes that come from the platform itself, and not from a request. */
import type { Database } from '../database/database.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { acceptChange } from './accept.ts';
import { type Caller, systemCaller } from './caller.ts';
import type { Change, Outcome } from './change.ts';

type What = Pick<Change, 'kind' | 'verb' | 'targetId' | 'body'>;
type More = Pick<Change, 'requestId'> & Partial<Change>;

/**
 * Why the platform begins something by itself, as `requestId` and the audit trail tell it. Tenants read it of what is done to their own resources,
 * so it is one of these words, and never holds an id.
 */
export type OwnReason =
  | 'audit'
  | 'capacity'
  | 'certificate'
  | 'credentials'
  | 'expired'
  | 'guest-stopped'
  | 'host-dead'
  | 'host-down'
  | 'host-failed'
  | 'parent'
  | 'recovery-window'
  | 'schedule'
  | 'unused';

/** A change in the name of a caller, but not as its request says it; where nothing else is said, it waits for its turn. */
export const changeAs = (caller: Caller, what: What, more: More): Change => ({
  sourceAddress: 'system',
  dryRun: false,
  idempotencyKey: null,
  onBusy: 'queue',
  ifMatch: null,
  ...what,
  ...more,
  caller,
});

export const acceptAs = (database: Database, caller: Caller, what: What, more: More): Promise<Outcome> =>
  acceptChange(database, changeAs(caller, what, more));

/**
 * Begins an operation that nobody asked for; answers null when it is refused. What refuses it, such as a protection or another
 * operation at work on the target, holds for the platform too. The dispatcher starts it, unless `leftToDispatcher` is false: then whoever asks does.
 */
export async function acceptOwn(
  database: Database,
  kindName: string,
  verb: string,
  targetId: string,
  requestId: OwnReason,
  { leftToDispatcher = true }: { leftToDispatcher?: boolean } = {},
): Promise<Outcome | null> {
  try {
    return await acceptAs(
      database,
      systemCaller(),
      { kind: kindOf(kindName), verb, targetId, body: {} },
      { requestId, onBusy: 'fail', leftToDispatcher },
    );
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return null;
  }
}
