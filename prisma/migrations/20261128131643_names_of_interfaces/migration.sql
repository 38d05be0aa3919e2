-- AlterTable
ALTER TABLE "networkInterface" ADD COLUMN     "dnsName" TEXT,
ADD COLUMN     "vpcId" UUID;

-- Nobody writes where an interface is but the operation that holds it.
SELECT set_config('belay.operation', 'migration', true);
UPDATE "networkInterface" n SET "vpcId" = k."vpcId" FROM "network" k WHERE k.id = n."networkId" AND k."vpcId" IS NOT NULL AND n."deletedAt" IS NULL;

-- CreateIndex
CREATE INDEX "networkInterface_vpcId_idx" ON "networkInterface"("vpcId");


CREATE UNIQUE INDEX "networkInterface_networkId_dnsName_living" ON "networkInterface" ("networkId", "dnsName") WHERE "deletedAt" IS NULL;

CREATE UNIQUE INDEX "networkInterface_vpcId_dnsName_living" ON "networkInterface" ("vpcId", "dnsName") WHERE "deletedAt" IS NULL;
