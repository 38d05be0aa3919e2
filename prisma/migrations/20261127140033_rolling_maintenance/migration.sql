-- AlterTable
ALTER TABLE "operation" ADD COLUMN     "waitsFor" TEXT;

