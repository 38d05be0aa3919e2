-- AlterTable
ALTER TABLE "snapshot" ADD COLUMN     "scheduleId" UUID;

-- CreateTable
CREATE TABLE "schedule" (
    "id" UUID NOT NULL,
    "projectId" UUID,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "state" TEXT NOT NULL,
    "fault" JSONB,
    "currentOperationId" UUID,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "cron" TEXT,
    "timeZone" TEXT NOT NULL DEFAULT 'UTC',
    "at" TIMESTAMPTZ(6),
    "action" TEXT NOT NULL,
    "input" JSONB NOT NULL DEFAULT '{}',
    "targets" JSONB NOT NULL,
    "retention" JSONB,
    "overlap" TEXT NOT NULL DEFAULT 'skip',
    "windowSeconds" INTEGER NOT NULL DEFAULT 3600,
    "maxParallel" INTEGER NOT NULL DEFAULT 10,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "runAsUserId" UUID,
    "runAsApiKeyId" UUID,
    "everySeconds" INTEGER,
    "lastRun" TIMESTAMPTZ(6),
    "lastOperationId" UUID,
    "nextRun" TIMESTAMPTZ(6),

    CONSTRAINT "schedule_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "schedule_createdAt_id_idx" ON "schedule"("createdAt", "id");

-- CreateIndex
CREATE INDEX "schedule_projectId_createdAt_id_idx" ON "schedule"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "schedule_updatedAt_id_idx" ON "schedule"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "schedule_projectId_updatedAt_id_idx" ON "schedule"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "schedule_name_id_idx" ON "schedule"("name", "id");

-- CreateIndex
CREATE INDEX "schedule_projectId_name_id_idx" ON "schedule"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "schedule_nextRun_id_idx" ON "schedule"("nextRun", "id");

-- CreateIndex
CREATE INDEX "schedule_projectId_nextRun_id_idx" ON "schedule"("projectId", "nextRun", "id");

-- CreateIndex
CREATE INDEX "schedule_runAsUserId_idx" ON "schedule"("runAsUserId");

-- CreateIndex
CREATE INDEX "schedule_runAsApiKeyId_idx" ON "schedule"("runAsApiKeyId");

-- CreateIndex
CREATE INDEX "schedule_lastOperationId_idx" ON "schedule"("lastOperationId");

-- CreateIndex
CREATE INDEX "snapshot_scheduleId_idx" ON "snapshot"("scheduleId");

