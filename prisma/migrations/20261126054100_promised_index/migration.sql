-- What a pool has promised is summed from an index of the living alone; the one that follows from the reference is as the schema says.
DROP INDEX "volume_poolId_idx";
CREATE INDEX "volume_poolId_idx" ON "volume"("poolId");
CREATE INDEX "volume_promised" ON "volume" ("poolId") INCLUDE ("sizeGib") WHERE "deletedAt" IS NULL;
