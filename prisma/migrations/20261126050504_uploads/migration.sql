-- CreateTable
CREATE TABLE "upload" (
    "imageId" UUID NOT NULL,
    "uploadId" UUID NOT NULL,
    "expiresAt" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "upload_pkey" PRIMARY KEY ("imageId")
);

-- CreateIndex
CREATE INDEX "upload_expiresAt_idx" ON "upload"("expiresAt");

