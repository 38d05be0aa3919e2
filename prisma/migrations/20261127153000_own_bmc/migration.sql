-- AlterTable
ALTER TABLE "host" ADD COLUMN     "bmcDisprovedAt" TIMESTAMPTZ(6);

-- What a BMC says of a machine is believed, so no two hosts have the same. One system of a BMC is the same as all that it manages. Those who come at
-- once come one after the other.
CREATE FUNCTION belay_own_bmc() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  other uuid;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('bmc/' || lower(NEW.bmc->>'address'), 0));
  SELECT h.id INTO other FROM "host" h
    WHERE h.id <> NEW.id AND h."deletedAt" IS NULL AND lower(h.bmc->>'address') = lower(NEW.bmc->>'address')
      AND h.bmc->>'protocol' = NEW.bmc->>'protocol'
      AND coalesce(h.bmc->>'port', CASE h.bmc->>'protocol' WHEN 'ipmi' THEN '623' ELSE '443' END)
        = coalesce(NEW.bmc->>'port', CASE NEW.bmc->>'protocol' WHEN 'ipmi' THEN '623' ELSE '443' END)
      AND (h.bmc->>'protocol' = 'ipmi' OR h.bmc->>'system' IS NULL OR NEW.bmc->>'system' IS NULL OR h.bmc->>'system' = NEW.bmc->>'system')
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'host % has this BMC', other USING ERRCODE = '23505', CONSTRAINT = 'host_bmc', TABLE = 'host';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER "host_own_bmc" AFTER INSERT OR UPDATE OF bmc, "deletedAt" ON "host" FOR EACH ROW
  WHEN (NEW.bmc IS NOT NULL AND NEW."deletedAt" IS NULL) EXECUTE FUNCTION belay_own_bmc();
