-- AlterTable
ALTER TABLE "operation" ADD COLUMN     "parentOperationId" UUID;

-- AlterTable
ALTER TABLE "operationLock" ADD COLUMN     "within" UUID;

-- CreateIndex
CREATE INDEX "operation_parentOperationId_idx" ON "operation"("parentOperationId");

