-- A pool that is being deleted has no room, whoever looked at it before: what was placed there by then is seen by its deletion, and what comes
-- later goes elsewhere.
CREATE OR REPLACE FUNCTION belay_claim_room(pool_ids uuid[], for_volumes boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  pool record;
  promised bigint;
  closed boolean;
BEGIN
  -- What an undo takes back was its own a moment ago.
  IF cardinality(pool_ids) = 0 OR current_setting('belay.takes_back', true) = 'on' THEN RETURN; END IF;
  FOR pool IN SELECT id, state, "totalGib" * overprovision AS promisable FROM "storagePool" WHERE id = ANY(pool_ids) ORDER BY id FOR NO KEY UPDATE LOOP
    promised := belay_promised_gib(pool.id);
    closed := pool.state <> 'ready' OR (for_volumes AND belay_pool_is_open(pool.id) IS FALSE);
    IF promised > pool.promisable OR closed THEN
      RAISE EXCEPTION 'storage pool % has no room for this any more: it would promise % GiB of % GiB%', pool.id, promised, floor(pool.promisable),
        CASE WHEN closed THEN ', and is closed' ELSE '' END
        USING ERRCODE = '23514', CONSTRAINT = 'storagePool_room', TABLE = 'storagePool';
    END IF;
  END LOOP;
END $$;
