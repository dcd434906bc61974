-- As before, with `ephor.leaf` written out: PostgreSQL does not inline that function (it is marked immutable, `convert_to` is not),
-- and calling it was a sixth of the gate's time.
-- Appends events to a stream that stands at (p_seq, p_prev). A stream that stands elsewhere is an error: no fork.
CREATE OR REPLACE FUNCTION ephor.append(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_events ephor.event_row[])
RETURNS bytea LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  v_count int := coalesce(array_length(p_events, 1), 0);
  v_hash bytea;
BEGIN
  IF v_count = 0 THEN RETURN p_prev; END IF;
  INSERT INTO ephor.events (stream, seq, id, at_ms, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body)
  SELECT p_stream, p_seq + e.n, e.id, p_now_ms, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body
  FROM unnest(p_events) WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n);
  SELECT sha256(p_prev || string_agg(
    sha256(convert_to(e.body || chr(10) || e.decision || chr(10) || coalesce(e.reason, ''), 'UTF8')), ''::bytea ORDER BY e.n)) INTO v_hash
  FROM unnest(p_events) WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n);
  UPDATE ephor.streams SET seq = p_seq + v_count, hash = v_hash WHERE id = p_stream AND seq = p_seq AND hash = p_prev;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream % does not stand at %', p_stream, p_seq USING ERRCODE = 'EP001';
  END IF;
  INSERT INTO ephor.batches (stream, first_seq, last_seq, prev, hash, at_ms)
  VALUES (p_stream, p_seq + 1, p_seq + v_count, p_prev, v_hash, p_now_ms);
  RETURN v_hash;
END $$;
