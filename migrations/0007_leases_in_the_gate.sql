-- A lease is written by the gate itself: its intent with the decision, its release with the second one. So there is no moment
-- at which a credential has left and a kill or the end of its task has not seen it, and a vend costs two calls of the gate.
ALTER TYPE ephor.gate_row
  ADD ATTRIBUTE new_lease jsonb,
  -- a lease that is released with this row, and what its provider says of it where nothing was written down before
  ADD ATTRIBUTE release_lease text, ADD ATTRIBUTE lease_upstream_expires_at bigint, ADD ATTRIBUTE lease_marks jsonb;
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
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4202171);
  -- INVARIANT: a statement after the lock, so that its snapshot sees every kill that was answered (READ COMMITTED).
  SELECT * INTO g FROM ephor.gate WHERE id = 1;
  SELECT array_agg(r ORDER BY r.i), array_agg(r.check_txn) FILTER (WHERE r.check_txn IS NOT NULL),
    array_agg(r.release_lease) FILTER (WHERE r.release_lease IS NOT NULL), coalesce(sum(cardinality(r.replay_keys)), 0)
  INTO v_rows, v_checks, v_releases, v_replays
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

  -- The intent of a credential stands before it is made, the release of one before it leaves.
  INSERT INTO ephor.leases (id, resource, provider, status, facts, settings, txn, node, agent, created_at, ends_at, next_try_at_ms, kill_keys, kill_epochs)
  SELECT l.id, l.resource, l.provider, 'intent', l.facts, l.settings, l.txn, l.node, l.agent, l.created_at, l.ends_at, l.next_try_at_ms, r.kill_keys,
    CASE WHEN r.kill_epochs IS NULL THEN array_fill(g.epoch, ARRAY[cardinality(r.kill_keys)]) ELSE
      (SELECT array_agg(coalesce(e.epoch, g.epoch) ORDER BY e.k) FROM unnest(r.kill_epochs) WITH ORDINALITY AS e(epoch, k)) END
  FROM unnest(v_rows) r CROSS JOIN jsonb_populate_record(NULL::ephor.leases, r.new_lease) l
  WHERE r.new_lease IS NOT NULL AND v_out[r.i] = 'granted';
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
  INTO v_events FROM unnest(v_rows) r WHERE v_out[r.i] NOT IN ('stale', 'continue');
  v_hash := ephor.append(p_stream, p_seq, p_prev, p_now_ms, v_events);

  RETURN jsonb_build_object('seq', p_seq + coalesce(array_length(v_events, 1), 0), 'hash', encode(v_hash, 'hex'), 'epoch', g.epoch,
    'trust_version', g.trust_version, 'outcomes', to_jsonb(v_out), 'txns', to_jsonb(v_txn), 'nodes', to_jsonb(v_node));
END $$;
--> statement-breakpoint
-- Ends a whole task (p_nodes null) or a subtree of it. The row lock orders it against releases.
CREATE OR REPLACE FUNCTION ephor.end_task(p_now_ms bigint, p_txn text, p_node text, p_by text, p_event jsonb)
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
  -- What was vended under it is due now; a release that is under way is refused by the row above.
  UPDATE ephor.leases SET next_try_at_ms = 0 WHERE txn = p_txn AND status = 'live' AND (p_node IS NULL OR node = ANY (v_nodes));
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
  RETURN jsonb_build_object('outcome', 'ended', 'nodes', to_jsonb(v_nodes));
END $$;
--> statement-breakpoint
-- Leases that their upstream ends by itself: many at once. Events stand at the places of their leases.
CREATE FUNCTION ephor.end_leases(p_now_ms bigint, p_ids text[], p_events jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_ended text[]; v_events ephor.event_row[];
BEGIN
  WITH ended AS (
    UPDATE ephor.leases SET status = 'ended', ended_at = p_now_ms / 1000, handle = NULL, last_problem = NULL
    WHERE id = ANY (p_ids) AND status = 'ending' RETURNING id
  ) SELECT array_agg(id) INTO v_ended FROM ended;
  SELECT array_agg(ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row ORDER BY e.n)
  INTO v_events
  FROM ROWS FROM (jsonb_to_recordset(p_events) AS (id text, type text, decision text, reason text, agent text, sub text, resource text, txn text, jti text, trace_id text, body text))
    WITH ORDINALITY AS e(id, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body, n)
  WHERE p_ids[e.n] = ANY (v_ended);
  IF v_events IS NOT NULL THEN PERFORM ephor.append_control(p_now_ms, v_events); END IF;
END $$;
--> statement-breakpoint
-- Live leases that a kill covers are due now. Called once for each change of the kill epoch; returns it.
CREATE FUNCTION ephor.leases_killed(p_seen bigint, p_now_ms bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_epoch bigint;
BEGIN
  SELECT epoch INTO v_epoch FROM ephor.gate WHERE id = 1;
  IF v_epoch = p_seen THEN RETURN v_epoch; END IF;
  -- A statement after that, so that its snapshot has every kill of that epoch, and every release before it.
  UPDATE ephor.leases SET next_try_at_ms = 0
  WHERE status = 'live' AND next_try_at_ms > p_now_ms AND ephor.is_dead(kill_keys, kill_epochs, 0, p_now_ms / 1000);
  RETURN v_epoch;
END $$;
