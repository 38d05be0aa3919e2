-- AlterTable
ALTER TABLE "network" ADD COLUMN     "external" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "physicalNetworkId" UUID,
ADD COLUMN     "segmentId" INTEGER,
ADD COLUMN     "visibility" TEXT NOT NULL DEFAULT 'private';

-- AlterTable
ALTER TABLE "subnet" ADD COLUMN     "external" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "physicalNetworkId" UUID;

-- CreateTable
CREATE TABLE "physicalNetwork" (
    "id" UUID NOT NULL,
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
    "clusterIds" UUID[] DEFAULT ARRAY[]::UUID[],
    "encapsulation" TEXT NOT NULL,
    "bridge" TEXT,
    "segmentRanges" JSONB NOT NULL DEFAULT '[]',
    "mtu" INTEGER NOT NULL DEFAULT 1500,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "physicalNetwork_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "physicalNetwork_createdAt_id_idx" ON "physicalNetwork"("createdAt", "id");

-- CreateIndex
CREATE INDEX "physicalNetwork_updatedAt_id_idx" ON "physicalNetwork"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "physicalNetwork_name_id_idx" ON "physicalNetwork"("name", "id");

-- CreateIndex
CREATE INDEX "physicalNetwork_zoneId_idx" ON "physicalNetwork"("zoneId");

-- CreateIndex
CREATE INDEX "network_physicalNetworkId_idx" ON "network"("physicalNetworkId");

-- CreateIndex
CREATE INDEX "subnet_physicalNetworkId_idx" ON "subnet"("physicalNetworkId");


CREATE UNIQUE INDEX "physicalNetwork_zoneId_name_living" ON "physicalNetwork" ("zoneId", "name") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "physicalNetwork_zoneId_bridge_living" ON "physicalNetwork" ("zoneId", "bridge") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "network_physicalNetworkId_segmentId_living" ON "network" ("physicalNetworkId", "segmentId") WHERE "deletedAt" IS NULL;
