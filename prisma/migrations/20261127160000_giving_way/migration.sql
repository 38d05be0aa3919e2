-- A failover works inside the hold of an operation that gives way, though it is no part of that: it takes the host from that one, and hands it back.
CREATE OR REPLACE FUNCTION belay_refuse_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    WITH RECURSIVE above AS (
      SELECT id AS below, "parentOperationId" AS above FROM "operation" WHERE id IN (OLD."currentOperationId", NEW."currentOperationId")
      UNION SELECT a.below, o."parentOperationId" FROM above a JOIN "operation" o ON o.id = a.above)
    SELECT 1 FROM above a WHERE (a.below = NEW."currentOperationId" AND a.above = OLD."currentOperationId")
      OR (a.below = OLD."currentOperationId" AND a.above = NEW."currentOperationId")) THEN
    RETURN NEW;
  END IF;
  -- When it hands it back its own lock is gone already; while it has that, nobody takes the host from it.
  IF EXISTS (
    SELECT 1 FROM "operationLock" l JOIN "operation" before ON before.id = OLD."currentOperationId"
    WHERE l."resourceKind" = TG_TABLE_NAME AND l."resourceId" = NEW.id AND l."operationId" = NEW."currentOperationId" AND l.entered AND l.mode <> 'S'
      AND (l.within = before.id OR before.type = 'host.failover' AND NOT EXISTS (
        SELECT 1 FROM "operationLock" f WHERE f."operationId" = before.id AND f."resourceKind" = TG_TABLE_NAME AND f."resourceId" = NEW.id))) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the state of % % is changed by the operation that holds it alone', TG_TABLE_NAME, NEW.id USING ERRCODE = 'BL001';
END $$;
