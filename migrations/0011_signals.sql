-- What a transmitter's security event does, with its record, once: its name is taken in the same step. `p_does` is
-- {"kill": …} as ephor.kill takes it, {"lift": {"key", "actor"}}, or {}; `p_otherwise` is recorded where nothing is lifted.
CREATE FUNCTION ephor.signal(p_now_ms bigint, p_once jsonb, p_does jsonb, p_event jsonb, p_otherwise jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  v_now bigint := p_now_ms / 1000; v_key text := p_does -> 'lift' ->> 'key'; v_actor text := p_does -> 'lift' ->> 'actor';
  v_until bigint; v_outcome text := 'recorded'; v_event jsonb := p_event;
BEGIN
  -- waits for whoever is doing the same event now
  INSERT INTO ephor.replay (key, holder, exp)
  VALUES (p_once ->> 'key', p_once ->> 'holder', (p_once ->> 'exp')::bigint) ON CONFLICT (key) DO NOTHING;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('outcome', 'repeated', 'position',
      (SELECT k.position FROM ephor.replay r JOIN ephor.kills k ON k.id = r.holder WHERE r.key = p_once ->> 'key'));
  END IF;
  IF p_does ? 'kill' THEN
    RETURN ephor.kill(p_now_ms, p_does -> 'kill', p_event) || jsonb_build_object('outcome', 'killed');
  END IF;
  IF v_key IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(4202171);
    -- Only what this actor alone has killed until further notice. A kill of several names counts for each of them even after a
    -- restore, for a restore of one name marks it as a whole.
    IF EXISTS (SELECT 1 FROM ephor.dead_keys d WHERE d.key = v_key AND d.active AND d.ends_at IS NULL)
      AND EXISTS (SELECT 1 FROM ephor.kills k WHERE k.keys @> ARRAY[v_key] AND k.actor = v_actor AND k.restored_at_ms IS NULL AND k.ends_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM ephor.kills k WHERE k.keys @> ARRAY[v_key] AND k.actor <> v_actor
        AND (k.ends_at IS NULL OR k.ends_at > v_now) AND (k.restored_at_ms IS NULL OR cardinality(k.keys) > 1))
    THEN
      UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1;
      -- a kill with an end stands until then
      SELECT max(k.ends_at) INTO v_until FROM ephor.kills k
      WHERE k.keys @> ARRAY[v_key] AND k.restored_at_ms IS NULL AND k.ends_at > v_now;
      UPDATE ephor.dead_keys SET active = v_until IS NOT NULL, ends_at = v_until WHERE key = v_key;
      UPDATE ephor.kills SET restored_at_ms = p_now_ms
      WHERE keys @> ARRAY[v_key] AND actor = v_actor AND restored_at_ms IS NULL AND ends_at IS NULL;
      PERFORM pg_notify('ephor_kill', 'restore');
      v_outcome := 'lifted';
    ELSE
      v_outcome := 'not_lifted';
      v_event := p_otherwise;
    END IF;
  END IF;
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, v_event) e;
  RETURN jsonb_build_object('outcome', v_outcome);
END $$;
