-- A guest runs on processors of the kind that its disk was made for.
ALTER TABLE "volume" ADD COLUMN "architecture" TEXT;
ALTER TABLE "snapshot" ADD COLUMN "architecture" TEXT;
ALTER TABLE "instance" ADD COLUMN "architecture" TEXT;
UPDATE "volume" v SET architecture = i.architecture FROM "image" i WHERE i.id::text = v.source->>'imageId';
DO $$
DECLARE further integer := 1;
BEGIN
  -- Snapshots of volumes, volumes of snapshots, and so on.
  WHILE further > 0 LOOP
    UPDATE "snapshot" s SET architecture = v.architecture FROM "volume" v
      WHERE v.id = s."volumeId" AND s.architecture IS NULL AND v.architecture IS NOT NULL;
    UPDATE "volume" v SET architecture = s.architecture FROM "snapshot" s
      WHERE s.id::text = v.source->>'snapshotId' AND v.architecture IS NULL AND s.architecture IS NOT NULL;
    GET DIAGNOSTICS further = ROW_COUNT;
  END LOOP;
END $$;
UPDATE "instance" i SET architecture = v.architecture FROM "volume" v WHERE v.id = i."rootVolumeId";

-- Every disk of an instance has a place of its own.
UPDATE "volume" v SET "deviceIndex" = n.slot FROM (
  SELECT w.id, row_number() OVER (PARTITION BY w."instanceId" ORDER BY w."updatedAt", w.id)
    + (SELECT coalesce(max(o."deviceIndex"), 0) FROM "volume" o WHERE o."instanceId" = w."instanceId" AND o."deletedAt" IS NULL) AS slot
  FROM "volume" w WHERE w."instanceId" IS NOT NULL AND w."deviceIndex" IS NULL AND w."deletedAt" IS NULL) n WHERE v.id = n.id;
CREATE UNIQUE INDEX "volume_slot" ON "volume" ("instanceId", "deviceIndex") WHERE "deletedAt" IS NULL;
ALTER TABLE "volume" ADD CONSTRAINT "volume_attached_has_slot" CHECK ("instanceId" IS NULL OR "deviceIndex" IS NOT NULL OR "deletedAt" IS NOT NULL);

-- A recovery window begins when its resource is destroyed, and with nothing else.
CREATE FUNCTION belay_destroyed_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state = 'destroyed' THEN
    NEW."destroyedAt" := coalesce(OLD."destroyedAt", now());
  ELSIF NEW.state NOT IN ('recovering', 'expunging', 'expunged') THEN
    NEW."destroyedAt" := NULL;
  END IF;
  RETURN NEW;
END $$;
UPDATE "instance" SET "destroyedAt" = "updatedAt" WHERE state IN ('destroyed', 'recovering', 'expunging') AND "deletedAt" IS NULL;
UPDATE "volume" SET "destroyedAt" = "updatedAt" WHERE state IN ('destroyed', 'recovering', 'expunging') AND "deletedAt" IS NULL;
CREATE TRIGGER "instance_destroyed_at" BEFORE UPDATE ON "instance" FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION belay_destroyed_at();
CREATE TRIGGER "volume_destroyed_at" BEFORE UPDATE ON "volume" FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION belay_destroyed_at();
