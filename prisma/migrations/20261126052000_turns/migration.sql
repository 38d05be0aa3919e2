-- Operations that wait for their turn, by whose they are: projects take turns. What belongs to none is the platform's.
CREATE INDEX "operation_queued_of" ON "operation" (coalesce("projectId", '00000000-0000-0000-0000-000000000000'), "createdAt") WHERE state = 'queued';
DROP INDEX "operation_queued";

-- Accounts take turns at being told. What is under way when this comes is told as of its key's account.
ALTER TABLE "callback" ADD COLUMN "accountId" UUID;
UPDATE "callback" c SET "accountId" = k."accountId" FROM "apiKey" k WHERE k.id = c."apiKeyId";
DELETE FROM "callback" WHERE "accountId" IS NULL;
ALTER TABLE "callback" ALTER COLUMN "accountId" SET NOT NULL;
DROP INDEX "callback_nextAttemptAt_idx";
CREATE INDEX "callback_accountId_nextAttemptAt_idx" ON "callback"("accountId", "nextAttemptAt");
