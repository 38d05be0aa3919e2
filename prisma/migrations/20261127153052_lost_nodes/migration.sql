-- AlterTable
ALTER TABLE "controlNode" ADD COLUMN     "stateBefore" TEXT;

