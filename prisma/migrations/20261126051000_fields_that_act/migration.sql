-- Fields that were taken and did nothing are not offered any more.
ALTER TABLE "account" DROP COLUMN "defaultZoneId", DROP COLUMN "type";
ALTER TABLE "domain" DROP COLUMN "networkDomain";
ALTER TABLE "instanceType" DROP COLUMN "class";
ALTER TABLE "role" ALTER COLUMN "boundAt" DROP NOT NULL, ALTER COLUMN "boundAt" DROP DEFAULT;
UPDATE "role" SET "boundAt" = NULL WHERE NOT "builtIn";

-- What guests are told by DHCP is a domain name, and nothing else.
UPDATE "network" SET "dnsDomain" = NULL WHERE length("dnsDomain") > 253 OR "dnsDomain" !~ '^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$';
UPDATE "zone" SET "domainName" = NULL WHERE length("domainName") > 253 OR "domainName" !~ '^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$';

-- Whose end has come.
CREATE INDEX "snapshot_expiring" ON "snapshot" ("expiresAt") WHERE "deletedAt" IS NULL AND "expiresAt" IS NOT NULL;
CREATE INDEX "image_awaiting" ON "image" ("uploadExpiresAt") WHERE "deletedAt" IS NULL AND state = 'awaitingUpload';

-- Whether a pool promises more room: it and its storage cluster are both open.
CREATE FUNCTION belay_pool_is_open(pool_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT p.enabled AND s.enabled FROM "storagePool" p JOIN "storageCluster" s ON s.id = p."storageClusterId" WHERE p.id = pool_id
$$;

CREATE OR REPLACE FUNCTION belay_claim_room(pool_ids uuid[], for_volumes boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  pool record;
  promised bigint;
  closed boolean;
BEGIN
  -- What an undo takes back was its own a moment ago.
  IF cardinality(pool_ids) = 0 OR current_setting('belay.takes_back', true) = 'on' THEN RETURN; END IF;
  FOR pool IN SELECT id, "totalGib" * overprovision AS promisable FROM "storagePool" WHERE id = ANY(pool_ids) ORDER BY id FOR NO KEY UPDATE LOOP
    promised := belay_promised_gib(pool.id);
    closed := for_volumes AND belay_pool_is_open(pool.id) IS FALSE;
    IF promised > pool.promisable OR closed THEN
      RAISE EXCEPTION 'storage pool % has no room for this any more: it would promise % GiB of % GiB%', pool.id, promised, floor(pool.promisable),
        CASE WHEN closed THEN ', and is closed' ELSE '' END
        USING ERRCODE = '23514', CONSTRAINT = 'storagePool_room', TABLE = 'storagePool';
    END IF;
  END LOOP;
END $$;
