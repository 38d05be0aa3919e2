-- Where a resource is, how large it is, and whatever else nobody may PATCH, is written by the operation that holds it, and nobody else. A
-- transaction says whose it is by the setting belay.operation. A try of a step that comes late, because its worker was suspended while
-- another did the step, finds that its operation has ended, and is refused. The triggers are made from the model (database/guards.ts); a
-- migration that changes such columns sets belay.operation to 'migration' before.
CREATE FUNCTION belay_refuse_stranger() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE speaker text := coalesce(current_setting('belay.operation', true), '');
BEGIN
  IF speaker = 'migration' OR speaker = OLD."currentOperationId"::text THEN RETURN NEW; END IF;
  RAISE EXCEPTION '% % is written by the operation that holds it alone', TG_TABLE_NAME, OLD.id USING ERRCODE = 'BL002';
END $$;

CREATE FUNCTION belay_refuse_strange_claim() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  claim "hostClaim" := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
  speaker text := coalesce(current_setting('belay.operation', true), '');
BEGIN
  -- Locked, so that the operation does not end between this look and the end of the transaction.
  PERFORM 1 FROM "instance" WHERE id = claim."instanceId" AND "currentOperationId"::text = speaker FOR NO KEY UPDATE;
  IF NOT FOUND AND speaker <> 'migration' THEN
    RAISE EXCEPTION 'instance % is given room, and leaves it, by the operation that holds it alone', claim."instanceId" USING ERRCODE = 'BL002';
  END IF;
  RETURN claim;
END $$;
CREATE TRIGGER "hostClaim_of_holder" BEFORE INSERT OR DELETE ON "hostClaim" FOR EACH ROW EXECUTE FUNCTION belay_refuse_strange_claim();
