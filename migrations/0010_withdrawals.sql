-- As before; what takes something away has a kill position, also where it kills nothing.
CREATE OR REPLACE FUNCTION ephor.apply_trust(p jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_now_ms bigint := (p ->> 'at')::bigint; v_version bigint; v_current bigint; v_position bigint; v_event ephor.event_row;
BEGIN
  PERFORM pg_advisory_xact_lock(4202171);
  SELECT trust_version INTO v_current FROM ephor.gate WHERE id = 1;
  IF (p ->> 'expected_version') IS NOT NULL AND v_current <> (p ->> 'expected_version')::bigint THEN
    RETURN jsonb_build_object('outcome', 'stale', 'version', v_current);
  END IF;
  UPDATE ephor.gate SET trust_version = trust_version + 1 WHERE id = 1 RETURNING trust_version INTO v_version;
  DELETE FROM ephor.trust_objects o USING jsonb_to_recordset(coalesce(p -> 'deletes', '[]')) AS d(kind text, name text)
  WHERE o.kind = d.kind AND o.name = d.name;
  INSERT INTO ephor.trust_objects (kind, name, source, body, version)
  SELECT u.kind, u.name, u.source, u.body, v_version
  FROM jsonb_to_recordset(coalesce(p -> 'upserts', '[]')) AS u(kind text, name text, source text, body jsonb)
  ON CONFLICT (kind, name) DO UPDATE SET source = excluded.source, body = excluded.body, version = excluded.version;
  INSERT INTO ephor.trust_log (version, kind, name, deleted)
  SELECT v_version, d.kind, d.name, true FROM jsonb_to_recordset(coalesce(p -> 'deletes', '[]')) AS d(kind text, name text)
  UNION ALL
  SELECT v_version, u.kind, u.name, false FROM jsonb_to_recordset(coalesce(p -> 'upserts', '[]')) AS u(kind text, name text);
  IF (p ->> 'source') IS NOT NULL AND (p ->> 'digest') IS NOT NULL THEN
    INSERT INTO ephor.trust_sources (source, digest, version, applied_at_ms) VALUES (p ->> 'source', p ->> 'digest', v_version, v_now_ms)
    ON CONFLICT (source) DO UPDATE SET digest = excluded.digest, version = excluded.version, applied_at_ms = excluded.applied_at_ms;
    INSERT INTO ephor.trust_digests (source, digest, version, applied_at_ms) VALUES (p ->> 'source', p ->> 'digest', v_version, v_now_ms)
    ON CONFLICT (source, digest) DO UPDATE SET version = excluded.version, applied_at_ms = excluded.applied_at_ms;
  END IF;
  -- The kill position moves on with whatever takes something away, so that who acknowledges it has taken the change in. A
  -- removed name may be given again: what was issued under it stays dead by position, new things may live.
  IF jsonb_array_length(coalesce(p -> 'kills', '[]')) > 0 OR coalesce((p ->> 'withdraws')::boolean, true) THEN
    UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch INTO v_position;
    INSERT INTO ephor.dead_keys (key, position, active, ends_at, kill_id)
    SELECT k.kind || ':' || k.name, v_position, false, NULL, 'trust:' || v_version
    FROM jsonb_to_recordset(coalesce(p -> 'kills', '[]')) AS k(kind text, name text) ORDER BY 1
    ON CONFLICT (key) DO UPDATE SET position = excluded.position;
    PERFORM pg_notify('ephor_kill', 'trust:' || v_version);
  END IF;
  SELECT * INTO v_event FROM jsonb_populate_record(NULL::ephor.event_row, p -> 'event');
  IF v_event.id IS NOT NULL THEN
    PERFORM ephor.append_control(v_now_ms, ARRAY[v_event]);
  END IF;
  PERFORM pg_notify('ephor_trust', v_version::text);
  RETURN jsonb_build_object('outcome', 'applied', 'version', v_version, 'position', v_position, 'event_id', v_event.id);
END $$;
