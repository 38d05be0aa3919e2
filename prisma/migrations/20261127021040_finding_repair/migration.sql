-- AlterTable
ALTER TABLE "finding" ADD COLUMN     "currentOperationId" UUID,
ADD COLUMN     "fault" JSONB;

