-- Whether whoever asked for a change may still have it made; null: no kill covers them. Called in the very statement that makes
-- the change, so that no kill comes between, and none waits for a process that stands still between two statements.
CREATE FUNCTION ephor.asker_lives(p_asker jsonb, p_now_ms bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_dead boolean;
BEGIN
  IF p_asker IS NULL THEN RETURN true; END IF;
  -- Alone, as kills hold it: what follows may want it alone, and two that shared it would wait for each other.
  PERFORM pg_advisory_xact_lock(4202171);
  -- INVARIANT: a statement after the lock, so that its snapshot sees every kill that was answered (READ COMMITTED).
  SELECT ephor.is_dead(
    ARRAY(SELECT k FROM jsonb_array_elements_text(p_asker -> 'keys') WITH ORDINALITY AS e(k, n) ORDER BY n),
    ARRAY(SELECT k::bigint FROM jsonb_array_elements_text(p_asker -> 'epochs') WITH ORDINALITY AS e(k, n) ORDER BY n),
    0, p_now_ms / 1000) INTO v_dead;
  RETURN NOT v_dead;
END $$;
