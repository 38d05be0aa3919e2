-- AlterTable
ALTER TABLE "host" ADD COLUMN     "shard" INTEGER;

-- AlterTable
ALTER TABLE "shardLease" ADD COLUMN     "toldAt" TIMESTAMPTZ(6);

-- The same as shardOf in model/shards.ts: FNV-1a over the text of the id, by 64.
CREATE FUNCTION belay_shard(host_id uuid) RETURNS int LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE hash bigint := 2166136261; one int;
BEGIN
  FOREACH one IN ARRAY (SELECT array_agg(ascii(c)) FROM regexp_split_to_table(host_id::text, '') c) LOOP
    hash := ((hash # one) * 16777619) & 4294967295;
  END LOOP;
  RETURN hash % 64;
END $$;

CREATE FUNCTION belay_shard_of_host() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.shard := belay_shard(NEW.id);
  RETURN NEW;
END $$;
CREATE TRIGGER "host_shard" BEFORE INSERT ON "host" FOR EACH ROW EXECUTE FUNCTION belay_shard_of_host();
UPDATE "host" SET shard = belay_shard(id);

-- Each worker reads the hosts of its own shards, and the auditor goes through them in the order of their ids.
CREATE INDEX "host_of_shard" ON "host" ("shard", "id") WHERE "deletedAt" IS NULL;
-- Few at any time, and looked for again and again.
CREATE INDEX "host_away" ON "host" ("shard") WHERE connection <> 'connected' AND "deletedAt" IS NULL;
-- What is in use of a zone, and in which shards, is counted without reading the wide rows.
CREATE INDEX "host_in_use" ON "host" ("zoneId", "connection", "shard") WHERE state IN ('active', 'enteringMaintenance', 'connecting') AND "deletedAt" IS NULL;
-- Whom one can ask about another host of the cluster.
CREATE INDEX "host_peers" ON "host" ("clusterId", "id") WHERE connection = 'connected' AND state IN ('active', 'enteringMaintenance', 'maintenance') AND "deletedAt" IS NULL;
-- What is looked for of each host that is scanned.
CREATE INDEX "finding_of_resource" ON "finding" ("resourceId") WHERE state IN ('sighted', 'open', 'ignored') AND "deletedAt" IS NULL;
CREATE INDEX "finding_at_location" ON "finding" ("location") WHERE state IN ('sighted', 'open', 'ignored') AND "deletedAt" IS NULL;
-- Few at any time: those whose instances are looked for every fifteen seconds, and what is forgotten after a while.
CREATE INDEX "host_fenced" ON "host" ("id") WHERE state = 'fenced' AND "deletedAt" IS NULL;
CREATE INDEX "host_gone" ON "host" ("deletedAt") WHERE "deletedAt" IS NOT NULL;
CREATE INDEX "instance_gone" ON "instance" ("deletedAt") WHERE "deletedAt" IS NOT NULL;
CREATE INDEX "volume_gone" ON "volume" ("deletedAt") WHERE "deletedAt" IS NOT NULL;
CREATE INDEX "networkInterface_gone" ON "networkInterface" ("deletedAt") WHERE "deletedAt" IS NOT NULL;
CREATE INDEX "snapshot_gone" ON "snapshot" ("deletedAt") WHERE "deletedAt" IS NOT NULL;
-- When a host was seen last is written again and again: with room beside it in its page no index is touched.
ALTER TABLE "host" SET (fillfactor = 70);
-- What a host has promised is summed up without reading the claims themselves.
DROP INDEX "hostClaim_hostId_idx";
CREATE INDEX "hostClaim_hostId_idx" ON "hostClaim" ("hostId") INCLUDE (vcpus, "memoryMib");
