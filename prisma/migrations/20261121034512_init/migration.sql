-- CreateTable
CREATE TABLE "domain" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "parentId" UUID NOT NULL,
    "path" TEXT,
    "networkDomain" TEXT,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "domain_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "account" (
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
    "domainId" UUID NOT NULL,
    "type" TEXT NOT NULL DEFAULT 'customer',
    "defaultZoneId" UUID,

    CONSTRAINT "account_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "project" (
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
    "accountId" UUID NOT NULL,
    "isDefault" BOOLEAN NOT NULL DEFAULT false,

    CONSTRAINT "project_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "user" (
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
    "accountId" UUID NOT NULL,
    "userName" TEXT NOT NULL,
    "type" TEXT NOT NULL DEFAULT 'person',
    "email" TEXT,
    "displayName" TEXT,
    "lastLoginAt" TIMESTAMPTZ(6),

    CONSTRAINT "user_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "apiKey" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "userId" UUID NOT NULL,
    "accountId" UUID,
    "accessKey" TEXT,
    "secretHash" TEXT,
    "expiresAt" TIMESTAMPTZ(6),
    "allowedCidrs" JSONB NOT NULL DEFAULT '[]',
    "permissions" JSONB NOT NULL DEFAULT '["*"]',
    "lastUsedAt" TIMESTAMPTZ(6),
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "apiKey_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "role" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "permissions" JSONB NOT NULL,
    "builtIn" BOOLEAN NOT NULL DEFAULT false,
    "boundAt" TEXT NOT NULL DEFAULT 'project',
    "note" TEXT,

    CONSTRAINT "role_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "roleBinding" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "subjectKind" TEXT NOT NULL,
    "subjectId" UUID,
    "roleId" UUID NOT NULL,
    "targetKind" TEXT NOT NULL,
    "targetId" UUID,
    "expiresAt" TIMESTAMPTZ(6),

    CONSTRAINT "roleBinding_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "quota" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "scopeKind" TEXT NOT NULL,
    "scopeId" UUID NOT NULL,
    "counter" TEXT NOT NULL,
    "limit" INTEGER NOT NULL,

    CONSTRAINT "quota_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "zone" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "dnsServers" JSONB NOT NULL DEFAULT '[]',
    "domainName" TEXT,

    CONSTRAINT "zone_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "pod" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "zoneId" UUID NOT NULL,
    "rack" TEXT,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "pod_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "cluster" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "podId" UUID NOT NULL,
    "zoneId" UUID,
    "hypervisor" TEXT NOT NULL DEFAULT 'kvm',
    "architecture" TEXT NOT NULL DEFAULT 'x86_64',
    "vcpuOvercommit" DOUBLE PRECISION NOT NULL DEFAULT 1,
    "memoryOvercommit" DOUBLE PRECISION NOT NULL DEFAULT 1,
    "reservedHostCapacity" JSONB NOT NULL DEFAULT '{"vcpus":0,"memoryMib":512}',
    "migration" JSONB NOT NULL DEFAULT '{"bandwidthBytesPerSec":null,"autoConverge":true}',
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "cluster_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "host" (
    "id" UUID NOT NULL,
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
    "clusterId" UUID NOT NULL,
    "podId" UUID,
    "zoneId" UUID,
    "address" TEXT NOT NULL,
    "sshPort" INTEGER NOT NULL DEFAULT 22,
    "sshUser" TEXT NOT NULL DEFAULT 'root',
    "sshHostKey" TEXT,
    "underlayAddress" TEXT,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "vcpus" INTEGER,
    "memoryMib" INTEGER,
    "kvm" BOOLEAN,
    "inventory" JSONB,
    "connection" TEXT NOT NULL DEFAULT 'disconnected',
    "lastSeenAt" TIMESTAMPTZ(6),
    "agentVersion" TEXT,

    CONSTRAINT "host_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "storageCluster" (
    "id" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "driver" TEXT NOT NULL DEFAULT 'ceph',
    "monitors" JSONB NOT NULL,
    "adminUser" TEXT NOT NULL DEFAULT 'admin',
    "fsid" TEXT NOT NULL,
    "version" TEXT,
    "health" JSONB,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "storageCluster_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "storagePool" (
    "id" UUID NOT NULL,
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
    "type" TEXT NOT NULL DEFAULT 'rbd',
    "storageClusterId" UUID NOT NULL,
    "zoneId" UUID,
    "clusterIds" UUID[] DEFAULT ARRAY[]::UUID[],
    "pool" TEXT NOT NULL,
    "storageClass" TEXT NOT NULL,
    "deviceClass" TEXT,
    "replicas" INTEGER NOT NULL DEFAULT 3,
    "failureDomain" TEXT NOT NULL DEFAULT 'host',
    "overprovision" DOUBLE PRECISION NOT NULL DEFAULT 1,
    "madeByPlatform" BOOLEAN NOT NULL DEFAULT false,
    "capacity" JSONB,
    "totalGib" INTEGER NOT NULL DEFAULT 0,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "storagePool_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "backupStore" (
    "id" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "driver" TEXT NOT NULL DEFAULT 's3',
    "endpoint" TEXT NOT NULL,
    "region" TEXT NOT NULL DEFAULT 'us-east-1',
    "bucket" TEXT NOT NULL,
    "accessKey" TEXT NOT NULL,
    "readOnly" BOOLEAN NOT NULL DEFAULT false,
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "backupStore_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "volumeType" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "storageClass" TEXT NOT NULL,
    "minSizeGib" INTEGER NOT NULL DEFAULT 1,
    "maxSizeGib" INTEGER NOT NULL DEFAULT 65536,
    "qos" JSONB,
    "visibility" TEXT NOT NULL DEFAULT 'public',
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "volumeType_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "instanceType" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "labels" JSONB NOT NULL DEFAULT '{}',
    "systemLabels" JSONB NOT NULL DEFAULT '{}',
    "managedBy" JSONB,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "class" TEXT NOT NULL DEFAULT 'shared',
    "vcpus" INTEGER NOT NULL,
    "memoryMib" INTEGER NOT NULL,
    "rootVolumeTypeId" UUID,
    "rootSizeGib" INTEGER,
    "visibility" TEXT NOT NULL DEFAULT 'public',
    "enabled" BOOLEAN NOT NULL DEFAULT true,

    CONSTRAINT "instanceType_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "keyPair" (
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
    "publicKey" TEXT NOT NULL,
    "fingerprint" TEXT,
    "type" TEXT,

    CONSTRAINT "keyPair_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "network" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "type" TEXT NOT NULL DEFAULT 'overlay',
    "mtu" INTEGER NOT NULL DEFAULT 1500,
    "portSecurity" BOOLEAN NOT NULL DEFAULT true,
    "dnsDomain" TEXT,
    "note" TEXT,

    CONSTRAINT "network_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "subnet" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "networkId" UUID NOT NULL,
    "zoneId" UUID,
    "cidr" TEXT NOT NULL,
    "gateway" TEXT,
    "allocationRanges" JSONB NOT NULL DEFAULT '[]',
    "dhcp" BOOLEAN NOT NULL DEFAULT true,
    "leaseSeconds" INTEGER NOT NULL DEFAULT 43200,
    "dnsServers" JSONB NOT NULL DEFAULT '[]',

    CONSTRAINT "subnet_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "securityGroup" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "rules" JSONB NOT NULL DEFAULT '[]',
    "isDefault" BOOLEAN NOT NULL DEFAULT false,

    CONSTRAINT "securityGroup_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "instance" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "hostId" UUID,
    "lastHostId" UUID,
    "instanceTypeId" UUID NOT NULL,
    "vcpus" INTEGER,
    "memoryMib" INTEGER,
    "source" JSONB NOT NULL,
    "rootVolumeId" UUID,
    "guestHostname" TEXT,
    "keyPairIds" UUID[] DEFAULT ARRAY[]::UUID[],
    "firmware" TEXT NOT NULL DEFAULT 'bios',
    "deleteProtection" BOOLEAN NOT NULL DEFAULT false,
    "keepRootVolume" BOOLEAN NOT NULL DEFAULT false,
    "startOnCreate" BOOLEAN NOT NULL DEFAULT true,
    "desiredPower" TEXT NOT NULL DEFAULT 'on',
    "stateReason" TEXT,
    "observed" JSONB,
    "destroyedAt" TIMESTAMPTZ(6),

    CONSTRAINT "instance_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "networkInterface" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "instanceId" UUID,
    "networkId" UUID,
    "subnetId" UUID,
    "zoneId" UUID,
    "mac" TEXT,
    "address" TEXT,
    "index" INTEGER NOT NULL DEFAULT 0,
    "securityGroupIds" UUID[] DEFAULT ARRAY[]::UUID[],

    CONSTRAINT "networkInterface_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "volume" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "volumeTypeId" UUID NOT NULL,
    "sizeGib" INTEGER,
    "source" JSONB,
    "poolId" UUID,
    "role" TEXT NOT NULL DEFAULT 'data',
    "instanceId" UUID,
    "deviceIndex" INTEGER,
    "deleteProtection" BOOLEAN NOT NULL DEFAULT false,
    "destroyedAt" TIMESTAMPTZ(6),

    CONSTRAINT "volume_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "snapshot" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "volumeId" UUID NOT NULL,
    "quiesce" BOOLEAN NOT NULL DEFAULT false,
    "frozen" BOOLEAN,
    "zoneId" UUID,
    "poolId" UUID,
    "parentId" UUID,
    "sizeGib" INTEGER,
    "expiresAt" TIMESTAMPTZ(6),

    CONSTRAINT "snapshot_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "image" (
    "id" UUID NOT NULL,
    "projectId" UUID NOT NULL,
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
    "zoneId" UUID NOT NULL,
    "type" TEXT NOT NULL DEFAULT 'root',
    "format" TEXT,
    "checksum" TEXT,
    "backupStoreId" UUID,
    "architecture" TEXT NOT NULL DEFAULT 'x86_64',
    "minSizeGib" INTEGER,
    "minMemoryMib" INTEGER,
    "firmware" TEXT NOT NULL DEFAULT 'bios',
    "visibility" TEXT NOT NULL DEFAULT 'private',
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "sizeBytes" BIGINT,
    "objectKey" TEXT,
    "deleteProtection" BOOLEAN NOT NULL DEFAULT false,
    "uploadExpiresAt" TIMESTAMPTZ(6),

    CONSTRAINT "image_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "operation" (
    "id" UUID NOT NULL,
    "projectId" UUID,
    "state" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "type" TEXT,
    "targetKind" TEXT,
    "targetId" UUID,
    "actorUserId" UUID,
    "actorApiKeyId" UUID,
    "input" JSONB,
    "progress" INTEGER NOT NULL DEFAULT 0,
    "steps" JSONB NOT NULL DEFAULT '[]',
    "pointOfNoReturnPassed" BOOLEAN NOT NULL DEFAULT false,
    "cancelRequestedAt" TIMESTAMPTZ(6),
    "dispatchedAt" TIMESTAMPTZ(6),
    "startedAt" TIMESTAMPTZ(6),
    "endedAt" TIMESTAMPTZ(6),
    "error" JSONB,
    "result" JSONB,
    "requestId" TEXT,

    CONSTRAINT "operation_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "operationType" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "targetKind" TEXT,
    "inputSchema" JSONB,
    "steps" JSONB,
    "pointOfNoReturn" TEXT,
    "lockMode" TEXT,
    "cancellable" BOOLEAN,
    "permission" TEXT,

    CONSTRAINT "operationType_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "event" (
    "id" UUID NOT NULL,
    "projectId" UUID,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "type" TEXT,
    "severity" TEXT NOT NULL DEFAULT 'info',
    "resourceKind" TEXT,
    "resourceId" UUID,
    "operationId" UUID,
    "payload" JSONB,
    "sequence" BIGINT,

    CONSTRAINT "event_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "auditEntry" (
    "id" UUID NOT NULL,
    "projectId" UUID,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "sequence" BIGINT,
    "actorUserId" UUID,
    "actorApiKeyId" UUID,
    "sourceAddress" TEXT,
    "permission" TEXT,
    "resourceKind" TEXT,
    "resourceId" UUID,
    "input" JSONB,
    "outcome" TEXT,
    "code" TEXT,
    "operationId" UUID,
    "requestId" TEXT,
    "previousHash" TEXT,
    "hash" TEXT,

    CONSTRAINT "auditEntry_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "setting" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deletedAt" TIMESTAMPTZ(6),
    "revision" INTEGER NOT NULL DEFAULT 1,
    "value" JSONB,
    "defaultValue" JSONB,
    "valueSchema" JSONB,
    "unit" TEXT,
    "settingArea" TEXT,

    CONSTRAINT "setting_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "operationLock" (
    "ticket" BIGSERIAL NOT NULL,
    "operationId" UUID NOT NULL,
    "resourceKind" TEXT NOT NULL,
    "resourceId" UUID NOT NULL,
    "mode" TEXT NOT NULL,
    "entered" BOOLEAN NOT NULL DEFAULT false,
    "fromStates" TEXT[],
    "viaState" TEXT,
    "fromState" TEXT,
    "toState" TEXT,

    CONSTRAINT "operationLock_pkey" PRIMARY KEY ("ticket")
);

