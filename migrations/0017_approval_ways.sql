ALTER TABLE "ephor"."approval_decisions" ADD COLUMN "via" text;--> statement-breakpoint
-- As before, with the way by which a person decided.
CREATE OR REPLACE FUNCTION ephor.decide_approval(p_now_ms bigint, p_id text, p_decision jsonb, p_status text, p_seen bigint, p_event jsonb)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a ephor.approvals%ROWTYPE; v_now bigint := p_now_ms / 1000; v_state text; v_epoch bigint;
BEGIN
  SELECT * INTO a FROM ephor.approvals WHERE id = p_id FOR UPDATE;
  IF NOT FOUND THEN RETURN 'unknown'; END IF;
  v_state := ephor.approval_state(a, v_now);
  IF v_state <> 'pending' THEN RETURN v_state; END IF;
  IF (SELECT count(*) FROM ephor.approval_decisions d WHERE d.approval = p_id) <> p_seen THEN RETURN 'moved'; END IF;
  SELECT g.epoch INTO v_epoch FROM ephor.gate g WHERE g.id = 1;
  INSERT INTO ephor.approval_decisions (approval, decider, via, decision, reason, at, kill_keys, kill_epoch)
  VALUES (p_id, p_decision ->> 'decider', p_decision ->> 'via', p_decision ->> 'decision', p_decision ->> 'reason', v_now,
    ARRAY(SELECT jsonb_array_elements_text(p_decision -> 'kill_keys')), v_epoch);
  UPDATE ephor.approvals SET status = p_status WHERE id = p_id;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN 'decided';
END $$;
