-- Who is outside the reach of who grants is asked first; what was granted so far holds.
ALTER TABLE "roleBinding" ADD COLUMN "state" TEXT NOT NULL DEFAULT 'active';
ALTER TABLE "roleBinding" ALTER COLUMN "state" DROP DEFAULT;
