-- One id names one thing, whatever its kind, for ever. The triggers that write here are made from the model (database/guards.ts).
CREATE TABLE "identity" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,

    CONSTRAINT "identity_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "identity_kind_id_key" ON "identity" ("kind", "id");

-- The platform itself owns secrets and is no resource.
INSERT INTO "identity" (id, kind) VALUES ('00000000-0000-4000-8000-000000000001', 'platform');

INSERT INTO "identity" (id, kind)
  SELECT id, 'domain' FROM "domain"
  UNION ALL SELECT id, 'account' FROM "account"
  UNION ALL SELECT id, 'project' FROM "project"
  UNION ALL SELECT id, 'user' FROM "user"
  UNION ALL SELECT id, 'apiKey' FROM "apiKey"
  UNION ALL SELECT id, 'role' FROM "role"
  UNION ALL SELECT id, 'roleBinding' FROM "roleBinding"
  UNION ALL SELECT id, 'quota' FROM "quota"
  UNION ALL SELECT id, 'zone' FROM "zone"
  UNION ALL SELECT id, 'pod' FROM "pod"
  UNION ALL SELECT id, 'cluster' FROM "cluster"
  UNION ALL SELECT id, 'host' FROM "host"
  UNION ALL SELECT id, 'storageCluster' FROM "storageCluster"
  UNION ALL SELECT id, 'storagePool' FROM "storagePool"
  UNION ALL SELECT id, 'backupStore' FROM "backupStore"
  UNION ALL SELECT id, 'volumeType' FROM "volumeType"
  UNION ALL SELECT id, 'instanceType' FROM "instanceType"
  UNION ALL SELECT id, 'keyPair' FROM "keyPair"
  UNION ALL SELECT id, 'network' FROM "network"
  UNION ALL SELECT id, 'subnet' FROM "subnet"
  UNION ALL SELECT id, 'securityGroup' FROM "securityGroup"
  UNION ALL SELECT id, 'instance' FROM "instance"
  UNION ALL SELECT id, 'networkInterface' FROM "networkInterface"
  UNION ALL SELECT id, 'volume' FROM "volume"
  UNION ALL SELECT id, 'snapshot' FROM "snapshot"
  UNION ALL SELECT id, 'image' FROM "image"
ON CONFLICT DO NOTHING;

CREATE FUNCTION belay_register() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO "identity" (id, kind) SELECT id, TG_TABLE_NAME FROM fresh;
  RETURN NULL;
END $$;

-- States are changed by whoever holds the resource, and nobody else: an operation that enters or leaves.
CREATE FUNCTION belay_refuse_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the state of % % is changed by the operation that holds it alone', TG_TABLE_NAME, NEW.id USING ERRCODE = 'BL001';
END $$;

-- Whose a secret is: a kind with an id.
ALTER TABLE "secret" ADD COLUMN "ownerKind" TEXT NOT NULL DEFAULT 'platform';
UPDATE "secret" s SET "ownerKind" = k.kind FROM (
  SELECT id, 'host' AS kind FROM "host" UNION ALL SELECT id, 'storageCluster' FROM "storageCluster"
  UNION ALL SELECT id, 'backupStore' FROM "backupStore" UNION ALL SELECT id, 'instance' FROM "instance"
  UNION ALL SELECT id, 'apiKey' FROM "apiKey") k
WHERE k.id = s."ownerId" AND s."ownerId" <> '00000000-0000-4000-8000-000000000001';
ALTER TABLE "secret" ALTER COLUMN "ownerKind" DROP DEFAULT;
ALTER TABLE "secret" DROP CONSTRAINT "secret_pkey";
ALTER TABLE "secret" ADD CONSTRAINT "secret_pkey" PRIMARY KEY ("ownerKind", "ownerId", "field");

DELETE FROM "secret" s WHERE NOT EXISTS (SELECT 1 FROM "identity" i WHERE i.kind = s."ownerKind" AND i.id = s."ownerId");
-- Looked at when the transaction ends: a resource and its secrets are written by one statement.
ALTER TABLE "secret" ADD CONSTRAINT "secret_ownerKind_ownerId_fkey" FOREIGN KEY ("ownerKind", "ownerId") REFERENCES "identity" ("kind", "id")
  ON DELETE RESTRICT ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE "operationLock" ADD COLUMN "conditions" JSONB NOT NULL DEFAULT '[]';
