-- CreateTable
CREATE TABLE "certificate" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "certificate" TEXT NOT NULL,
    "chain" TEXT,
    "domains" JSONB NOT NULL DEFAULT '[]',
    "fingerprint" TEXT,
    "notBefore" TIMESTAMPTZ(6),
    "notAfter" TIMESTAMPTZ(6),

    CONSTRAINT "certificate_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "certificate_createdAt_id_idx" ON "certificate"("createdAt", "id");

-- CreateIndex
CREATE INDEX "certificate_projectId_createdAt_id_idx" ON "certificate"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "certificate_updatedAt_id_idx" ON "certificate"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "certificate_projectId_updatedAt_id_idx" ON "certificate"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "certificate_name_id_idx" ON "certificate"("name", "id");

-- CreateIndex
CREATE INDEX "certificate_projectId_name_id_idx" ON "certificate"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "certificate_notAfter_id_idx" ON "certificate"("notAfter", "id");

-- CreateIndex
CREATE INDEX "certificate_projectId_notAfter_id_idx" ON "certificate"("projectId", "notAfter", "id");

