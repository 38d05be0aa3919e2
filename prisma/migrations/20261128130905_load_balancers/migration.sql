-- AlterTable
ALTER TABLE "routerType" ALTER COLUMN "services" SET DEFAULT '["snat","floatingIp","portForward","loadBalancer"]';

-- CreateTable
CREATE TABLE "targetGroup" (
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
    "vpcId" UUID NOT NULL,
    "protocol" TEXT NOT NULL,
    "port" INTEGER,
    "algorithm" TEXT NOT NULL DEFAULT 'roundRobin',
    "healthCheck" JSONB,
    "targets" JSONB NOT NULL DEFAULT '[]',
    "networkInterfaceIds" UUID[] DEFAULT ARRAY[]::UUID[],

    CONSTRAINT "targetGroup_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "loadBalancer" (
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
    "vpcId" UUID NOT NULL,
    "scheme" TEXT NOT NULL,
    "floatingIpId" UUID,
    "subnetId" UUID,
    "address" INET,

    CONSTRAINT "loadBalancer_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "listener" (
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
    "loadBalancerId" UUID NOT NULL,
    "protocol" TEXT NOT NULL,
    "ports" JSONB NOT NULL,
    "targetGroupId" UUID NOT NULL,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "listener_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "targetGroup_createdAt_id_idx" ON "targetGroup"("createdAt", "id");

-- CreateIndex
CREATE INDEX "targetGroup_projectId_createdAt_id_idx" ON "targetGroup"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "targetGroup_updatedAt_id_idx" ON "targetGroup"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "targetGroup_projectId_updatedAt_id_idx" ON "targetGroup"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "targetGroup_name_id_idx" ON "targetGroup"("name", "id");

-- CreateIndex
CREATE INDEX "targetGroup_projectId_name_id_idx" ON "targetGroup"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "targetGroup_vpcId_idx" ON "targetGroup"("vpcId");

-- CreateIndex
CREATE INDEX "loadBalancer_createdAt_id_idx" ON "loadBalancer"("createdAt", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_projectId_createdAt_id_idx" ON "loadBalancer"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_updatedAt_id_idx" ON "loadBalancer"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_projectId_updatedAt_id_idx" ON "loadBalancer"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_name_id_idx" ON "loadBalancer"("name", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_projectId_name_id_idx" ON "loadBalancer"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_address_id_idx" ON "loadBalancer"("address", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_projectId_address_id_idx" ON "loadBalancer"("projectId", "address", "id");

-- CreateIndex
CREATE INDEX "loadBalancer_vpcId_idx" ON "loadBalancer"("vpcId");

-- CreateIndex
CREATE INDEX "loadBalancer_floatingIpId_idx" ON "loadBalancer"("floatingIpId");

-- CreateIndex
CREATE INDEX "loadBalancer_subnetId_idx" ON "loadBalancer"("subnetId");

-- CreateIndex
CREATE INDEX "listener_createdAt_id_idx" ON "listener"("createdAt", "id");

-- CreateIndex
CREATE INDEX "listener_projectId_createdAt_id_idx" ON "listener"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "listener_updatedAt_id_idx" ON "listener"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "listener_projectId_updatedAt_id_idx" ON "listener"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "listener_name_id_idx" ON "listener"("name", "id");

-- CreateIndex
CREATE INDEX "listener_projectId_name_id_idx" ON "listener"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "listener_loadBalancerId_idx" ON "listener"("loadBalancerId");

-- CreateIndex
CREATE INDEX "listener_targetGroupId_idx" ON "listener"("targetGroupId");


CREATE UNIQUE INDEX "loadBalancer_floatingIpId_living" ON "loadBalancer" ("floatingIpId") WHERE "deletedAt" IS NULL;
