-- Addresses compare as addresses: 10.0.0.9 is before 10.0.0.10.
ALTER TABLE "networkInterface" ALTER COLUMN "address" TYPE INET USING "address"::inet;
ALTER TABLE "subnet" ALTER COLUMN "cidr" TYPE INET USING "cidr"::inet;
ALTER TABLE "subnet" ALTER COLUMN "gateway" TYPE INET USING "gateway"::inet;

-- User data may stand for bytes.
ALTER TABLE "instance" ADD COLUMN "userDataEncoding" TEXT NOT NULL DEFAULT 'plain';