-- CreateTable
CREATE TABLE "hostClaim" (
    "instanceId" UUID NOT NULL,
    "hostId" UUID NOT NULL,
    "operationId" UUID NOT NULL,
    "vcpus" INTEGER NOT NULL,
    "memoryMib" INTEGER NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "hostClaim_pkey" PRIMARY KEY ("instanceId","hostId")
);

-- CreateTable
CREATE TABLE "hostCapacity" (
    "hostId" UUID NOT NULL,
    "clusterId" UUID NOT NULL,
    "zoneId" UUID NOT NULL,
    "open" BOOLEAN NOT NULL DEFAULT false,
    "vcpus" INTEGER NOT NULL,
    "memoryMib" INTEGER NOT NULL,
    "claimedVcpus" INTEGER NOT NULL DEFAULT 0,
    "claimedMemoryMib" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "hostCapacity_pkey" PRIMARY KEY ("hostId")
);

-- CreateTable
CREATE TABLE "subnetAddress" (
    "subnetId" UUID NOT NULL,
    "address" INET NOT NULL,
    "networkInterfaceId" UUID,

    CONSTRAINT "subnetAddress_pkey" PRIMARY KEY ("subnetId","address")
);

-- CreateTable
CREATE TABLE "subnetCursor" (
    "subnetId" UUID NOT NULL,
    "next" INET NOT NULL,
    "last" INET NOT NULL,

    CONSTRAINT "subnetCursor_pkey" PRIMARY KEY ("subnetId")
);

