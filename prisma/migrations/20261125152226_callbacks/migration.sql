-- CreateTable
CREATE TABLE "callback" (
    "operationId" UUID NOT NULL,
    "apiKeyId" UUID NOT NULL,
    "url" TEXT NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "nextAttemptAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "callback_pkey" PRIMARY KEY ("operationId")
);

-- CreateIndex
CREATE INDEX "callback_nextAttemptAt_idx" ON "callback"("nextAttemptAt");

