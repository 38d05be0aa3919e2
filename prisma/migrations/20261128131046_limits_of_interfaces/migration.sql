-- AlterTable
ALTER TABLE "networkInterface" ADD COLUMN     "qos" JSONB;

