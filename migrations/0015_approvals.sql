CREATE TABLE "ephor"."approval_decisions" (
	"approval" text NOT NULL,
	"decider" text NOT NULL,
	"decision" text NOT NULL,
	"reason" text NOT NULL,
	"at" bigint NOT NULL,
	"kill_keys" text[] NOT NULL,
	"kill_epoch" bigint NOT NULL,
	CONSTRAINT "approval_decisions_approval_decider_pk" PRIMARY KEY("approval","decider")
);
--> statement-breakpoint
CREATE TABLE "ephor"."approvals" (
	"id" text PRIMARY KEY NOT NULL,
	"digest" text NOT NULL,
	"txn" text NOT NULL,
	"node" text NOT NULL,
	"agent" text NOT NULL,
	"sub" text NOT NULL,
	"resource" text NOT NULL,
	"action" text NOT NULL,
	"path" text[] NOT NULL,
	"purpose" text,
	"content" jsonb NOT NULL,
	"shown" text NOT NULL,
	"needs" jsonb NOT NULL,
	"status" text NOT NULL,
	"kill_keys" text[] NOT NULL,
	"kill_epoch" bigint NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"used_at" bigint
);
--> statement-breakpoint
CREATE INDEX "approvals_digest" ON "ephor"."approvals" USING btree ("digest");--> statement-breakpoint
CREATE INDEX "approvals_txn" ON "ephor"."approvals" USING btree ("txn");--> statement-breakpoint
CREATE INDEX "approvals_expires_at" ON "ephor"."approvals" USING btree ("expires_at");--> statement-breakpoint
-- How an approval stands: `pending`, `approved`, `denied`, `used`, `expired`, or `void` by a kill or the end of its work. What the
-- trust objects say now is not seen from here.
CREATE FUNCTION ephor.approval_state(a ephor.approvals, p_now bigint)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
  WHEN a.used_at IS NOT NULL OR EXISTS (SELECT 1 FROM ephor.replay r WHERE r.key = 'approval:' || a.id) THEN 'used'
  WHEN a.status = 'denied' THEN 'denied'
  WHEN a.expires_at <= p_now THEN 'expired'
  WHEN ephor.is_dead(a.kill_keys, array_fill(a.kill_epoch, ARRAY[cardinality(a.kill_keys)]), 0, p_now) THEN 'void'
  WHEN EXISTS (SELECT 1 FROM ephor.approval_decisions d WHERE d.approval = a.id AND cardinality(d.kill_keys) > 0
    AND ephor.is_dead(d.kill_keys, array_fill(d.kill_epoch, ARRAY[cardinality(d.kill_keys)]), 0, p_now)) THEN 'void'
  WHEN NOT EXISTS (SELECT 1 FROM ephor.tasks t JOIN ephor.nodes n ON n.txn = t.txn WHERE t.txn = a.txn AND n.id = a.node
    AND t.ended_at IS NULL AND t.deadline > p_now AND n.ended_at IS NULL) THEN 'void'
  ELSE a.status END;
--> statement-breakpoint
-- The approval of a call: the one that is there for the same content and stands, or a new one. `p.kill_keys` and `p.kill_epochs`
-- are the caller's, who may have been killed meanwhile.
CREATE FUNCTION ephor.ask_approval(p_now_ms bigint, p jsonb, p_most integer)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE a ephor.approvals%ROWTYPE; v_now bigint := p_now_ms / 1000; v_id text; v_epoch bigint;
BEGIN
  SELECT * INTO a FROM jsonb_populate_record(NULL::ephor.approvals, p -> 'approval');
  -- The same call asked for twice at once is one, and a crowd of calls of one chain is counted one by one.
  PERFORM pg_advisory_xact_lock(4202173, hashtext(a.txn));
  SELECT g.epoch INTO v_epoch FROM ephor.gate g WHERE g.id = 1;
  IF ephor.is_dead(
    ARRAY(SELECT k FROM jsonb_array_elements_text(p -> 'kill_keys') WITH ORDINALITY AS e(k, n) ORDER BY n),
    ARRAY(SELECT k::bigint FROM jsonb_array_elements_text(p -> 'kill_epochs') WITH ORDINALITY AS e(k, n) ORDER BY n),
    v_epoch, v_now) THEN RETURN jsonb_build_object('outcome', 'killed'); END IF;
  IF NOT EXISTS (SELECT 1 FROM ephor.tasks t JOIN ephor.nodes n ON n.txn = t.txn WHERE t.txn = a.txn AND n.id = a.node
    AND t.ended_at IS NULL AND t.deadline > v_now AND n.ended_at IS NULL) THEN
    RETURN jsonb_build_object('outcome', 'task_ended');
  END IF;
  SELECT o.id INTO v_id FROM ephor.approvals o
  WHERE o.digest = a.digest AND o.expires_at > v_now AND ephor.approval_state(o, v_now) IN ('pending', 'approved', 'denied')
  ORDER BY o.created_at DESC, o.id DESC LIMIT 1;
  IF FOUND THEN RETURN jsonb_build_object('outcome', 'found', 'id', v_id); END IF;
  IF (SELECT count(*) FROM ephor.approvals o WHERE o.txn = a.txn AND o.status = 'pending' AND o.expires_at > v_now) >= p_most THEN
    RETURN jsonb_build_object('outcome', 'too_many');
  END IF;
  a.kill_epoch := v_epoch;
  INSERT INTO ephor.approvals SELECT a.*;
  RETURN jsonb_build_object('outcome', 'made', 'id', a.id);
END $$;
--> statement-breakpoint
-- One decision, with its event. `p_seen` is the number of decisions that were known when `p_status` was computed.
CREATE FUNCTION ephor.decide_approval(p_now_ms bigint, p_id text, p_decision jsonb, p_status text, p_seen bigint, p_event jsonb)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a ephor.approvals%ROWTYPE; v_now bigint := p_now_ms / 1000; v_state text; v_epoch bigint;
BEGIN
  SELECT * INTO a FROM ephor.approvals WHERE id = p_id FOR UPDATE;
  IF NOT FOUND THEN RETURN 'unknown'; END IF;
  v_state := ephor.approval_state(a, v_now);
  IF v_state <> 'pending' THEN RETURN v_state; END IF;
  IF (SELECT count(*) FROM ephor.approval_decisions d WHERE d.approval = p_id) <> p_seen THEN RETURN 'moved'; END IF;
  SELECT g.epoch INTO v_epoch FROM ephor.gate g WHERE g.id = 1;
  INSERT INTO ephor.approval_decisions (approval, decider, decision, reason, at, kill_keys, kill_epoch)
  VALUES (p_id, p_decision ->> 'decider', p_decision ->> 'decision', p_decision ->> 'reason', v_now,
    ARRAY(SELECT jsonb_array_elements_text(p_decision -> 'kill_keys')), v_epoch);
  UPDATE ephor.approvals SET status = p_status WHERE id = p_id;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN 'decided';
END $$;
