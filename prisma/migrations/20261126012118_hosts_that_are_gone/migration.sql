-- An operator's word that a host is dead and will not come back as it was.
ALTER TABLE "host" ADD COLUMN "deadAt" TIMESTAMPTZ(6);

-- From when on anything of the instance may be on the host. What was promised before this was noted may be there.
ALTER TABLE "hostClaim" ADD COLUMN "reachedAt" TIMESTAMPTZ(6);
UPDATE "hostClaim" SET "reachedAt" = "createdAt";
