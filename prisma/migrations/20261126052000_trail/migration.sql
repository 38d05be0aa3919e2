-- What the hash of an audit entry covers is written out, form by form: a new column changes no old hash. Whoever adds one that hashes shall cover
-- adds a form below, and makes it the default of the column.
ALTER TABLE "auditEntry" ADD COLUMN "form" INTEGER NOT NULL DEFAULT 1;

CREATE FUNCTION belay_audit_content(a "auditEntry") RETURNS text LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
  SELECT CASE a.form WHEN 1 THEN jsonb_build_object(
    'id', a.id, 'projectId', a."projectId", 'createdAt', a."createdAt", 'deletedAt', a."deletedAt", 'actorUserId', a."actorUserId",
    'actorApiKeyId', a."actorApiKeyId", 'sourceAddress', a."sourceAddress", 'permission', a.permission, 'resourceKind', a."resourceKind",
    'resourceId', a."resourceId", 'input', a.input, 'outcome', a.outcome, 'code', a.code, 'operationId', a."operationId", 'requestId', a."requestId")::text END
$$;

CREATE FUNCTION belay_audit_hash(a "auditEntry") RETURNS text LANGUAGE sql STABLE AS $$
  SELECT encode(sha256(convert_to(concat(a.sequence, E'\n', a."previousHash", E'\n', belay_audit_content(a)), 'UTF8')), 'hex')
$$;

CREATE TABLE "auditNote" (
    "sequence" BIGINT NOT NULL,
    "at" TIMESTAMPTZ(6) NOT NULL,
    "note" JSONB NOT NULL,
    "stored" BOOLEAN NOT NULL DEFAULT false,

    CONSTRAINT "auditNote_pkey" PRIMARY KEY ("sequence")
);
CREATE INDEX "auditNote_stored_sequence_idx" ON "auditNote"("stored", "sequence");

CREATE TABLE "archive" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "count" INTEGER NOT NULL,
    "first" BIGINT,
    "last" BIGINT,
    "hash" TEXT,
    "backupStoreId" UUID NOT NULL,
    "objectKey" TEXT NOT NULL,
    "sha256" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "archive_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "archive_kind_last_idx" ON "archive"("kind", "last");

-- Every break of the chain, and nothing when there is none. It begins where the newest archive ends.
CREATE FUNCTION belay_audit_breaks() RETURNS TABLE (sequence bigint, id uuid, fault text) LANGUAGE sql STABLE AS $$
  WITH anchor AS (SELECT r.last AS sequence, r.hash FROM "archive" r WHERE r.kind = 'auditEntry' ORDER BY r.last DESC LIMIT 1),
  chain AS (
    SELECT a.sequence, a.id, a.hash, a."previousHash", belay_audit_hash(a) AS computed,
           lag(a.hash, 1, coalesce((SELECT n.hash FROM anchor n), '')) OVER (ORDER BY a.sequence) AS before,
           lag(a.sequence, 1, coalesce((SELECT n.sequence FROM anchor n), 0)) OVER (ORDER BY a.sequence) AS place
    FROM "auditEntry" a WHERE a.sequence IS NOT NULL)
  SELECT c.sequence, c.id,
         CASE WHEN c.hash IS DISTINCT FROM c.computed THEN 'it is not as it was sealed'
              WHEN c.sequence <> c.place + 1 THEN 'entries before it are missing'
              ELSE 'it does not follow the one before it' END
  FROM chain c WHERE c.hash IS DISTINCT FROM c.computed OR c.sequence <> c.place + 1 OR c."previousHash" IS DISTINCT FROM c.before ORDER BY c.sequence
$$;
