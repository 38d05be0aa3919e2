-- AlterTable
ALTER TABLE "operation" ADD COLUMN     "parentOperationId" UUID;

-- AlterTable
ALTER TABLE "operationLock" ADD COLUMN     "within" UUID;

-- CreateIndex
CREATE INDEX "operation_parentOperationId_idx" ON "operation"("parentOperationId");


-- What an operation holds, one below it takes over and hands back; nobody else pushes it out.
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
  RAISE EXCEPTION 'the state of % % is changed by the operation that holds it alone', TG_TABLE_NAME, NEW.id USING ERRCODE = 'BL001';
END $$;
