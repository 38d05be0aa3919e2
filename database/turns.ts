/** Whose turn it is among the tries of the steps of an operation: the database knows, because a try may come late. */
import { written } from './statement.ts';

export const takeTurn = written<
  { around: boolean },
  {
    operationId: string;
    undo: boolean;
    turn: number | null;
    attempt: number | null;
    since: number | null;
    registers: boolean;
  }
>('SELECT belay_turn($operationId::text::uuid, $undo, $turn, $attempt, $since, $registers) AS around');

/** Work of the operation is done through another host than the one that a step was given. */
export const goAround = written<never, { operationId: string }>(
  `INSERT INTO "stepFence" ("operationId", "wentAround") SELECT id, true FROM "operation" WHERE id = $operationId::text::uuid AND "endedAt" IS NULL
   ON CONFLICT ("operationId") DO UPDATE SET "wentAround" = true`,
);