-- CreateTable
CREATE TABLE "imageCache" (
    "imageId" UUID NOT NULL,
    "poolId" UUID NOT NULL,
    "state" TEXT NOT NULL,
    "operationId" UUID NOT NULL,
    "lastUsedAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "imageCache_pkey" PRIMARY KEY ("imageId","poolId")
);

-- CreateTable
CREATE TABLE "idempotencyKey" (
    "callerId" UUID NOT NULL,
    "key" TEXT NOT NULL,
    "requestHash" TEXT NOT NULL,
    "status" INTEGER NOT NULL,
    "body" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "idempotencyKey_pkey" PRIMARY KEY ("callerId","key")
);

-- CreateTable
CREATE TABLE "secret" (
    "ownerId" UUID NOT NULL,
    "field" TEXT NOT NULL,
    "ciphertext" BYTEA NOT NULL,

    CONSTRAINT "secret_pkey" PRIMARY KEY ("ownerId","field")
);

-- CreateTable
CREATE TABLE "shardLease" (
    "shard" INTEGER NOT NULL,
    "holder" TEXT,
    "expiresAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "shardLease_pkey" PRIMARY KEY ("shard")
);

-- CreateIndex
CREATE INDEX "domain_createdAt_id_idx" ON "domain"("createdAt", "id");

