-- The copy of an image in a pool takes room there.
ALTER TABLE "imageCache" ADD COLUMN "sizeGib" INTEGER NOT NULL DEFAULT 0;
UPDATE "imageCache" c SET "sizeGib" = coalesce(i."minSizeGib", 0) FROM "image" i WHERE i.id = c."imageId";

-- What lives on a copy of an image.
CREATE INDEX "volume_from_image" ON "volume" ((source->>'imageId'), "poolId") WHERE "deletedAt" IS NULL AND source->>'imageId' IS NOT NULL;
