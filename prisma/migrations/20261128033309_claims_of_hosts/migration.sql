-- RenameIndex
ALTER INDEX "hostClaim_hostId_idx" RENAME TO "hostClaim_hostId_vcpus_memoryMib_idx";

