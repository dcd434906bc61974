CREATE INDEX "secret_versions_in_use" ON "ephor"."secret_versions" USING btree ("name") WHERE "ephor"."secret_versions"."retired_at" is null;--> statement-breakpoint
-- A version that waits: sealed before its upstream hears of it, and not yet the one that counts. One at most, of a secret that is there.
CREATE FUNCTION ephor.hold_secret(p_now_ms bigint, p_secret jsonb)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_name text := p_secret ->> 'name'; v_version int := (p_secret ->> 'version')::int; v_counts int; v_last int;
BEGIN
  PERFORM pg_advisory_xact_lock(4202172, hashtext(v_name));
  SELECT version INTO v_counts FROM ephor.secrets WHERE name = v_name;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM 1 FROM ephor.secret_versions WHERE name = v_name AND retired_at IS NULL AND version > v_counts;
  IF FOUND THEN RETURN false; END IF;
  SELECT max(version) INTO v_last FROM ephor.secret_versions WHERE name = v_name;
  IF v_last + 1 <> v_version THEN RETURN false; END IF;
  INSERT INTO ephor.secret_versions (name, version, sealed, fingerprint, created_at, created_by)
  VALUES (v_name, v_version, p_secret -> 'sealed', p_secret ->> 'fingerprint', p_now_ms, p_secret ->> 'by');
  RETURN true;
END $$;
--> statement-breakpoint
-- The end of its wait: it counts from now on, or it never will. False when a value that somebody set has overtaken it.
CREATE FUNCTION ephor.settle_secret(p_now_ms bigint, p_name text, p_version int, p_counts boolean, p_by text, p_event jsonb)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4202172, hashtext(p_name));
  PERFORM 1 FROM ephor.secrets s JOIN ephor.secret_versions v ON v.name = s.name
    WHERE s.name = p_name AND v.version = p_version AND v.version > s.version AND v.retired_at IS NULL;
  IF NOT FOUND THEN RETURN false; END IF;
  IF p_counts THEN
    UPDATE ephor.secret_versions SET retired_at = p_now_ms WHERE name = p_name AND version < p_version AND retired_at IS NULL;
    UPDATE ephor.secrets SET version = p_version, updated_at = p_now_ms, updated_by = p_by WHERE name = p_name;
  ELSE
    UPDATE ephor.secret_versions SET retired_at = p_now_ms WHERE name = p_name AND version = p_version;
  END IF;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN true;
END $$;
