-- Of an operation at work: what its workflow has left behind. The workflow numbers each asking for a step (its turn) and says with the next ones
-- below which turn all have ended. A worker that was suspended, or hangs, finds here that its try has been overtaken, however late it comes.
CREATE TABLE "stepFence" (
    "operationId" UUID NOT NULL,
    "closedBelow" INTEGER NOT NULL DEFAULT 0,
    "tries" JSONB NOT NULL DEFAULT '{}',
    "wentAround" BOOLEAN NOT NULL DEFAULT false,

    CONSTRAINT "stepFence_pkey" PRIMARY KEY ("operationId")
);

-- Whose turn it is. The one place where a try of a step is let in or refused (BL003): all that a step writes, and all that it sends out, asks here.
-- From here on the transaction speaks for the operation. With `registers` the try also tells what it knows to be over; the row stays locked until
-- the transaction ends, so that of a late try and a later one the database sees one after the other.
--
-- `since`: every turn below has ended, and the workflow's history says so.
CREATE FUNCTION belay_turn(of uuid, undoing boolean, turn integer, attempt integer, since integer, registers boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  standing text;
  fence "stepFence";
BEGIN
  PERFORM set_config('belay.operation', of::text, true);
  IF registers AND since IS NOT NULL THEN
    INSERT INTO "stepFence" AS f ("operationId", "closedBelow", tries)
    VALUES (of, since, CASE WHEN attempt IS NULL THEN '{}' ELSE jsonb_build_object(turn, attempt) END)
    ON CONFLICT ("operationId") DO UPDATE SET
      "closedBelow" = greatest(f."closedBelow", excluded."closedBelow"),
      tries = CASE WHEN attempt IS NULL OR coalesce((f.tries->>turn::text)::integer, 0) >= attempt THEN f.tries ELSE f.tries || excluded.tries END;
  END IF;
  SELECT CASE WHEN o."endedAt" IS NOT NULL THEN o.state WHEN o.state = 'rollingBack' AND NOT undoing THEN 'being undone' END INTO standing
  FROM "operation" o WHERE o.id = of;
  IF NOT FOUND THEN standing := 'gone'; END IF;
  SELECT * INTO fence FROM "stepFence" f WHERE f."operationId" = of;
  IF standing IS NULL AND since IS NOT NULL AND (
    turn < fence."closedBelow" OR attempt < (fence.tries->>turn::text)::integer
  ) THEN standing := 'past this try'; END IF;
  IF standing IS NOT NULL THEN
    RAISE EXCEPTION 'operation % is %', of, standing USING ERRCODE = 'BL003';
  END IF;
  RETURN coalesce(fence."wentAround", false);
END $$;
