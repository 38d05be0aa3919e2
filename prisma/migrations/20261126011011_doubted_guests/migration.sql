-- A host said something of a guest that the records do not know of: it is asked, as soon as no operation is at work on the instance.
ALTER TABLE "hostClaim" ADD COLUMN "doubtedAt" TIMESTAMPTZ(6), ADD COLUMN "askAfter" TIMESTAMPTZ(6);
CREATE INDEX "hostClaim_doubted" ON "hostClaim" ("hostId") WHERE "doubtedAt" IS NOT NULL;
