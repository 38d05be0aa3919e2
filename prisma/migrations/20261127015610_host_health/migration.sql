-- AlterTable
ALTER TABLE "cluster" ALTER COLUMN "ha" SET DEFAULT '{"enabled":true,"requireFence":true,"suspectSeconds":4}';

-- AlterTable
ALTER TABLE "host" ADD COLUMN     "health" TEXT NOT NULL DEFAULT 'well',
ADD COLUMN     "healthReason" TEXT,
ADD COLUMN     "healthSince" TIMESTAMPTZ(6);


UPDATE "cluster" SET "ha" = '{"suspectSeconds":4}'::jsonb || "ha";
