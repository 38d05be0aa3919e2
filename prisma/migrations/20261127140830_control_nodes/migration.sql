-- AlterTable
ALTER TABLE "schedule" ADD COLUMN     "endsWithWindow" BOOLEAN NOT NULL DEFAULT false;

-- CreateTable
CREATE TABLE "controlNode" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "state" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "role" TEXT,
    "address" TEXT,
    "version" TEXT,
    "startedAt" TIMESTAMPTZ(6),
    "lastHeartbeatAt" TIMESTAMPTZ(6),
    "load" DOUBLE PRECISION,

    CONSTRAINT "controlNode_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "controlNode_createdAt_id_idx" ON "controlNode"("createdAt", "id");

-- CreateIndex
CREATE INDEX "controlNode_updatedAt_id_idx" ON "controlNode"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "controlNode_name_id_idx" ON "controlNode"("name", "id");

