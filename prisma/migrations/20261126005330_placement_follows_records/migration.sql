-- What placement may promise of a host: whether anything new may go there, and how much. One rule, asked whenever one of its facts changes,
-- so that no command has to remember it. A host that has not answered for a few seconds is closed until it answers again.
CREATE FUNCTION belay_host_promise(host_id uuid) RETURNS TABLE (open boolean, vcpus int, "memoryMib" int) LANGUAGE sql STABLE AS $$
  SELECT h.enabled AND h.state = 'active' AND h.connection <> 'disconnected' AND h."deletedAt" IS NULL AND k.enabled AND p.enabled AND z.enabled,
         greatest(0, floor(coalesce(h.vcpus, 0) * k."vcpuOvercommit")::int - coalesce((k."reservedHostCapacity"->>'vcpus')::int, 0)),
         greatest(0, floor(coalesce(h."memoryMib", 0) * k."memoryOvercommit")::int - coalesce((k."reservedHostCapacity"->>'memoryMib')::int, 0))
  FROM "host" h JOIN "cluster" k ON k.id = h."clusterId" JOIN "pod" p ON p.id = k."podId" JOIN "zone" z ON z.id = p."zoneId"
  WHERE h.id = host_id
$$;

CREATE FUNCTION belay_renew_promises(host_ids uuid[]) RETURNS void LANGUAGE sql AS $$
  UPDATE "hostCapacity" c SET open = n.open, vcpus = n.vcpus, "memoryMib" = n."memoryMib"
  FROM unnest(host_ids) AS changed(id) CROSS JOIN LATERAL belay_host_promise(changed.id) n
  WHERE c."hostId" = changed.id AND (c.open, c.vcpus, c."memoryMib") IS DISTINCT FROM (n.open, n.vcpus, n."memoryMib")
$$;

CREATE FUNCTION belay_promise_of_new_capacity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT n.open, n.vcpus, n."memoryMib" INTO NEW.open, NEW.vcpus, NEW."memoryMib" FROM belay_host_promise(NEW."hostId") n;
  RETURN NEW;
END $$;
CREATE TRIGGER "hostCapacity_promise" BEFORE INSERT ON "hostCapacity" FOR EACH ROW EXECUTE FUNCTION belay_promise_of_new_capacity();

CREATE FUNCTION belay_promise_of_host() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM belay_renew_promises(ARRAY[NEW.id]);
  RETURN NULL;
END $$;
CREATE TRIGGER "host_promise" AFTER UPDATE ON "host" FOR EACH ROW
  WHEN ((OLD.enabled, OLD.state, OLD.connection, OLD.vcpus, OLD."memoryMib", OLD."clusterId", OLD."deletedAt")
    IS DISTINCT FROM (NEW.enabled, NEW.state, NEW.connection, NEW.vcpus, NEW."memoryMib", NEW."clusterId", NEW."deletedAt"))
  EXECUTE FUNCTION belay_promise_of_host();

CREATE FUNCTION belay_promise_of_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- In one order, as everybody who locks more than one of these rows does.
  PERFORM belay_renew_promises(ARRAY(
    SELECT h.id FROM "host" h JOIN "cluster" k ON k.id = h."clusterId" JOIN "pod" p ON p.id = k."podId"
    WHERE NEW.id = CASE TG_TABLE_NAME WHEN 'cluster' THEN k.id WHEN 'pod' THEN p.id ELSE p."zoneId" END AND h."deletedAt" IS NULL ORDER BY h.id));
  RETURN NULL;
END $$;
CREATE TRIGGER "cluster_promise" AFTER UPDATE ON "cluster" FOR EACH ROW
  WHEN ((OLD.enabled, OLD."vcpuOvercommit", OLD."memoryOvercommit", OLD."reservedHostCapacity")
    IS DISTINCT FROM (NEW.enabled, NEW."vcpuOvercommit", NEW."memoryOvercommit", NEW."reservedHostCapacity"))
  EXECUTE FUNCTION belay_promise_of_place();
CREATE TRIGGER "pod_promise" AFTER UPDATE ON "pod" FOR EACH ROW WHEN (OLD.enabled IS DISTINCT FROM NEW.enabled)
  EXECUTE FUNCTION belay_promise_of_place();
CREATE TRIGGER "zone_promise" AFTER UPDATE ON "zone" FOR EACH ROW WHEN (OLD.enabled IS DISTINCT FROM NEW.enabled)
  EXECUTE FUNCTION belay_promise_of_place();

SELECT belay_renew_promises(ARRAY(SELECT "hostId" FROM "hostCapacity" ORDER BY "hostId"));
