-- AlterTable
ALTER TABLE "cluster" ADD COLUMN     "failoverReservePercent" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "ha" JSONB NOT NULL DEFAULT '{"enabled":true,"requireFence":true}';

-- AlterTable
ALTER TABLE "host" ADD COLUMN     "fencedAt" TIMESTAMPTZ(6),
ADD COLUMN     "stateReason" TEXT,
ADD COLUMN     "storageClients" JSONB;

-- AlterTable
ALTER TABLE "hostCapacity" ADD COLUMN     "reservedMemoryMib" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "reservedVcpus" INTEGER NOT NULL DEFAULT 0;

-- AlterTable
ALTER TABLE "instance" ADD COLUMN     "ha" JSONB NOT NULL DEFAULT '{"enabled":true,"priority":50}',
ADD COLUMN     "lostReason" TEXT;

-- A host promises what it has, less what is claimed; of that, so much is kept for instances of hosts that fail.
DROP FUNCTION belay_host_promise(uuid);
CREATE FUNCTION belay_host_promise(host_id uuid) RETURNS TABLE (open boolean, vcpus int, "memoryMib" int, "reservedVcpus" int, "reservedMemoryMib" int) LANGUAGE sql STABLE AS $$
  SELECT f.open, f.vcpus, f."memoryMib", ceil(f.vcpus * f.reserve / 100.0)::int, ceil(f."memoryMib" * f.reserve / 100.0)::int FROM (
    SELECT h.enabled AND h.state = 'active' AND h.connection <> 'disconnected' AND h."deletedAt" IS NULL AND k.enabled AND p.enabled AND z.enabled AS open,
           greatest(0, floor(coalesce(h.vcpus, 0) * k."vcpuOvercommit")::int - coalesce((k."reservedHostCapacity"->>'vcpus')::int, 0)) AS vcpus,
           greatest(0, floor(coalesce(h."memoryMib", 0) * k."memoryOvercommit")::int - coalesce((k."reservedHostCapacity"->>'memoryMib')::int, 0)) AS "memoryMib",
           k."failoverReservePercent" AS reserve
    FROM "host" h JOIN "cluster" k ON k.id = h."clusterId" JOIN "pod" p ON p.id = k."podId" JOIN "zone" z ON z.id = p."zoneId"
    WHERE h.id = host_id) f
$$;

CREATE OR REPLACE FUNCTION belay_renew_promises(host_ids uuid[]) RETURNS void LANGUAGE sql AS $$
  UPDATE "hostCapacity" c SET open = n.open, vcpus = n.vcpus, "memoryMib" = n."memoryMib", "reservedVcpus" = n."reservedVcpus", "reservedMemoryMib" = n."reservedMemoryMib"
  FROM unnest(host_ids) AS changed(id) CROSS JOIN LATERAL belay_host_promise(changed.id) n
  WHERE c."hostId" = changed.id AND (c.open, c.vcpus, c."memoryMib", c."reservedVcpus", c."reservedMemoryMib")
    IS DISTINCT FROM (n.open, n.vcpus, n."memoryMib", n."reservedVcpus", n."reservedMemoryMib")
$$;

CREATE OR REPLACE FUNCTION belay_promise_of_new_capacity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT n.open, n.vcpus, n."memoryMib", n."reservedVcpus", n."reservedMemoryMib"
    INTO NEW.open, NEW.vcpus, NEW."memoryMib", NEW."reservedVcpus", NEW."reservedMemoryMib" FROM belay_host_promise(NEW."hostId") n;
  RETURN NEW;
END $$;

DROP TRIGGER "cluster_promise" ON "cluster";
CREATE TRIGGER "cluster_promise" AFTER UPDATE ON "cluster" FOR EACH ROW
  WHEN ((OLD.enabled, OLD."vcpuOvercommit", OLD."memoryOvercommit", OLD."reservedHostCapacity", OLD."failoverReservePercent")
    IS DISTINCT FROM (NEW.enabled, NEW."vcpuOvercommit", NEW."memoryOvercommit", NEW."reservedHostCapacity", NEW."failoverReservePercent"))
  EXECUTE FUNCTION belay_promise_of_place();
