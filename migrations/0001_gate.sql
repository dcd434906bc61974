-- The gate, and the appends to the ledger. See docs/adr and src/authz: one step in the database decides every release.
-- Advisory lock 4202171 is the gate: releases share it, kill, restore and apply hold it alone.
INSERT INTO ephor.gate (id, epoch, trust_version) VALUES (1, 1, 1);
--> statement-breakpoint
CREATE TYPE ephor.event_row AS (
  id text, type text, decision text, reason text, agent text, sub text, resource text,
  txn text, jti text, trace_id text, body text
);
--> statement-breakpoint
CREATE TYPE ephor.gate_row AS (
  i int,
  trust_version bigint,
  -- the event, granted or refused
  id text, type text, agent text, sub text, resource text, txn text, jti text, trace_id text, body text,
  -- what would kill it, and the epoch each was taken on at (null: now)
  kill_keys text[], kill_epochs bigint[],
  -- an existing task and the nodes of the path, which must be open
  check_txn text, check_nodes text[],
  -- works once
  -- (a holder other than this event: who may use it again, a DPoP key that continues a single-use token)
  replay_keys text[], replay_holders text[], replay_exps bigint[],
  -- whose subject token this is
  bind_key text, bind_open boolean, bind_node text, bind_single boolean, bind_jkt text, bind_exp bigint,
  -- what is made
  new_task jsonb, new_node jsonb, new_hop jsonb
);
--> statement-breakpoint
-- sha256 over the exact body, the decision and the reason. `seq` and `stream` are bound by the order in the batch.
CREATE FUNCTION ephor.leaf(body text, decision text, reason text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(body || chr(10) || decision || chr(10) || coalesce(reason, ''), 'UTF8'));
--> statement-breakpoint
-- Appends events to a stream that stands at (p_seq, p_prev). A stream that stands elsewhere is an error: no fork.
CREATE FUNCTION ephor.append(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_events ephor.event_row[])
RETURNS bytea LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  v_count int := coalesce(array_length(p_events, 1), 0);
  v_hash bytea;
BEGIN
  IF v_count = 0 THEN RETURN p_prev; END IF;
  INSERT INTO ephor.events (stream, seq, id, at_ms, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body)
  SELECT p_stream, p_seq + e.n, e.id, p_now_ms, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body
  FROM unnest(p_events) WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n);
  SELECT sha256(p_prev || string_agg(ephor.leaf(e.body, e.decision, e.reason), ''::bytea ORDER BY e.n)) INTO v_hash
  FROM unnest(p_events) WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n);
  UPDATE ephor.streams SET seq = p_seq + v_count, hash = v_hash WHERE id = p_stream AND seq = p_seq AND hash = p_prev;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream % does not stand at %', p_stream, p_seq USING ERRCODE = 'EP001';
  END IF;
  INSERT INTO ephor.batches (stream, first_seq, last_seq, prev, hash, at_ms)
  VALUES (p_stream, p_seq + 1, p_seq + v_count, p_prev, v_hash, p_now_ms);
  RETURN v_hash;
END $$;
--> statement-breakpoint
-- Appends to the stream `control` (kills, trust changes, task ends): the row lock orders the writers.
CREATE FUNCTION ephor.append_control(p_now_ms bigint, p_events ephor.event_row[])
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE v ephor.streams%ROWTYPE;
BEGIN
  INSERT INTO ephor.streams (id, replica, seq, hash, started_at_ms)
  VALUES ('control', 'all', 0, sha256('control'::bytea), p_now_ms) ON CONFLICT (id) DO NOTHING;
  SELECT * INTO v FROM ephor.streams WHERE id = 'control' FOR UPDATE;
  PERFORM ephor.append('control', v.seq, v.hash, p_now_ms, p_events);
