-- AlterTable
ALTER TABLE "networkInterface" ADD COLUMN     "address6" INET,
ADD COLUMN     "subnet6Id" UUID;

-- AlterTable
ALTER TABLE "subnet" ADD COLUMN     "family" INTEGER NOT NULL DEFAULT 4,
ADD COLUMN     "hostRoutes" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "ipv6Mode" TEXT,
ADD COLUMN     "ntpServers" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "reservations" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "reservedRanges" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "searchDomains" JSONB NOT NULL DEFAULT '[]';

-- CreateIndex
CREATE INDEX "networkInterface_subnet6Id_idx" ON "networkInterface"("subnet6Id");


CREATE UNIQUE INDEX "networkInterface_subnet6Id_address6_living" ON "networkInterface" ("subnet6Id", "address6") WHERE "deletedAt" IS NULL;
