-- Steps of an operation by their index: what is told later replaces what was told before.
CREATE FUNCTION belay_merge_steps(steps jsonb, events jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_agg(step ORDER BY (step->>'index')::int), '[]'::jsonb)
  FROM (
    SELECT coalesce(s.step, '{}'::jsonb) || coalesce(e.event, '{}'::jsonb) AS step
    FROM (SELECT value AS step FROM jsonb_array_elements(steps)) s
    FULL JOIN (SELECT value AS event FROM jsonb_array_elements(events)) e ON (s.step->>'index') = (e.event->>'index')
  ) merged
$$;

-- What the sealers look for.
CREATE INDEX "event_unsealed" ON "event" ("createdAt", id) WHERE sequence IS NULL;
CREATE INDEX "auditEntry_unsealed" ON "auditEntry" ("createdAt", id) WHERE sequence IS NULL;

-- Operations that wait for their turn.
CREATE INDEX "operation_queued" ON "operation" ("createdAt") WHERE state = 'queued';

-- Free addresses of a subnet.
CREATE INDEX "subnetAddress_free" ON "subnetAddress" ("subnetId", address) WHERE "networkInterfaceId" IS NULL;

-- No two living ports share a MAC.
CREATE UNIQUE INDEX "networkInterface_mac_living" ON "networkInterface" (mac) WHERE "deletedAt" IS NULL;
