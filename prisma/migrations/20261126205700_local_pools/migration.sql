-- AlterTable
ALTER TABLE "storagePool" ADD COLUMN     "hostId" UUID;

-- CreateIndex
CREATE INDEX "storagePool_hostId_idx" ON "storagePool"("hostId");

-- What is on the disks of one host is of use there alone. So an instance runs on that host or on none, and has no volume on the disks of another;
-- whoever brings the two together, by a volume or by a host, is refused here. Of several at once, each waits for the instance's row.
CREATE FUNCTION belay_refuse_apart(instance_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  apart record;
BEGIN
  PERFORM 1 FROM "instance" WHERE id = instance_id FOR NO KEY UPDATE;
  SELECT v.id INTO apart FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId"
  WHERE v."instanceId" = instance_id AND v."deletedAt" IS NULL AND p."hostId" IS NOT NULL AND (
    EXISTS (SELECT 1 FROM "instance" i WHERE i.id = instance_id AND i."hostId" <> p."hostId")
    OR EXISTS (SELECT 1 FROM "volume" o JOIN "storagePool" q ON q.id = o."poolId"
               WHERE o."instanceId" = instance_id AND o."deletedAt" IS NULL AND q."hostId" <> p."hostId"))
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'volume % is on the disks of one host, and instance % is on another host, or has a volume there', apart.id, instance_id
      USING ERRCODE = '23514', CONSTRAINT = 'volume_home', TABLE = 'volume';
  END IF;
END $$;

CREATE FUNCTION belay_home_of_volume() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM "storagePool" WHERE id = NEW."poolId" AND "hostId" IS NOT NULL) THEN PERFORM belay_refuse_apart(NEW."instanceId"); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER "volume_home" AFTER UPDATE ON "volume" FOR EACH ROW
  WHEN (NEW."instanceId" IS NOT NULL AND NEW."poolId" IS NOT NULL
        AND (OLD."instanceId" IS DISTINCT FROM NEW."instanceId" OR OLD."poolId" IS DISTINCT FROM NEW."poolId"))
  EXECUTE FUNCTION belay_home_of_volume();

CREATE FUNCTION belay_home_of_instance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM belay_refuse_apart(NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER "instance_home" AFTER UPDATE ON "instance" FOR EACH ROW
  WHEN (NEW."hostId" IS NOT NULL AND NEW."hostId" IS DISTINCT FROM OLD."hostId")
  EXECUTE FUNCTION belay_home_of_instance();
