-- AlterTable
ALTER TABLE "host" ADD COLUMN     "bmc" JSONB,
ADD COLUMN     "powerObservedAt" TIMESTAMPTZ(6),
ADD COLUMN     "powerState" TEXT NOT NULL DEFAULT 'unknown';