-- CreateIndex
CREATE INDEX "domain_updatedAt_id_idx" ON "domain"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "domain_name_id_idx" ON "domain"("name", "id");

-- CreateIndex
CREATE INDEX "domain_parentId_idx" ON "domain"("parentId");

-- CreateIndex
CREATE INDEX "account_createdAt_id_idx" ON "account"("createdAt", "id");

-- CreateIndex
CREATE INDEX "account_updatedAt_id_idx" ON "account"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "account_name_id_idx" ON "account"("name", "id");

-- CreateIndex
CREATE INDEX "account_domainId_idx" ON "account"("domainId");

-- CreateIndex
CREATE INDEX "account_defaultZoneId_idx" ON "account"("defaultZoneId");

-- CreateIndex
CREATE INDEX "project_createdAt_id_idx" ON "project"("createdAt", "id");

-- CreateIndex
CREATE INDEX "project_updatedAt_id_idx" ON "project"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "project_name_id_idx" ON "project"("name", "id");

-- CreateIndex
CREATE INDEX "project_accountId_idx" ON "project"("accountId");

-- CreateIndex
CREATE INDEX "user_createdAt_id_idx" ON "user"("createdAt", "id");

-- CreateIndex
CREATE INDEX "user_updatedAt_id_idx" ON "user"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "user_name_id_idx" ON "user"("name", "id");

-- CreateIndex
CREATE INDEX "user_userName_id_idx" ON "user"("userName", "id");

-- CreateIndex
CREATE INDEX "user_accountId_idx" ON "user"("accountId");

-- CreateIndex
CREATE INDEX "apiKey_createdAt_id_idx" ON "apiKey"("createdAt", "id");

-- CreateIndex
CREATE INDEX "apiKey_updatedAt_id_idx" ON "apiKey"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "apiKey_name_id_idx" ON "apiKey"("name", "id");

