-- AlterTable
ALTER TABLE "host" ADD COLUMN     "maintenanceReason" TEXT;

