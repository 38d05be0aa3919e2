/** What an operation has sent to a system that can not be asked whether it came. Kept as long as idempotency keys are. */
import { written } from './statement.ts';

interface Sent {
  operationId: string;
  what: string;
}

/** Written before it is sent. Answers a row when that is new. */
export const noteSent = written<unknown, Sent>(
  `INSERT INTO "idempotencyKey" ("callerId", key, "requestHash", status, body) VALUES ($operationId, 'sent/' || $what::text, '', 0, '')
   ON CONFLICT DO NOTHING RETURNING 1`,
);
export const wasSent = written<unknown, Sent>(
  `SELECT 1 FROM "idempotencyKey" WHERE "callerId" = $operationId AND key = 'sent/' || $what::text`,
);
/** It was refused, so it has not come. */
export const notSent = written<never, Sent>(
  `DELETE FROM "idempotencyKey" WHERE "callerId" = $operationId AND key = 'sent/' || $what::text`,
);
/** It is known to have come. */
export const noteTaken = written<never, Sent>(
  `UPDATE "idempotencyKey" SET status = 1 WHERE "callerId" = $operationId AND key = 'sent/' || $what::text`,
);
/** Answers a row when a part of the operation has sent it and it is known to have come; once, because what follows from that is done once. */
export const takenOfParts = written<unknown, Sent>(
  `UPDATE "idempotencyKey" k SET status = 2 FROM "operation" part
   WHERE part."parentOperationId" = $operationId AND k."callerId" = part.id AND k.key = 'sent/' || $what::text AND k.status = 1 RETURNING 1`,
);
