-- Every API server learns at once of whatever changes rights, whoever changed it: what it remembers is forgotten, what stays open is asked again.
CREATE FUNCTION belay_tell_rights() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('belay_rights', '');
  RETURN NULL;
END $$;

CREATE TRIGGER "roleBinding_tells_rights" AFTER INSERT OR UPDATE OR DELETE ON "roleBinding" FOR EACH ROW EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "role_tells_rights" AFTER UPDATE OR DELETE ON "role" FOR EACH STATEMENT EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "domain_tells_rights" AFTER INSERT OR UPDATE OR DELETE ON "domain" FOR EACH STATEMENT EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "account_tells_rights" AFTER INSERT OR UPDATE OR DELETE ON "account" FOR EACH STATEMENT EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "project_tells_rights" AFTER INSERT OR UPDATE OR DELETE ON "project" FOR EACH STATEMENT EXECUTE FUNCTION belay_tell_rights();
-- Their last use is written down all the time, and changes nothing.
CREATE TRIGGER "user_tells_rights" AFTER UPDATE ON "user" FOR EACH ROW
  WHEN ((OLD.state, OLD."deletedAt", OLD."accountId") IS DISTINCT FROM (NEW.state, NEW."deletedAt", NEW."accountId")) EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "apiKey_tells_rights" AFTER UPDATE ON "apiKey" FOR EACH ROW
  WHEN ((OLD.enabled, OLD."deletedAt", OLD."expiresAt", OLD.permissions, OLD."allowedCidrs") IS DISTINCT FROM
        (NEW.enabled, NEW."deletedAt", NEW."expiresAt", NEW.permissions, NEW."allowedCidrs")) EXECUTE FUNCTION belay_tell_rights();
CREATE TRIGGER "apiKey_gone_tells_rights" AFTER DELETE ON "apiKey" FOR EACH STATEMENT EXECUTE FUNCTION belay_tell_rights();
