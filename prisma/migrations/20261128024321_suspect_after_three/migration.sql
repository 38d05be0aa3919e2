-- AlterTable
ALTER TABLE "cluster" ALTER COLUMN "ha" SET DEFAULT '{"enabled":true,"requireFence":true,"suspectSeconds":3}';
