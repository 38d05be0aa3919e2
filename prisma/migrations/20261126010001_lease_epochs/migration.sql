-- A lease's epoch rises each time the shard gets another holder, whatever statement gives it, and never falls. It is counted in milliseconds of
-- this clock, so that hosts which remember a later epoch do not refuse everybody after the database was brought back from a backup.
ALTER TABLE "shardLease" ADD COLUMN "epoch" BIGINT NOT NULL DEFAULT 0;

CREATE FUNCTION belay_lease_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.holder IS DISTINCT FROM OLD.holder THEN
    NEW.epoch := greatest(OLD.epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
  ELSE
    NEW.epoch := OLD.epoch;
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER "shardLease_epoch" BEFORE UPDATE ON "shardLease" FOR EACH ROW EXECUTE FUNCTION belay_lease_epoch();
