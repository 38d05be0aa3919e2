/**
 * Whose a step's writes are. A step may come late: its worker was suspended, another has done it since, its operation has gone on or ended, and
 * what it held is somebody else's by now. So the database lets nobody but the operation that holds a resource say where that is and how large,
 * and of its steps only those whose turn it is.
 */
import { type Database, type Queryable, type Transaction, transaction } from '../database/database.ts';
import { goAround, takeTurn } from '../database/turns.ts';
import { refuse } from './failure.ts';
import type { StepContext } from './step.ts';

/** SQLSTATE of `belay_turn` for a try that comes too late. */
const tooLate = 'BL003';

/** Answers whether some try of the operation has gone around its host. @throws INVALID_STATE for a try that comes too late */
async function askTurn(on: Queryable, context: StepContext, registers: boolean): Promise<boolean> {
  const { operationId, step, undo, turn, attempt, since } = context;
  try {
    const [answer] = await takeTurn(on, {
      operationId,
      undo,
      turn: turn ?? null,
      attempt: attempt ?? null,
      since: since ?? null,
      registers,
    });
    return answer?.around === true;
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    if (code === tooLate) throw refuse('INVALID_STATE', `${message}: ${step} comes too late`);
    throw error;
  }
}

/** From here on the transaction is that of the operation, and what it knows to have ended is closed. @throws INVALID_STATE */
export const speakFor = (tx: Transaction, context: StepContext): Promise<boolean> => askTurn(tx, context, true);

/** From here on every older try of the step is refused. Answers whether some try of the operation has gone around its host. @throws INVALID_STATE */
export const overtake = (on: Queryable, context: StepContext): Promise<boolean> => askTurn(on, context, true);

/** Right before something goes out to a system that does not know whose turn it is. @throws INVALID_STATE */
export const refuseLate = (on: Queryable, context: StepContext): Promise<boolean> => askTurn(on, context, false);

/** Said before work is done through another host than the one that the step was given. */
export async function noteAround(on: Queryable, { operationId }: StepContext): Promise<void> {
  await goAround(on, { operationId });
}

/** One transaction in the name of the operation. */
export const asHolder = <T>(
  database: Database,
  context: StepContext,
  body: (tx: Transaction) => Promise<T>,
): Promise<T> =>
  transaction(database, async (tx) => {
    await speakFor(tx, context);
    return body(tx);
  });
