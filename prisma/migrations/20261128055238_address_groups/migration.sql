-- AlterTable
ALTER TABLE "securityGroup" ADD COLUMN     "addressGroupIds" UUID[] DEFAULT ARRAY[]::UUID[];

-- CreateTable
CREATE TABLE "addressGroup" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "state" TEXT NOT NULL,
    "fault" JSONB,
    "currentOperationId" UUID,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "family" INTEGER NOT NULL,
    "entries" JSONB NOT NULL DEFAULT '[]',

    CONSTRAINT "addressGroup_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "addressGroup_createdAt_id_idx" ON "addressGroup"("createdAt", "id");

-- CreateIndex
CREATE INDEX "addressGroup_projectId_createdAt_id_idx" ON "addressGroup"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "addressGroup_updatedAt_id_idx" ON "addressGroup"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "addressGroup_projectId_updatedAt_id_idx" ON "addressGroup"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "addressGroup_name_id_idx" ON "addressGroup"("name", "id");

-- CreateIndex
CREATE INDEX "addressGroup_projectId_name_id_idx" ON "addressGroup"("projectId", "name", "id");

