-- A subnet may have several ranges of automatic addresses; each has its own place in the free list.
ALTER TABLE "subnetCursor" ADD COLUMN "place" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "subnetCursor" DROP CONSTRAINT "subnetCursor_pkey";
ALTER TABLE "subnetCursor" ADD CONSTRAINT "subnetCursor_pkey" PRIMARY KEY ("subnetId", "place");

-- An address outside all ranges is not given out again; for that the beginning of each must be known.
ALTER TABLE "subnetCursor" ADD COLUMN "first" INET;
UPDATE "subnetCursor" c SET "first" = coalesce((s."allocationRanges"->0->>'from')::inet, host(network(s.cidr::inet))::inet + 1) FROM "subnet" s WHERE s.id = c."subnetId";
UPDATE "subnetCursor" SET "first" = next WHERE "first" IS NULL;
ALTER TABLE "subnetCursor" ALTER COLUMN "first" SET NOT NULL;
