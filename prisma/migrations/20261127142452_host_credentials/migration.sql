-- AlterTable
ALTER TABLE "host" ADD COLUMN     "credentialsRotatedAt" TIMESTAMPTZ(6);

