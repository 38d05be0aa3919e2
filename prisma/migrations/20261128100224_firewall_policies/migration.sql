-- AlterTable
ALTER TABLE "network" ADD COLUMN     "firewallPolicyId" UUID;

-- CreateTable
CREATE TABLE "firewallPolicy" (
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
    "rules" JSONB NOT NULL DEFAULT '[]',
    "defaults" JSONB NOT NULL DEFAULT '{"in":"deny","out":"allow"}',
    "addressGroupIds" UUID[] DEFAULT ARRAY[]::UUID[],

    CONSTRAINT "firewallPolicy_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "firewallPolicy_createdAt_id_idx" ON "firewallPolicy"("createdAt", "id");

-- CreateIndex
CREATE INDEX "firewallPolicy_projectId_createdAt_id_idx" ON "firewallPolicy"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "firewallPolicy_updatedAt_id_idx" ON "firewallPolicy"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "firewallPolicy_projectId_updatedAt_id_idx" ON "firewallPolicy"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "firewallPolicy_name_id_idx" ON "firewallPolicy"("name", "id");

-- CreateIndex
CREATE INDEX "firewallPolicy_projectId_name_id_idx" ON "firewallPolicy"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "network_firewallPolicyId_idx" ON "network"("firewallPolicyId");

