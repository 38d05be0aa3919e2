-- The room of a storage pool is decided here, for every way that leads to more of it: a volume that is placed, grown or brought back, and the
-- copy of an image. Those who want room in one pool come one after another: each holds the pool's row until its transaction ends, and counts
-- what all before it were given.

-- GiB that a pool has promised: what living volumes were, but for one, and the copies of images that they live on. A copy that nothing lives on is
-- not counted: it goes when its room is needed.
CREATE FUNCTION belay_promised_gib(pool_id uuid, except_volume uuid DEFAULT NULL) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT sum(v."sizeGib") FROM "volume" v WHERE v."poolId" = pool_id AND v."deletedAt" IS NULL AND v.id IS DISTINCT FROM except_volume), 0)
       + coalesce((SELECT sum(c."sizeGib") FROM "imageCache" c WHERE c."poolId" = pool_id AND (c.state = 'caching' OR (c.state = 'ready' AND EXISTS (
           SELECT 1 FROM "volume" v WHERE v.source->>'imageId' = c."imageId"::text AND v."poolId" = c."poolId" AND v."deletedAt" IS NULL)))), 0)
$$;

-- The sum is taken while others wait.
DROP INDEX "volume_poolId_idx";
CREATE INDEX "volume_poolId_idx" ON "volume" ("poolId") INCLUDE ("sizeGib", "deletedAt");

CREATE FUNCTION belay_claim_room(pool_ids uuid[], for_volumes boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  pool record;
  promised bigint;
BEGIN
  -- What an undo takes back was its own a moment ago.
  IF cardinality(pool_ids) = 0 OR current_setting('belay.takes_back', true) = 'on' THEN RETURN; END IF;
  FOR pool IN SELECT id, enabled, "totalGib" * overprovision AS promisable FROM "storagePool" WHERE id = ANY(pool_ids) ORDER BY id FOR NO KEY UPDATE LOOP
    promised := belay_promised_gib(pool.id);
    IF promised > pool.promisable OR (for_volumes AND NOT pool.enabled) THEN
      RAISE EXCEPTION 'storage pool % has no room for this any more: it would promise % GiB of % GiB%', pool.id, promised, floor(pool.promisable),
        CASE WHEN pool.enabled THEN '' ELSE ', and is closed' END
        USING ERRCODE = '23514', CONSTRAINT = 'storagePool_room', TABLE = 'storagePool';
    END IF;
  END LOOP;
END $$;

CREATE FUNCTION belay_room_of_new_volumes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM belay_claim_room(ARRAY(SELECT DISTINCT f."poolId" FROM fresh f WHERE f."poolId" IS NOT NULL AND f."deletedAt" IS NULL), true);
  RETURN NULL;
END $$;
CREATE TRIGGER "volume_room_of_new" AFTER INSERT ON "volume" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION belay_room_of_new_volumes();

CREATE FUNCTION belay_room_of_volumes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM belay_claim_room(ARRAY(
    SELECT DISTINCT f."poolId" FROM fresh f JOIN before b ON b.id = f.id WHERE f."poolId" IS NOT NULL AND f."deletedAt" IS NULL
      AND (b."poolId" IS DISTINCT FROM f."poolId" OR b."deletedAt" IS NOT NULL OR coalesce(f."sizeGib", 0) > coalesce(b."sizeGib", 0))), true);
  RETURN NULL;
END $$;
CREATE TRIGGER "volume_room" AFTER UPDATE ON "volume" REFERENCING NEW TABLE AS fresh OLD TABLE AS before FOR EACH STATEMENT
  EXECUTE FUNCTION belay_room_of_volumes();

CREATE FUNCTION belay_room_of_copies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM belay_claim_room(ARRAY(SELECT DISTINCT f."poolId" FROM fresh f WHERE f.state = 'caching'), false);
  RETURN NULL;
END $$;
CREATE TRIGGER "imageCache_room" AFTER INSERT ON "imageCache" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION belay_room_of_copies();
