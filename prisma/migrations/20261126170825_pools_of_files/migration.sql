-- AlterTable
ALTER TABLE "storagePool" ADD COLUMN     "source" JSONB,
ALTER COLUMN "storageClusterId" DROP NOT NULL,
ALTER COLUMN "pool" DROP NOT NULL;


-- One that is in no storage cluster is open as it says itself.
CREATE OR REPLACE FUNCTION belay_pool_is_open(pool_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT p.enabled AND coalesce(s.enabled, true) FROM "storagePool" p LEFT JOIN "storageCluster" s ON s.id = p."storageClusterId" WHERE p.id = pool_id
$$;
