-- AlterTable
ALTER TABLE "networkInterface" ADD COLUMN     "allowedPairs" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "alone" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "linkUp" BOOLEAN NOT NULL DEFAULT true,
ADD COLUMN     "portSecurity" BOOLEAN,
ADD COLUMN     "secondaryAddresses" JSONB NOT NULL DEFAULT '[]',
ALTER COLUMN "subnetId" SET NOT NULL,
ALTER COLUMN "index" DROP NOT NULL,
ALTER COLUMN "index" DROP DEFAULT;


DROP INDEX "networkInterface_mac_living";

CREATE UNIQUE INDEX "networkInterface_networkId_mac_living" ON "networkInterface" ("networkId", "mac") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "networkInterface_instanceId_index_living" ON "networkInterface" ("instanceId", "index") WHERE "deletedAt" IS NULL;
