-- A new version of a secret. The version that was sealed must be the next one: two writers at once take turns.
CREATE FUNCTION ephor.put_secret(p_now_ms bigint, p_secret jsonb, p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_name text := p_secret ->> 'name'; v_version int := (p_secret ->> 'version')::int; v_last int;
BEGIN
  PERFORM pg_advisory_xact_lock(4202172, hashtext(v_name));
  SELECT coalesce(max(version), 0) INTO v_last FROM ephor.secret_versions WHERE name = v_name;
  IF v_last + 1 <> v_version THEN RETURN jsonb_build_object('outcome', 'moved'); END IF;
  UPDATE ephor.secret_versions SET retired_at = p_now_ms WHERE name = v_name AND retired_at IS NULL;
  INSERT INTO ephor.secret_versions (name, version, sealed, fingerprint, created_at, created_by)
  VALUES (v_name, v_version, p_secret -> 'sealed', p_secret ->> 'fingerprint', p_now_ms, p_secret ->> 'by');
  INSERT INTO ephor.secrets (name, owner, version, created_at, updated_at, updated_by)
  VALUES (v_name, coalesce(p_secret ->> 'owner', p_secret ->> 'by'), v_version, p_now_ms, p_now_ms, p_secret ->> 'by')
  ON CONFLICT (name) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at, updated_by = excluded.updated_by,
    owner = coalesce(p_secret ->> 'owner', secrets.owner);
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN jsonb_build_object('outcome', 'put');
END $$;
--> statement-breakpoint
-- Removes a secret with all its versions. Versions of one that is set again later go on counting, so no place is used twice.
CREATE FUNCTION ephor.remove_secret(p_now_ms bigint, p_name text, p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4202172, hashtext(p_name));
  DELETE FROM ephor.secrets WHERE name = p_name;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'unknown'); END IF;
  -- The ciphertext goes; the row stays, so that the version is not given again.
  UPDATE ephor.secret_versions SET sealed = '{}'::jsonb, fingerprint = '', retired_at = coalesce(retired_at, p_now_ms) WHERE name = p_name;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN jsonb_build_object('outcome', 'removed');
END $$;
--> statement-breakpoint
-- The mint's result, before anything is released: from here on the worker can end it whatever happens to us.
-- A lease that a worker has taken meanwhile as left behind is due again, now with its handle.
CREATE FUNCTION ephor.lease_minted(p_now_ms bigint, p_id text, p_handle jsonb, p_upstream_expires_at bigint, p_marks jsonb)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_status text;
BEGIN
  UPDATE ephor.leases SET handle = p_handle, upstream_expires_at = p_upstream_expires_at,
    status = CASE WHEN status = 'intent' THEN status ELSE 'ending' END,
    next_try_at_ms = CASE WHEN status = 'intent' THEN next_try_at_ms ELSE p_now_ms END,
    claimed_until_ms = CASE WHEN status = 'intent' THEN claimed_until_ms ELSE 0 END
  WHERE id = p_id RETURNING status INTO v_status;
  INSERT INTO ephor.lease_marks (value, kind, lease, created_at)
  SELECT m.value, m.kind, p_id, p_now_ms FROM jsonb_to_recordset(p_marks) AS m(kind text, value text)
  ON CONFLICT DO NOTHING;
  RETURN v_status = 'intent';
END $$;
--> statement-breakpoint
-- It is over at its upstream.
CREATE FUNCTION ephor.end_lease(p_now_ms bigint, p_id text, p_event jsonb)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE ephor.leases SET status = 'ended', ended_at = p_now_ms / 1000, handle = NULL, last_problem = NULL
  WHERE id = p_id AND status = 'ending';
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN true;
END $$;