END $$;
--> statement-breakpoint
CREATE FUNCTION ephor.is_dead(p_keys text[], p_epochs bigint[], p_epoch bigint, p_now bigint)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
  SELECT 1 FROM unnest(p_keys, p_epochs) AS k(key, epoch)
  JOIN ephor.dead_keys d ON d.key = k.key
  WHERE (d.active AND (d.ends_at IS NULL OR d.ends_at > p_now)) OR d.position > coalesce(k.epoch, p_epoch)
);
--> statement-breakpoint
-- Decides and records a batch of releases. Called alone, in autocommit: the lock is held by this statement only.
--
-- Its plans are made once in a connection's life, perhaps while the tables are empty, and must hold when they have millions
-- of rows: every read and join goes by an index.
CREATE FUNCTION ephor.gate(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_rows jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  g ephor.gate%ROWTYPE;
  v_now bigint := p_now_ms / 1000;
  v_rows ephor.gate_row[];
  v_checks text[];
  v_replays int;
  v_dead int[] := '{}';
  v_out text[];
  v_txn text[];
  v_node text[];
  v_free int;
  v_count int;
  v_hash bytea;
  v_events ephor.event_row[];
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4202171);
  -- INVARIANT: a statement after the lock, so that its snapshot sees every kill that was answered (READ COMMITTED).
  SELECT * INTO g FROM ephor.gate WHERE id = 1;
  SELECT array_agg(r ORDER BY r.i), array_agg(r.check_txn) FILTER (WHERE r.check_txn IS NOT NULL),
    coalesce(sum(cardinality(r.replay_keys)), 0)
  INTO v_rows, v_checks, v_replays
  FROM jsonb_populate_recordset(NULL::ephor.gate_row, p_rows) AS r;
  -- An end of a task takes its row lock: wait for it, then read what it left.
  IF v_checks IS NOT NULL THEN
    PERFORM 1 FROM ephor.tasks t WHERE t.txn = ANY (v_checks) ORDER BY t.txn FOR SHARE;
  END IF;
  -- Kills are few: one look at all keys of the batch, and at each row's own only where something was found.
  IF EXISTS (SELECT 1 FROM ephor.dead_keys d WHERE d.key = ANY (ARRAY(SELECT k FROM unnest(v_rows) r, unnest(r.kill_keys) k))) THEN
    v_dead := ARRAY(SELECT r.i FROM unnest(v_rows) r WHERE ephor.is_dead(r.kill_keys, r.kill_epochs, g.epoch, v_now));
  END IF;

  SELECT array_agg(o.outcome ORDER BY o.i), array_agg(o.txn ORDER BY o.i), array_agg(o.node ORDER BY o.i),
    count(*) FILTER (WHERE o.bind_key IS NOT NULL AND o.outcome = 'granted' AND o.txn IS NULL)
  INTO v_out, v_txn, v_node, v_free
  FROM (
    SELECT r.i, r.bind_key, b.txn, b.node, CASE
      WHEN r.trust_version <> g.trust_version THEN 'stale'
      WHEN r.i = ANY (v_dead) THEN 'killed'
      WHEN r.check_txn IS NOT NULL AND t.txn IS NULL THEN 'task_unknown'
      WHEN t.ended_at IS NOT NULL THEN 'task_ended'
      WHEN t.deadline <= v_now THEN 'task_expired'
      WHEN r.check_nodes IS NOT NULL AND EXISTS (
        SELECT 1 FROM ephor.nodes n WHERE n.id = ANY (r.check_nodes) AND n.ended_at IS NOT NULL) THEN 'node_ended'
      WHEN b.agent <> r.agent THEN 'subject_bound_elsewhere'
      WHEN b.single_use AND (r.bind_open OR b.jkt IS NULL OR b.jkt IS DISTINCT FROM r.bind_jkt) THEN 'single_use_spent'
      -- Before what was spent is looked at: the request comes again, and names the task that the token was spent for.
      WHEN b.key IS NOT NULL AND NOT r.bind_open AND b.txn <> r.txn THEN 'continue'
      WHEN r.replay_keys IS NOT NULL AND EXISTS (
        SELECT 1 FROM unnest(r.replay_keys, r.replay_holders) AS k(key, holder) JOIN ephor.replay p ON p.key = k.key
        WHERE p.holder <> coalesce(k.holder, r.id)) THEN 'replayed'
      ELSE 'granted' END AS outcome
    FROM unnest(v_rows) r
    LEFT JOIN ephor.tasks t ON t.txn = r.check_txn
    LEFT JOIN ephor.bindings b ON b.key = r.bind_key
  ) o;

  -- A subject token goes to whoever is first, over all replicas: insert, and where somebody was faster read who won.
  IF v_free > 0 THEN
    INSERT INTO ephor.bindings (key, agent, txn, node, single_use, jkt, exp)
    SELECT r.bind_key, r.agent, r.txn, r.bind_node, r.bind_single, r.bind_jkt, r.bind_exp FROM unnest(v_rows) r
    WHERE r.bind_key IS NOT NULL AND v_out[r.i] = 'granted' AND v_txn[r.i] IS NULL ORDER BY r.bind_key, r.i
    ON CONFLICT (key) DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < v_free THEN
      SELECT array_agg(o.outcome ORDER BY o.i), array_agg(o.txn ORDER BY o.i), array_agg(o.node ORDER BY o.i)
      INTO v_out, v_txn, v_node
      FROM (
        SELECT r.i, b.txn, b.node, CASE
          WHEN v_out[r.i] <> 'granted' OR b.key IS NULL OR b.txn = r.txn THEN v_out[r.i]
          WHEN b.agent <> r.agent THEN 'subject_bound_elsewhere'
          WHEN b.single_use THEN 'single_use_spent'
          WHEN r.bind_open THEN v_out[r.i]
          ELSE 'continue' END AS outcome
        FROM unnest(v_rows) r LEFT JOIN ephor.bindings b ON b.key = r.bind_key
      ) o;
    END IF;
  END IF;

  IF v_replays > 0 THEN
    SELECT coalesce(sum(cardinality(r.replay_keys)), 0) INTO v_free FROM unnest(v_rows) r WHERE v_out[r.i] = 'granted';
    INSERT INTO ephor.replay (key, holder, exp)
    SELECT k.key, coalesce(k.holder, r.id), k.exp
    FROM unnest(v_rows) r CROSS JOIN unnest(r.replay_keys, r.replay_holders, r.replay_exps) AS k(key, holder, exp)
    WHERE v_out[r.i] = 'granted' ORDER BY k.key, r.i
    ON CONFLICT (key) DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < v_free THEN
      SELECT array_agg(CASE WHEN v_out[r.i] = 'granted' AND r.replay_keys IS NOT NULL AND EXISTS (
          SELECT 1 FROM unnest(r.replay_keys, r.replay_holders) AS k(key, holder) JOIN ephor.replay p ON p.key = k.key
          WHERE p.holder <> coalesce(k.holder, r.id))
        THEN 'replayed' ELSE v_out[r.i] END ORDER BY r.i)
      INTO v_out FROM unnest(v_rows) r;
      -- A refused request burns nothing.
      IF 'replayed' = ANY (v_out) THEN
        DELETE FROM ephor.replay p USING unnest(v_rows) r WHERE p.holder = r.id AND v_out[r.i] = 'replayed' AND p.key = ANY (r.replay_keys);
        DELETE FROM ephor.bindings b USING unnest(v_rows) r WHERE b.key = r.bind_key AND b.txn = r.txn AND r.new_task IS NOT NULL AND v_out[r.i] = 'replayed';
      END IF;
    END IF;
  END IF;

  INSERT INTO ephor.tasks (txn, opener, subject, sub, purpose, ceiling, opened_at, deadline, trace_id)
  SELECT t.txn, t.opener, t.subject, t.sub, t.purpose, t.ceiling, t.opened_at, t.deadline, r.trace_id
  FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.tasks, r.new_task) t
  WHERE r.new_task IS NOT NULL AND v_out[r.i] = 'granted';

  INSERT INTO ephor.nodes (id, txn, parent, agent, path, ceiling, made_at, kill_keys, kill_epochs)
  SELECT n.id, n.txn, n.parent, n.agent, n.path, n.ceiling, n.made_at, n.kill_keys,
    CASE WHEN n.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(n.kill_keys)]) ELSE
      (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(n.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
  FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.nodes, r.new_node) n
  WHERE r.new_node IS NOT NULL AND v_out[r.i] = 'granted' ORDER BY n.id
  ON CONFLICT (id) DO NOTHING;

  INSERT INTO ephor.hops (jti, txn, node, kind, actor, aud, scopes, iat, exp, jkt, kill_keys, kill_epochs)
  SELECT h.jti, h.txn, h.node, h.kind, h.actor, h.aud, h.scopes, h.iat, h.exp, h.jkt, r.kill_keys,
    CASE WHEN r.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(r.kill_keys)]) ELSE
      (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(r.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
  FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.hops, r.new_hop) h
  WHERE r.new_hop IS NOT NULL AND v_out[r.i] = 'granted';

  SELECT array_agg(ROW(r.id, r.type, CASE WHEN v_out[r.i] = 'granted' THEN 'granted' ELSE 'refused' END,
      nullif(v_out[r.i], 'granted'), r.agent, r.sub, r.resource, r.txn,
      CASE WHEN v_out[r.i] = 'granted' THEN r.jti END, r.trace_id, r.body)::ephor.event_row ORDER BY r.i)
  INTO v_events FROM unnest(v_rows) r WHERE v_out[r.i] NOT IN ('stale', 'continue');
  v_hash := ephor.append(p_stream, p_seq, p_prev, p_now_ms, v_events);

  RETURN jsonb_build_object('seq', p_seq + coalesce(array_length(v_events, 1), 0), 'hash', encode(v_hash, 'hex'), 'epoch', g.epoch,
    'trust_version', g.trust_version, 'outcomes', to_jsonb(v_out), 'txns', to_jsonb(v_txn), 'nodes', to_jsonb(v_node));
END $$;
--> statement-breakpoint
-- Records what needs no lock: refusals, and notes such as `unreleased`.
CREATE FUNCTION ephor.record(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_events jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE v_events ephor.event_row[]; v_hash bytea;
BEGIN
  SELECT array_agg(ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row ORDER BY e.n)
  INTO v_events
  FROM ROWS FROM (jsonb_to_recordset(p_events) AS (id text, type text, decision text, reason text, agent text, sub text, resource text, txn text, jti text, trace_id text, body text))
    WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n);
  v_hash := ephor.append(p_stream, p_seq, p_prev, p_now_ms, v_events);
  RETURN jsonb_build_object('seq', p_seq + coalesce(array_length(v_events, 1), 0), 'hash', encode(v_hash, 'hex'));
END $$;
--> statement-breakpoint
-- What is known of these tokens: `live` says known, not expired, of an open task and node, and not dead. One snapshot for all.
CREATE FUNCTION ephor.token_states(p_jtis text[], p_now bigint)
RETURNS TABLE (jti text, live boolean, txn text, node text, path text[], kill_keys text[], kill_epochs bigint[])
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE v_found boolean;
BEGIN
  -- As in the gate: one look at all their keys, and at each token's own only where something was found.
  v_found := EXISTS (SELECT 1 FROM ephor.dead_keys d WHERE d.key = ANY (
    ARRAY(SELECT k FROM ephor.hops h CROSS JOIN unnest(h.kill_keys) k WHERE h.jti = ANY (p_jtis))));
  RETURN QUERY SELECT h.jti, h.exp > p_now AND t.ended_at IS NULL AND t.deadline > p_now AND n.ended_at IS NULL
      AND CASE WHEN v_found THEN NOT ephor.is_dead(h.kill_keys, h.kill_epochs, 0, p_now) ELSE true END,
    h.txn, h.node, n.path, h.kill_keys, h.kill_epochs
  FROM ephor.hops h JOIN ephor.tasks t ON t.txn = h.txn JOIN ephor.nodes n ON n.id = h.node
  WHERE h.jti = ANY (p_jtis);
END $$;
--> statement-breakpoint
-- Kills by key, under the gate's exclusive lock: when this commits, nothing covered is released any more.
CREATE FUNCTION ephor.kill(p_now_ms bigint, p_kill jsonb, p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_position bigint; v_keys text[];
BEGIN
  PERFORM pg_advisory_xact_lock(4202171);
  UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch INTO v_position;
  SELECT array_agg(k ORDER BY k) INTO v_keys FROM jsonb_array_elements_text(p_kill -> 'keys') k;
  INSERT INTO ephor.dead_keys (key, position, active, ends_at, kill_id)
  SELECT k, v_position, true, (p_kill ->> 'ends_at')::bigint, p_kill ->> 'id' FROM unnest(v_keys) k ORDER BY k
  ON CONFLICT (key) DO UPDATE SET position = excluded.position, active = true, kill_id = excluded.kill_id,
    -- the longer of two kills stands
    ends_at = CASE WHEN dead_keys.active AND (dead_keys.ends_at IS NULL OR excluded.ends_at IS NULL) THEN NULL
      WHEN dead_keys.active THEN greatest(dead_keys.ends_at, excluded.ends_at) ELSE excluded.ends_at END;
  INSERT INTO ephor.kills (id, position, at_ms, actor, reason, keys, receipt)
  VALUES (p_kill ->> 'id', v_position, p_now_ms, p_kill ->> 'actor', p_kill ->> 'reason', v_keys, coalesce(p_kill -> 'receipt', '{}'::jsonb));
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
  PERFORM pg_notify('ephor_kill', p_kill ->> 'id');
  RETURN jsonb_build_object('position', v_position);
END $$;
--> statement-breakpoint
-- Lifts kills of agents, subjects, issuers, owners and resources. What was issued before them stays dead by position.
CREATE FUNCTION ephor.restore(p_now_ms bigint, p_keys text[], p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_lifted text[];
BEGIN
  PERFORM pg_advisory_xact_lock(4202171);
  -- The epoch moves too, so that what is issued from now on is told from what was issued before.
  UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1;
  WITH lifted AS (
    UPDATE ephor.dead_keys SET active = false WHERE key = ANY (p_keys) AND active RETURNING key
  ) SELECT coalesce(array_agg(key ORDER BY key), '{}') INTO v_lifted FROM lifted;
  UPDATE ephor.kills SET restored_at_ms = p_now_ms WHERE keys && v_lifted AND restored_at_ms IS NULL;
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
  PERFORM pg_notify('ephor_kill', 'restore');
  RETURN jsonb_build_object('lifted', to_jsonb(v_lifted));
END $$;
--> statement-breakpoint
-- Ends a whole task (p_nodes null) or a subtree of it. The row lock orders it against releases.
CREATE FUNCTION ephor.end_task(p_now_ms bigint, p_txn text, p_node text, p_by text, p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE t ephor.tasks%ROWTYPE; v_nodes text[];
BEGIN
  SELECT * INTO t FROM ephor.tasks WHERE txn = p_txn FOR UPDATE;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'task_unknown'); END IF;
  IF t.ended_at IS NOT NULL THEN RETURN jsonb_build_object('outcome', 'already', 'ended_at', t.ended_at); END IF;
  WITH RECURSIVE sub AS (
    SELECT id, 1 AS depth FROM ephor.nodes WHERE id = coalesce(p_node, p_txn)
    UNION ALL SELECT n.id, sub.depth + 1 FROM ephor.nodes n JOIN sub ON n.parent = sub.id WHERE n.txn = p_txn AND sub.depth < 64
  ), ended AS (
    UPDATE ephor.nodes n SET ended_at = p_now_ms / 1000 FROM sub WHERE n.id = sub.id AND n.ended_at IS NULL RETURNING n.id
  ) SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO v_nodes FROM ended;
  IF p_node IS NULL THEN
    UPDATE ephor.tasks SET ended_at = p_now_ms / 1000, ended_by = p_by WHERE txn = p_txn;
  END IF;
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
  RETURN jsonb_build_object('outcome', 'ended', 'nodes', to_jsonb(v_nodes));
END $$;
--> statement-breakpoint
-- Records an operator's act that changes nothing else.
CREATE FUNCTION ephor.record_control(p_now_ms bigint, p_event jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
END $$;
--> statement-breakpoint
-- Applies a trust change, all or nothing, under the exclusive lock; removals are kills.
CREATE FUNCTION ephor.apply_trust(p jsonb)
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
  -- A removed name may be given again: what was issued under it stays dead by position, new things may live.
  IF jsonb_array_length(coalesce(p -> 'kills', '[]')) > 0 THEN
    UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch INTO v_position;
    INSERT INTO ephor.dead_keys (key, position, active, ends_at, kill_id)
    SELECT k.kind || ':' || k.name, v_position, false, NULL, 'trust:' || v_version
    FROM jsonb_to_recordset(p -> 'kills') AS k(kind text, name text) ORDER BY 1
    ON CONFLICT (key) DO UPDATE SET position = excluded.position;
    -- and the epoch moves on, so that a name given again at once is issued after it
    PERFORM pg_notify('ephor_kill', 'trust:' || v_version);
  END IF;
  SELECT * INTO v_event FROM jsonb_populate_record(NULL::ephor.event_row, p -> 'event');
  IF v_event.id IS NOT NULL THEN
    PERFORM ephor.append_control(v_now_ms, ARRAY[v_event]);
  END IF;
  PERFORM pg_notify('ephor_trust', v_version::text);
  RETURN jsonb_build_object('outcome', 'applied', 'version', v_version, 'event_id', v_event.id);
END $$;
