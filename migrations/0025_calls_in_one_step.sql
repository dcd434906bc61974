-- A proxied call costs one step of the gate: the tool's definition that it was judged by is compared there, and what it opens comes
-- with the answer.
ALTER TYPE ephor.gate_row
  -- the definition of the called tool that the asker remembers as accepted
  ADD ATTRIBUTE pin_entry text, ADD ATTRIBUTE pin_tool text, ADD ATTRIBUTE pin_hash text,
  -- secrets whose sealed values are answered
  ADD ATTRIBUTE opens text[];
--> statement-breakpoint
CREATE OR REPLACE FUNCTION ephor.gate(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_rows jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  g ephor.gate%ROWTYPE;
  v_now bigint := p_now_ms / 1000;
  v_rows ephor.gate_row[];
  v_checks text[];
  v_releases text[];
  v_replays int;
  v_dead int[] := '{}';
  v_out text[];
  v_txn text[];
  v_node text[];
  v_free int;
  v_count int;
  v_hash bytea;
  v_events ephor.event_row[];
  v_new_tasks int;
  v_new_nodes int;
  v_new_hops int;
  v_new_leases int;
  v_opens int;
  v_sealed jsonb;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4202171);
  -- INVARIANT: a statement after the lock, so that its snapshot sees every kill that was answered (READ COMMITTED).
  SELECT * INTO g FROM ephor.gate WHERE id = 1;
  SELECT array_agg(r ORDER BY r.i), array_agg(r.check_txn) FILTER (WHERE r.check_txn IS NOT NULL),
    array_agg(r.release_lease) FILTER (WHERE r.release_lease IS NOT NULL), coalesce(sum(cardinality(r.replay_keys)), 0),
    count(r.new_task), count(r.new_node), count(r.new_hop), count(r.new_lease), count(r.opens)
  INTO v_rows, v_checks, v_releases, v_replays, v_new_tasks, v_new_nodes, v_new_hops, v_new_leases, v_opens
  FROM jsonb_populate_recordset(NULL::ephor.gate_row, p_rows) AS r;
  -- An end of a task takes its row lock: wait for it, then read what it left.
  IF v_checks IS NOT NULL THEN
    PERFORM 1 FROM ephor.tasks t WHERE t.txn = ANY (v_checks) ORDER BY t.txn FOR SHARE;
  END IF;
  -- A worker that takes a lease as left behind holds its row for one statement: wait for it, then read what it left.
  IF v_releases IS NOT NULL THEN
    PERFORM 1 FROM ephor.leases l WHERE l.id = ANY (v_releases) ORDER BY l.id FOR UPDATE;
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
      -- The asker decided by a tool's definition as he remembered it: he looks again.
      WHEN r.pin_tool IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM ephor.tool_pins p WHERE p.resource = r.resource AND p.entry = r.pin_entry AND p.tool = r.pin_tool
          AND p.status = 'pinned' AND p.hash = r.pin_hash) THEN 'pin_moved'
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
      WHEN r.release_lease IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM ephor.leases l WHERE l.id = r.release_lease AND l.status = 'intent') THEN 'lease_taken'
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

  IF v_new_tasks > 0 THEN
    INSERT INTO ephor.tasks (txn, opener, subject, sub, purpose, ceiling, opened_at, deadline, trace_id)
    SELECT t.txn, t.opener, t.subject, t.sub, t.purpose, t.ceiling, t.opened_at, t.deadline, r.trace_id
    FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.tasks, r.new_task) t
    WHERE r.new_task IS NOT NULL AND v_out[r.i] = 'granted';
  END IF;

  IF v_new_nodes > 0 THEN
    INSERT INTO ephor.nodes (id, txn, parent, agent, path, ceiling, made_at, kill_keys, kill_epochs)
    SELECT n.id, n.txn, n.parent, n.agent, n.path, n.ceiling, n.made_at, n.kill_keys,
      CASE WHEN n.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(n.kill_keys)]) ELSE
        (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(n.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
    FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.nodes, r.new_node) n
    WHERE r.new_node IS NOT NULL AND v_out[r.i] = 'granted' ORDER BY n.id
    ON CONFLICT (id) DO NOTHING;
  END IF;

  IF v_new_hops > 0 THEN
    INSERT INTO ephor.hops (jti, txn, node, kind, actor, aud, scopes, iat, exp, jkt, kill_keys, kill_epochs)
    SELECT h.jti, h.txn, h.node, h.kind, h.actor, h.aud, h.scopes, h.iat, h.exp, h.jkt, r.kill_keys,
      CASE WHEN r.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(r.kill_keys)]) ELSE
        (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(r.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
    FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.hops, r.new_hop) h
    WHERE r.new_hop IS NOT NULL AND v_out[r.i] = 'granted';
  END IF;

  -- The intent of a credential stands before it is made, the release of one before it leaves.
  IF v_new_leases > 0 THEN
    INSERT INTO ephor.leases (id, resource, provider, status, facts, settings, txn, node, agent, created_at, ends_at, next_try_at_ms, kill_keys, kill_epochs)
    SELECT l.id, l.resource, l.provider, 'intent', l.facts, l.settings, l.txn, l.node, l.agent, l.created_at, l.ends_at, l.next_try_at_ms, r.kill_keys,
      CASE WHEN r.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(r.kill_keys)]) ELSE
        (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(r.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
    FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.leases, r.new_lease) l
    WHERE r.new_lease IS NOT NULL AND v_out[r.i] = 'granted';
  END IF;
  IF v_releases IS NOT NULL THEN
    UPDATE ephor.leases l SET status = 'live', next_try_at_ms = l.ends_at * 1000,
      upstream_expires_at = coalesce(r.lease_upstream_expires_at, l.upstream_expires_at)
    FROM unnest(v_rows) r WHERE l.id = r.release_lease AND v_out[r.i] = 'granted';
    INSERT INTO ephor.lease_marks (value, kind, lease, created_at)
    SELECT m.value, m.kind, r.release_lease, p_now_ms FROM unnest(v_rows) r CROSS JOIN jsonb_to_recordset(r.lease_marks) AS m(kind text, value text)
    WHERE r.lease_marks IS NOT NULL AND v_out[r.i] = 'granted' ON CONFLICT DO NOTHING;
  END IF;

  SELECT array_agg(ROW(r.id, r.type, CASE WHEN v_out[r.i] = 'granted' THEN 'granted' ELSE 'refused' END,
      nullif(v_out[r.i], 'granted'), r.agent, r.sub, r.resource, r.txn,
      CASE WHEN v_out[r.i] = 'granted' THEN r.jti END, r.trace_id, r.body)::ephor.event_row ORDER BY r.i)
  INTO v_events FROM unnest(v_rows) r WHERE v_out[r.i] NOT IN ('stale', 'continue', 'pin_moved');
  v_hash := ephor.append(p_stream, p_seq, p_prev, p_now_ms, v_events);

  -- What the granted ones will open, as it lies sealed: nobody has to ask for it once more.
  IF v_opens > 0 THEN
    SELECT jsonb_object_agg(s.name, jsonb_build_object('version', s.version, 'sealed', v.sealed)) INTO v_sealed
    FROM (SELECT DISTINCT o.name FROM unnest(v_rows) r CROSS JOIN unnest(r.opens) AS o(name) WHERE v_out[r.i] = 'granted') o
    JOIN ephor.secrets s ON s.name = o.name JOIN ephor.secret_versions v ON v.name = s.name AND v.version = s.version;
  END IF;

  RETURN jsonb_build_object('seq', p_seq + coalesce(array_length(v_events, 1), 0), 'hash', encode(v_hash, 'hex'), 'epoch', g.epoch,
    'trust_version', g.trust_version, 'outcomes', to_jsonb(v_out), 'txns', to_jsonb(v_txn), 'nodes', to_jsonb(v_node),
    'sealed', v_sealed);
END $$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION ephor.gate_keeping(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_rows jsonb, p_kept jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v jsonb;
BEGIN
  v := ephor.gate(p_stream, p_seq, p_prev, p_now_ms, p_rows);
  PERFORM ephor.keep(jsonb_agg(k)) FROM jsonb_array_elements(p_kept) k
  WHERE v -> 'outcomes' ->> ((k ->> 'i')::int - 1) NOT IN ('stale', 'continue', 'pin_moved');
  RETURN v;
END $$;
