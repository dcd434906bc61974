-- As before, but that whoever erases a call while its answer is being written down meets it: one waits for the other, and then
-- sees what the other did. Else the answer, not yet to be seen by the one, would have stayed.
CREATE OR REPLACE FUNCTION ephor.keep(p_kept jsonb)
RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT d.event FROM ephor.recordings d
  WHERE d.event IN (SELECT k."of" FROM jsonb_to_recordset(p_kept) AS k("of" text)) ORDER BY d.event FOR SHARE;
  INSERT INTO ephor.recordings (event, "of", part, txn, resource, sealed, kept_at, until)
  SELECT k.event, k."of", k.part, k.txn, k.resource, k.sealed, k.kept_at, k.until
  FROM jsonb_to_recordset(p_kept) AS k(event text, "of" text, part text, txn text, resource text, sealed jsonb, kept_at bigint, until bigint)
  WHERE NOT EXISTS (SELECT 1 FROM ephor.recordings d WHERE d.event = k."of" AND d.erased_at IS NOT NULL);
END;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION ephor.erase_recordings(p_now_ms bigint, p_event text, p_by text, p_because text, p_row jsonb)
RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_erased text[];
BEGIN
  -- Before the look at what is there, so that it is as of after the wait.
  PERFORM 1 FROM ephor.recordings WHERE event = p_event FOR UPDATE;
  WITH gone AS (
    UPDATE ephor.recordings SET sealed = NULL, erased_at = p_now_ms / 1000, erased_by = p_by, erased_because = p_because
    WHERE (event = p_event OR "of" = p_event) AND sealed IS NOT NULL RETURNING event
  ) SELECT coalesce(array_agg(event ORDER BY event), '{}') INTO v_erased FROM gone;
  IF cardinality(v_erased) > 0 THEN PERFORM ephor.record_control(p_now_ms, p_row); END IF;
  RETURN v_erased;
END $$;
