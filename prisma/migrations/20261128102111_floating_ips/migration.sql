-- AlterTable
ALTER TABLE "subnet" ADD COLUMN     "quarantineSeconds" INTEGER NOT NULL DEFAULT 0;

-- AlterTable
ALTER TABLE "subnetAddress" ADD COLUMN     "formerProjectId" UUID,
ADD COLUMN     "quarantinedUntil" TIMESTAMPTZ(6);

-- CreateTable
CREATE TABLE "floatingIp" (
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
    "networkId" UUID NOT NULL,
    "subnetId" UUID,
    "zoneId" UUID,
    "address" INET,
    "networkInterfaceId" UUID,
    "fixedAddress" INET,
    "vpcId" UUID,

    CONSTRAINT "floatingIp_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "portForward" (
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
    "floatingIpId" UUID NOT NULL,
    "protocol" TEXT NOT NULL,
    "publicPorts" JSONB NOT NULL,
    "targetPorts" JSONB,
    "networkInterfaceId" UUID NOT NULL,
    "address" INET,
    "vpcId" UUID,
    "allowedCidrs" JSONB NOT NULL DEFAULT '[]',
    "addressGroupId" UUID,

    CONSTRAINT "portForward_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "floatingIp_createdAt_id_idx" ON "floatingIp"("createdAt", "id");

-- CreateIndex
CREATE INDEX "floatingIp_projectId_createdAt_id_idx" ON "floatingIp"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "floatingIp_updatedAt_id_idx" ON "floatingIp"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "floatingIp_projectId_updatedAt_id_idx" ON "floatingIp"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "floatingIp_name_id_idx" ON "floatingIp"("name", "id");

-- CreateIndex
CREATE INDEX "floatingIp_projectId_name_id_idx" ON "floatingIp"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "floatingIp_address_id_idx" ON "floatingIp"("address", "id");

-- CreateIndex
CREATE INDEX "floatingIp_projectId_address_id_idx" ON "floatingIp"("projectId", "address", "id");

-- CreateIndex
CREATE INDEX "floatingIp_networkId_idx" ON "floatingIp"("networkId");

-- CreateIndex
CREATE INDEX "floatingIp_subnetId_idx" ON "floatingIp"("subnetId");

-- CreateIndex
CREATE INDEX "floatingIp_zoneId_idx" ON "floatingIp"("zoneId");

-- CreateIndex
CREATE INDEX "floatingIp_networkInterfaceId_idx" ON "floatingIp"("networkInterfaceId");

-- CreateIndex
CREATE INDEX "floatingIp_vpcId_idx" ON "floatingIp"("vpcId");

-- CreateIndex
CREATE INDEX "portForward_createdAt_id_idx" ON "portForward"("createdAt", "id");

-- CreateIndex
CREATE INDEX "portForward_projectId_createdAt_id_idx" ON "portForward"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "portForward_updatedAt_id_idx" ON "portForward"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "portForward_projectId_updatedAt_id_idx" ON "portForward"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "portForward_name_id_idx" ON "portForward"("name", "id");

-- CreateIndex
CREATE INDEX "portForward_projectId_name_id_idx" ON "portForward"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "portForward_floatingIpId_idx" ON "portForward"("floatingIpId");

-- CreateIndex
CREATE INDEX "portForward_networkInterfaceId_idx" ON "portForward"("networkInterfaceId");

-- CreateIndex
CREATE INDEX "portForward_vpcId_idx" ON "portForward"("vpcId");

-- CreateIndex
CREATE INDEX "portForward_addressGroupId_idx" ON "portForward"("addressGroupId");


CREATE UNIQUE INDEX "floatingIp_subnetId_address_living" ON "floatingIp" ("subnetId", "address") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "floatingIp_networkInterfaceId_living" ON "floatingIp" ("networkInterfaceId") WHERE "deletedAt" IS NULL;
