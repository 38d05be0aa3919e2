-- Not when a workflow was asked for, but when it is asked for again: what Temporal has taken is left alone for longer.
ALTER TABLE "operation" RENAME COLUMN "dispatchedAt" TO "dispatchAt";
