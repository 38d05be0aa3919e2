-- AlterTable
ALTER TABLE "network" ADD COLUMN     "vpcId" UUID;

-- AlterTable
ALTER TABLE "subnet" ADD COLUMN     "routeTableId" UUID,
ADD COLUMN     "vpcId" UUID;

-- CreateTable
CREATE TABLE "routerType" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "redundant" BOOLEAN NOT NULL DEFAULT true,
    "services" JSONB NOT NULL DEFAULT '["snat","floatingIp","portForward"]',
    "visibility" TEXT NOT NULL DEFAULT 'public',
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "routerType_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "vpc" (
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
    "zoneId" UUID NOT NULL,
    "cidrs" JSONB NOT NULL,
    "routerTypeId" UUID,
    "uplinks" JSONB NOT NULL DEFAULT '[]',
    "uplinkNetworkIds" UUID[] DEFAULT ARRAY[]::UUID[],
    "uplinkSubnetIds" UUID[] DEFAULT ARRAY[]::UUID[],
    "publicAddress" INET,
    "gatewayHostIds" UUID[] DEFAULT ARRAY[]::UUID[],

    CONSTRAINT "vpc_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "routeTable" (
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
    "isMain" BOOLEAN NOT NULL DEFAULT false,
    "routes" JSONB NOT NULL DEFAULT '[]',

    CONSTRAINT "routeTable_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "routerType_createdAt_id_idx" ON "routerType"("createdAt", "id");

-- CreateIndex
CREATE INDEX "routerType_updatedAt_id_idx" ON "routerType"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "routerType_name_id_idx" ON "routerType"("name", "id");

-- CreateIndex
CREATE INDEX "vpc_createdAt_id_idx" ON "vpc"("createdAt", "id");

-- CreateIndex
CREATE INDEX "vpc_projectId_createdAt_id_idx" ON "vpc"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "vpc_updatedAt_id_idx" ON "vpc"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "vpc_projectId_updatedAt_id_idx" ON "vpc"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "vpc_name_id_idx" ON "vpc"("name", "id");

-- CreateIndex
CREATE INDEX "vpc_projectId_name_id_idx" ON "vpc"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "vpc_zoneId_idx" ON "vpc"("zoneId");

-- CreateIndex
CREATE INDEX "vpc_routerTypeId_idx" ON "vpc"("routerTypeId");

-- CreateIndex
CREATE INDEX "routeTable_createdAt_id_idx" ON "routeTable"("createdAt", "id");

-- CreateIndex
CREATE INDEX "routeTable_projectId_createdAt_id_idx" ON "routeTable"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "routeTable_updatedAt_id_idx" ON "routeTable"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "routeTable_projectId_updatedAt_id_idx" ON "routeTable"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "routeTable_name_id_idx" ON "routeTable"("name", "id");

-- CreateIndex
CREATE INDEX "routeTable_projectId_name_id_idx" ON "routeTable"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "routeTable_vpcId_idx" ON "routeTable"("vpcId");

-- CreateIndex
CREATE INDEX "network_vpcId_idx" ON "network"("vpcId");

-- CreateIndex
CREATE INDEX "subnet_vpcId_idx" ON "subnet"("vpcId");

-- CreateIndex
CREATE INDEX "subnet_routeTableId_idx" ON "subnet"("routeTableId");


CREATE UNIQUE INDEX "routerType_name_living" ON "routerType" ("name") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "routeTable_vpcId_living" ON "routeTable" ("vpcId") WHERE "deletedAt" IS NULL AND "isMain";

ALTER TABLE "subnet" ADD CONSTRAINT "subnet_vpcId_cidr_living" EXCLUDE USING gist ("vpcId" WITH =, ("cidr"::inet) inet_ops WITH &&) WHERE ("deletedAt" IS NULL);