-- CreateIndex
CREATE INDEX "apiKey_userId_idx" ON "apiKey"("userId");

-- CreateIndex
CREATE INDEX "apiKey_accountId_idx" ON "apiKey"("accountId");

-- CreateIndex
CREATE INDEX "apiKey_accessKey_idx" ON "apiKey"("accessKey");

-- CreateIndex
CREATE INDEX "role_createdAt_id_idx" ON "role"("createdAt", "id");

-- CreateIndex
CREATE INDEX "role_updatedAt_id_idx" ON "role"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "role_name_id_idx" ON "role"("name", "id");

-- CreateIndex
CREATE INDEX "roleBinding_createdAt_id_idx" ON "roleBinding"("createdAt", "id");

-- CreateIndex
CREATE INDEX "roleBinding_updatedAt_id_idx" ON "roleBinding"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "roleBinding_name_id_idx" ON "roleBinding"("name", "id");

-- CreateIndex
CREATE INDEX "roleBinding_roleId_idx" ON "roleBinding"("roleId");

-- CreateIndex
CREATE INDEX "roleBinding_subjectId_idx" ON "roleBinding"("subjectId");

-- CreateIndex
CREATE INDEX "roleBinding_targetId_idx" ON "roleBinding"("targetId");

-- CreateIndex
CREATE INDEX "quota_createdAt_id_idx" ON "quota"("createdAt", "id");

-- CreateIndex
CREATE INDEX "quota_updatedAt_id_idx" ON "quota"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "quota_name_id_idx" ON "quota"("name", "id");

-- CreateIndex
CREATE INDEX "quota_scopeId_counter_idx" ON "quota"("scopeId", "counter");

-- CreateIndex
CREATE INDEX "zone_createdAt_id_idx" ON "zone"("createdAt", "id");

-- CreateIndex
CREATE INDEX "zone_updatedAt_id_idx" ON "zone"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "zone_name_id_idx" ON "zone"("name", "id");

-- CreateIndex
CREATE INDEX "pod_createdAt_id_idx" ON "pod"("createdAt", "id");

-- CreateIndex
CREATE INDEX "pod_updatedAt_id_idx" ON "pod"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "pod_name_id_idx" ON "pod"("name", "id");

-- CreateIndex
CREATE INDEX "pod_zoneId_idx" ON "pod"("zoneId");

-- CreateIndex
CREATE INDEX "cluster_createdAt_id_idx" ON "cluster"("createdAt", "id");

-- CreateIndex
CREATE INDEX "cluster_updatedAt_id_idx" ON "cluster"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "cluster_name_id_idx" ON "cluster"("name", "id");

-- CreateIndex
CREATE INDEX "cluster_podId_idx" ON "cluster"("podId");

-- CreateIndex
CREATE INDEX "cluster_zoneId_idx" ON "cluster"("zoneId");

-- CreateIndex
CREATE INDEX "host_createdAt_id_idx" ON "host"("createdAt", "id");

-- CreateIndex
CREATE INDEX "host_updatedAt_id_idx" ON "host"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "host_name_id_idx" ON "host"("name", "id");

-- CreateIndex
CREATE INDEX "host_address_id_idx" ON "host"("address", "id");

-- CreateIndex
CREATE INDEX "host_clusterId_idx" ON "host"("clusterId");

-- CreateIndex
CREATE INDEX "host_podId_idx" ON "host"("podId");

-- CreateIndex
CREATE INDEX "host_zoneId_idx" ON "host"("zoneId");

-- CreateIndex
CREATE INDEX "storageCluster_createdAt_id_idx" ON "storageCluster"("createdAt", "id");

-- CreateIndex
CREATE INDEX "storageCluster_updatedAt_id_idx" ON "storageCluster"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "storageCluster_name_id_idx" ON "storageCluster"("name", "id");

-- CreateIndex
CREATE INDEX "storageCluster_zoneId_idx" ON "storageCluster"("zoneId");

-- CreateIndex
CREATE INDEX "storagePool_createdAt_id_idx" ON "storagePool"("createdAt", "id");

-- CreateIndex
CREATE INDEX "storagePool_updatedAt_id_idx" ON "storagePool"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "storagePool_name_id_idx" ON "storagePool"("name", "id");

-- CreateIndex
CREATE INDEX "storagePool_storageClusterId_idx" ON "storagePool"("storageClusterId");

-- CreateIndex
CREATE INDEX "storagePool_zoneId_idx" ON "storagePool"("zoneId");

-- CreateIndex
CREATE INDEX "backupStore_createdAt_id_idx" ON "backupStore"("createdAt", "id");

