-- CreateTable
CREATE TABLE "finding" (
    "id" UUID NOT NULL,
    "state" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "class" TEXT,
    "severity" TEXT NOT NULL DEFAULT 'warning',
    "what" TEXT,
    "resourceKind" TEXT,
    "resourceId" UUID,
    "system" TEXT,
    "location" TEXT,
    "expected" TEXT,
    "actual" TEXT,
    "sightings" INTEGER NOT NULL DEFAULT 1,
    "firstSeenAt" TIMESTAMPTZ(6),
    "lastSeenAt" TIMESTAMPTZ(6),
    "openedAt" TIMESTAMPTZ(6),
    "repair" JSONB,
    "ignoredUntil" TIMESTAMPTZ(6),
    "ignoreReason" TEXT,
    "note" TEXT,

    CONSTRAINT "finding_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "finding_createdAt_id_idx" ON "finding"("createdAt", "id");

-- CreateIndex
CREATE INDEX "finding_updatedAt_id_idx" ON "finding"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "finding_lastSeenAt_id_idx" ON "finding"("lastSeenAt", "id");


CREATE UNIQUE INDEX "finding_class_resourceKind_resourceId_what_living" ON "finding" ("class", "resourceKind", "resourceId", "what") WHERE "deletedAt" IS NULL;

-- Those that are open are counted every few seconds.
CREATE INDEX "finding_open" ON "finding" ("class", "severity") WHERE state = 'open' AND "deletedAt" IS NULL;
