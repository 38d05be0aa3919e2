-- A grant is on a living resource of the kind that it names. Locked, so that nothing is granted on what is just being deleted.
CREATE FUNCTION belay_grant_has_target() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE there boolean;
BEGIN
  IF NEW."targetKind" = 'platform' THEN RETURN NEW; END IF;
  EXECUTE format('SELECT true FROM %I WHERE id = $1 AND "deletedAt" IS NULL FOR SHARE', NEW."targetKind") INTO there USING NEW."targetId";
  IF there IS NULL THEN
    RAISE EXCEPTION 'there is no % %', NEW."targetKind", NEW."targetId" USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER "roleBinding_has_target" BEFORE INSERT ON "roleBinding" FOR EACH ROW EXECUTE FUNCTION belay_grant_has_target();

-- Grants on something, and to somebody, go with it, whoever deletes it.
CREATE FUNCTION belay_grants_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE "roleBinding" SET "deletedAt" = now(), "updatedAt" = now(), revision = revision + 1
  WHERE "deletedAt" IS NULL
    AND (("targetId" = NEW.id AND "targetKind" = TG_TABLE_NAME) OR ("subjectId" = NEW.id AND "subjectKind" = TG_TABLE_NAME));
  IF FOUND THEN PERFORM pg_notify('belay_rights', ''); END IF;
  RETURN NULL;
END $$;

DO $$
DECLARE named text;
BEGIN
  FOR named IN SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema() AND column_name = 'deletedAt' LOOP
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON %I FOR EACH ROW WHEN (OLD."deletedAt" IS NULL AND NEW."deletedAt" IS NOT NULL) EXECUTE FUNCTION belay_grants_go()',
                   named || '_grants_go', named);
    EXECUTE format('UPDATE "roleBinding" b SET "deletedAt" = now() WHERE b."deletedAt" IS NULL AND
                      ((b."targetKind" = %L AND NOT EXISTS (SELECT 1 FROM %I t WHERE t.id = b."targetId" AND t."deletedAt" IS NULL))
                       OR (b."subjectKind" = %L AND EXISTS (SELECT 1 FROM %I s WHERE s.id = b."subjectId" AND s."deletedAt" IS NOT NULL)))',
                   named, named, named, named);
  END LOOP;
END $$;