-- CreateIndex
CREATE INDEX "backupStore_updatedAt_id_idx" ON "backupStore"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "backupStore_name_id_idx" ON "backupStore"("name", "id");

-- CreateIndex
CREATE INDEX "backupStore_zoneId_idx" ON "backupStore"("zoneId");

-- CreateIndex
CREATE INDEX "volumeType_createdAt_id_idx" ON "volumeType"("createdAt", "id");

-- CreateIndex
CREATE INDEX "volumeType_updatedAt_id_idx" ON "volumeType"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "volumeType_name_id_idx" ON "volumeType"("name", "id");

-- CreateIndex
CREATE INDEX "instanceType_createdAt_id_idx" ON "instanceType"("createdAt", "id");

-- CreateIndex
CREATE INDEX "instanceType_updatedAt_id_idx" ON "instanceType"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "instanceType_name_id_idx" ON "instanceType"("name", "id");

-- CreateIndex
CREATE INDEX "instanceType_vcpus_id_idx" ON "instanceType"("vcpus", "id");

-- CreateIndex
CREATE INDEX "instanceType_memoryMib_id_idx" ON "instanceType"("memoryMib", "id");

-- CreateIndex
CREATE INDEX "instanceType_rootVolumeTypeId_idx" ON "instanceType"("rootVolumeTypeId");

-- CreateIndex
CREATE INDEX "keyPair_createdAt_id_idx" ON "keyPair"("createdAt", "id");

-- CreateIndex
CREATE INDEX "keyPair_projectId_createdAt_id_idx" ON "keyPair"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "keyPair_updatedAt_id_idx" ON "keyPair"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "keyPair_projectId_updatedAt_id_idx" ON "keyPair"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "keyPair_name_id_idx" ON "keyPair"("name", "id");

-- CreateIndex
CREATE INDEX "keyPair_projectId_name_id_idx" ON "keyPair"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "network_createdAt_id_idx" ON "network"("createdAt", "id");

-- CreateIndex
CREATE INDEX "network_projectId_createdAt_id_idx" ON "network"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "network_updatedAt_id_idx" ON "network"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "network_projectId_updatedAt_id_idx" ON "network"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "network_name_id_idx" ON "network"("name", "id");

-- CreateIndex
CREATE INDEX "network_projectId_name_id_idx" ON "network"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "network_zoneId_idx" ON "network"("zoneId");

-- CreateIndex
CREATE INDEX "subnet_createdAt_id_idx" ON "subnet"("createdAt", "id");

-- CreateIndex
CREATE INDEX "subnet_projectId_createdAt_id_idx" ON "subnet"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "subnet_updatedAt_id_idx" ON "subnet"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "subnet_projectId_updatedAt_id_idx" ON "subnet"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "subnet_name_id_idx" ON "subnet"("name", "id");

-- CreateIndex
CREATE INDEX "subnet_projectId_name_id_idx" ON "subnet"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "subnet_networkId_idx" ON "subnet"("networkId");

-- CreateIndex
CREATE INDEX "subnet_zoneId_idx" ON "subnet"("zoneId");

-- CreateIndex
CREATE INDEX "securityGroup_createdAt_id_idx" ON "securityGroup"("createdAt", "id");

-- CreateIndex
CREATE INDEX "securityGroup_projectId_createdAt_id_idx" ON "securityGroup"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "securityGroup_updatedAt_id_idx" ON "securityGroup"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "securityGroup_projectId_updatedAt_id_idx" ON "securityGroup"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "securityGroup_name_id_idx" ON "securityGroup"("name", "id");

-- CreateIndex
CREATE INDEX "securityGroup_projectId_name_id_idx" ON "securityGroup"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "securityGroup_zoneId_idx" ON "securityGroup"("zoneId");

