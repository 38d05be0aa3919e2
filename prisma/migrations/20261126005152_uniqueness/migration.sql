-- What these looked up, the unique indexes below find as well.
DROP INDEX "apiKey_accessKey_idx";
DROP INDEX "networkInterface_mac_idx";
DROP INDEX "quota_scopeId_counter_idx";

-- Compares equal ids and overlapping ranges in one index. Part of PostgreSQL's own contrib modules; who owns the database may install it.
CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Of the living: who comes second is refused. An installation that has such twins already keeps its old version until one of them is gone.
CREATE UNIQUE INDEX "domain_parentId_name_living" ON "domain" ("parentId", "name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "account_domainId_name_living" ON "account" ("domainId", "name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "project_accountId_name_living" ON "project" ("accountId", "name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "project_accountId_living" ON "project" ("accountId") WHERE "deletedAt" IS NULL AND "isDefault";
CREATE UNIQUE INDEX "user_accountId_userName_living" ON "user" ("accountId", "userName") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "apiKey_accessKey_living" ON "apiKey" ("accessKey") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "role_name_living" ON "role" ("name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "quota_scopeId_counter_living" ON "quota" ("scopeId", "counter") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "zone_name_living" ON "zone" ("name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "host_address_sshPort_living" ON "host" ("address", "sshPort") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "storagePool_storageClusterId_pool_living" ON "storagePool" ("storageClusterId", "pool") WHERE "deletedAt" IS NULL;
ALTER TABLE "subnet" ADD CONSTRAINT "subnet_networkId_cidr_living" EXCLUDE USING gist ("networkId" WITH =, ("cidr"::inet) inet_ops WITH &&) WHERE ("deletedAt" IS NULL);
CREATE UNIQUE INDEX "securityGroup_projectId_living" ON "securityGroup" ("projectId") WHERE "deletedAt" IS NULL AND "isDefault";
CREATE UNIQUE INDEX "networkInterface_subnetId_address_living" ON "networkInterface" ("subnetId", "address") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "volume_instanceId_deviceIndex_living" ON "volume" ("instanceId", "deviceIndex") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "volume_instanceId_living" ON "volume" ("instanceId") WHERE "deletedAt" IS NULL AND "role" = 'root';
CREATE UNIQUE INDEX "operationType_name_living" ON "operationType" ("name") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "setting_name_living" ON "setting" ("name") WHERE "deletedAt" IS NULL;
