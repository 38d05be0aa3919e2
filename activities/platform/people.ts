/** What an operation needs a person for. */
import { type Database, insertAll } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { lockParent, noteWait, noteWaitingParts } from '../../database/operations.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';

/** Says for what an operation waits, there and at the operation above it. A try that comes late says nothing any more. */
async function wait(database: Database, context: StepContext, waitsFor: string | null): Promise<void> {
  const { operationId: id } = context;
  await asHolder(database, context, async (tx) => {
    const [noted] = await noteWait(tx, { id, waitsFor });
    if (!noted) return;
    if (noted.parentOperationId !== null) {
      await lockParent(tx, { id: noted.parentOperationId });
      await noteWaitingParts(tx, { id: noted.parentOperationId });
    }
    if (waitsFor === null) return;
    await insertAll(tx, {
      event: [
        eventRow({
          type: 'operation.waiting',
          severity: 'warning',
          resourceKind: noted.targetKind ?? '',
          resourceId: noted.targetId ?? '',
          projectId: noted.projectId,
          operationId: id,
          payload: { waitsFor },
        }),
      ],
    });
  });
}

export const people = ({ database }: World) => ({
  /** It goes on when a person says that it is done: `step.wait` in the workflow. */
  wait: step({
    system: 'record',
    do: ({ waitsFor }: { waitsFor: string }, context) => wait(database, context, waitsFor),
    undoText: 'say that it waits no more',
    undo: (_, context) => wait(database, context, null),
  }),
});
