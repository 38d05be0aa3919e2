-- CreateTable
CREATE TABLE "failedPlace" (
    "instanceId" UUID NOT NULL,
    "hostId" UUID NOT NULL,
    "failedAt" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "failedPlace_pkey" PRIMARY KEY ("instanceId","hostId")
);

-- CreateIndex
CREATE INDEX "failedPlace_failedAt_idx" ON "failedPlace"("failedAt");

-- Few at any time: each placement reads them all.
CREATE INDEX "finding_ill_host" ON "finding" ("resourceId") WHERE "resourceKind" = 'host' AND what IN ('storageUnreachable', 'hypervisorSilent') AND state IN ('sighted', 'open', 'ignored') AND "deletedAt" IS NULL;
