-- AlterTable
ALTER TABLE "portForward" ALTER COLUMN "networkInterfaceId" DROP NOT NULL;

