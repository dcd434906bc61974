-- As before, by somebody who stands: not killed now, and, if an operator, as he was when he was judged. The epoch is read before
-- the log: a change that comes between the two is after the epoch, and the decision dead.
CREATE OR REPLACE FUNCTION ephor.decide_approval(p_now_ms bigint, p_id text, p_decision jsonb, p_status text, p_seen bigint, p_event jsonb)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a ephor.approvals%ROWTYPE; v_now bigint := p_now_ms / 1000; v_state text; v_epoch bigint; v_keys text[];
BEGIN
  SELECT * INTO a FROM ephor.approvals WHERE id = p_id FOR UPDATE;
  IF NOT FOUND THEN RETURN 'unknown'; END IF;
  v_state := ephor.approval_state(a, v_now);
  IF v_state <> 'pending' THEN RETURN v_state; END IF;
  IF (SELECT count(*) FROM ephor.approval_decisions d WHERE d.approval = p_id) <> p_seen THEN RETURN 'moved'; END IF;
  SELECT g.epoch INTO v_epoch FROM ephor.gate g WHERE g.id = 1;
  v_keys := ARRAY(SELECT jsonb_array_elements_text(p_decision -> 'kill_keys'));
  IF EXISTS (SELECT 1 FROM ephor.trust_log l WHERE l.version > (p_decision ->> 'trust_version')::bigint
    AND l.kind = 'operators' AND l.name = p_decision ->> 'operator') THEN RETURN 'moved'; END IF;
  IF ephor.is_dead(v_keys, array_fill(v_epoch, ARRAY[cardinality(v_keys)]), v_epoch, v_now) THEN RETURN 'killed'; END IF;
  INSERT INTO ephor.approval_decisions (approval, decider, via, decision, reason, at, kill_keys, kill_epoch)
  VALUES (p_id, p_decision ->> 'decider', p_decision ->> 'via', p_decision ->> 'decision', p_decision ->> 'reason', v_now,
    v_keys, v_epoch);
  UPDATE ephor.approvals SET status = p_status WHERE id = p_id;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN 'decided';
END $$;