-- CreateIndex
CREATE INDEX "instance_createdAt_id_idx" ON "instance"("createdAt", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_createdAt_id_idx" ON "instance"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "instance_updatedAt_id_idx" ON "instance"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_updatedAt_id_idx" ON "instance"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "instance_name_id_idx" ON "instance"("name", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_name_id_idx" ON "instance"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "instance_state_id_idx" ON "instance"("state", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_state_id_idx" ON "instance"("projectId", "state", "id");

-- CreateIndex
CREATE INDEX "instance_memoryMib_id_idx" ON "instance"("memoryMib", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_memoryMib_id_idx" ON "instance"("projectId", "memoryMib", "id");

-- CreateIndex
CREATE INDEX "instance_vcpus_id_idx" ON "instance"("vcpus", "id");

-- CreateIndex
CREATE INDEX "instance_projectId_vcpus_id_idx" ON "instance"("projectId", "vcpus", "id");

-- CreateIndex
CREATE INDEX "instance_zoneId_idx" ON "instance"("zoneId");

-- CreateIndex
CREATE INDEX "instance_hostId_idx" ON "instance"("hostId");

-- CreateIndex
CREATE INDEX "instance_lastHostId_idx" ON "instance"("lastHostId");

-- CreateIndex
CREATE INDEX "instance_instanceTypeId_idx" ON "instance"("instanceTypeId");

-- CreateIndex
CREATE INDEX "instance_rootVolumeId_idx" ON "instance"("rootVolumeId");

-- CreateIndex
CREATE INDEX "networkInterface_createdAt_id_idx" ON "networkInterface"("createdAt", "id");

-- CreateIndex
CREATE INDEX "networkInterface_projectId_createdAt_id_idx" ON "networkInterface"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "networkInterface_updatedAt_id_idx" ON "networkInterface"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "networkInterface_projectId_updatedAt_id_idx" ON "networkInterface"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "networkInterface_name_id_idx" ON "networkInterface"("name", "id");

-- CreateIndex
CREATE INDEX "networkInterface_projectId_name_id_idx" ON "networkInterface"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "networkInterface_address_id_idx" ON "networkInterface"("address", "id");

-- CreateIndex
CREATE INDEX "networkInterface_projectId_address_id_idx" ON "networkInterface"("projectId", "address", "id");

-- CreateIndex
CREATE INDEX "networkInterface_instanceId_idx" ON "networkInterface"("instanceId");

-- CreateIndex
CREATE INDEX "networkInterface_networkId_idx" ON "networkInterface"("networkId");

-- CreateIndex
CREATE INDEX "networkInterface_subnetId_idx" ON "networkInterface"("subnetId");

-- CreateIndex
CREATE INDEX "networkInterface_zoneId_idx" ON "networkInterface"("zoneId");

-- CreateIndex
CREATE INDEX "networkInterface_mac_idx" ON "networkInterface"("mac");

-- CreateIndex
CREATE INDEX "volume_createdAt_id_idx" ON "volume"("createdAt", "id");

-- CreateIndex
CREATE INDEX "volume_projectId_createdAt_id_idx" ON "volume"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "volume_updatedAt_id_idx" ON "volume"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "volume_projectId_updatedAt_id_idx" ON "volume"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "volume_name_id_idx" ON "volume"("name", "id");

-- CreateIndex
CREATE INDEX "volume_projectId_name_id_idx" ON "volume"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "volume_sizeGib_id_idx" ON "volume"("sizeGib", "id");

-- CreateIndex
CREATE INDEX "volume_projectId_sizeGib_id_idx" ON "volume"("projectId", "sizeGib", "id");

-- CreateIndex
CREATE INDEX "volume_state_id_idx" ON "volume"("state", "id");

-- CreateIndex
CREATE INDEX "volume_projectId_state_id_idx" ON "volume"("projectId", "state", "id");

-- CreateIndex
CREATE INDEX "volume_zoneId_idx" ON "volume"("zoneId");

-- CreateIndex
CREATE INDEX "volume_volumeTypeId_idx" ON "volume"("volumeTypeId");

-- CreateIndex
CREATE INDEX "volume_poolId_idx" ON "volume"("poolId");

-- CreateIndex
CREATE INDEX "volume_instanceId_idx" ON "volume"("instanceId");

-- CreateIndex
CREATE INDEX "snapshot_createdAt_id_idx" ON "snapshot"("createdAt", "id");

-- CreateIndex
CREATE INDEX "snapshot_projectId_createdAt_id_idx" ON "snapshot"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "snapshot_updatedAt_id_idx" ON "snapshot"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "snapshot_projectId_updatedAt_id_idx" ON "snapshot"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "snapshot_name_id_idx" ON "snapshot"("name", "id");

-- CreateIndex
CREATE INDEX "snapshot_projectId_name_id_idx" ON "snapshot"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "snapshot_sizeGib_id_idx" ON "snapshot"("sizeGib", "id");

-- CreateIndex
CREATE INDEX "snapshot_projectId_sizeGib_id_idx" ON "snapshot"("projectId", "sizeGib", "id");

-- CreateIndex
CREATE INDEX "snapshot_volumeId_idx" ON "snapshot"("volumeId");

-- CreateIndex
CREATE INDEX "snapshot_zoneId_idx" ON "snapshot"("zoneId");

-- CreateIndex
CREATE INDEX "snapshot_poolId_idx" ON "snapshot"("poolId");

-- CreateIndex
CREATE INDEX "snapshot_parentId_idx" ON "snapshot"("parentId");

-- CreateIndex
CREATE INDEX "image_createdAt_id_idx" ON "image"("createdAt", "id");

-- CreateIndex
CREATE INDEX "image_projectId_createdAt_id_idx" ON "image"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "image_updatedAt_id_idx" ON "image"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "image_projectId_updatedAt_id_idx" ON "image"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "image_name_id_idx" ON "image"("name", "id");

-- CreateIndex
CREATE INDEX "image_projectId_name_id_idx" ON "image"("projectId", "name", "id");

-- CreateIndex
CREATE INDEX "image_zoneId_idx" ON "image"("zoneId");

-- CreateIndex
CREATE INDEX "image_backupStoreId_idx" ON "image"("backupStoreId");

-- CreateIndex
CREATE INDEX "operation_createdAt_id_idx" ON "operation"("createdAt", "id");

-- CreateIndex
CREATE INDEX "operation_projectId_createdAt_id_idx" ON "operation"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "operation_updatedAt_id_idx" ON "operation"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "operation_projectId_updatedAt_id_idx" ON "operation"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "operation_targetId_createdAt_idx" ON "operation"("targetId", "createdAt");

-- CreateIndex
CREATE INDEX "operation_state_idx" ON "operation"("state");

-- CreateIndex
CREATE INDEX "operationType_createdAt_id_idx" ON "operationType"("createdAt", "id");

-- CreateIndex
CREATE INDEX "operationType_updatedAt_id_idx" ON "operationType"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "operationType_name_id_idx" ON "operationType"("name", "id");

-- CreateIndex
CREATE INDEX "event_createdAt_id_idx" ON "event"("createdAt", "id");

-- CreateIndex
CREATE INDEX "event_projectId_createdAt_id_idx" ON "event"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "event_updatedAt_id_idx" ON "event"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "event_projectId_updatedAt_id_idx" ON "event"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "event_sequence_id_idx" ON "event"("sequence", "id");

-- CreateIndex
CREATE INDEX "event_projectId_sequence_id_idx" ON "event"("projectId", "sequence", "id");

-- CreateIndex
CREATE INDEX "event_resourceId_idx" ON "event"("resourceId");

-- CreateIndex
CREATE INDEX "auditEntry_createdAt_id_idx" ON "auditEntry"("createdAt", "id");

-- CreateIndex
CREATE INDEX "auditEntry_projectId_createdAt_id_idx" ON "auditEntry"("projectId", "createdAt", "id");

-- CreateIndex
CREATE INDEX "auditEntry_updatedAt_id_idx" ON "auditEntry"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "auditEntry_projectId_updatedAt_id_idx" ON "auditEntry"("projectId", "updatedAt", "id");

-- CreateIndex
CREATE INDEX "auditEntry_sequence_id_idx" ON "auditEntry"("sequence", "id");

-- CreateIndex
CREATE INDEX "auditEntry_projectId_sequence_id_idx" ON "auditEntry"("projectId", "sequence", "id");

-- CreateIndex
CREATE INDEX "auditEntry_resourceId_idx" ON "auditEntry"("resourceId");

-- CreateIndex
CREATE INDEX "auditEntry_operationId_idx" ON "auditEntry"("operationId");

-- CreateIndex
CREATE INDEX "setting_createdAt_id_idx" ON "setting"("createdAt", "id");

-- CreateIndex
CREATE INDEX "setting_updatedAt_id_idx" ON "setting"("updatedAt", "id");

-- CreateIndex
CREATE INDEX "setting_name_id_idx" ON "setting"("name", "id");

-- CreateIndex
CREATE INDEX "operationLock_resourceId_ticket_idx" ON "operationLock"("resourceId", "ticket");

-- CreateIndex
CREATE INDEX "operationLock_operationId_idx" ON "operationLock"("operationId");

-- CreateIndex
CREATE INDEX "hostClaim_hostId_idx" ON "hostClaim"("hostId");

-- CreateIndex
CREATE INDEX "hostCapacity_zoneId_open_idx" ON "hostCapacity"("zoneId", "open");

-- CreateIndex
CREATE INDEX "subnetAddress_subnetId_networkInterfaceId_idx" ON "subnetAddress"("subnetId", "networkInterfaceId");

-- CreateIndex
CREATE INDEX "idempotencyKey_createdAt_idx" ON "idempotencyKey"("createdAt");

