CREATE TABLE "ephor"."approval_messages" (
	"approval" text NOT NULL,
	"channel" text NOT NULL,
	"told" text,
	"place" jsonb,
	"is_over" boolean DEFAULT false NOT NULL,
	"due_at_ms" bigint DEFAULT 0 NOT NULL,
	"problem" text,
	"changes" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "approval_messages_approval_channel_pk" PRIMARY KEY("approval","channel")
);
--> statement-breakpoint
CREATE TABLE "ephor"."channel_senders" (
	"channel" text PRIMARY KEY NOT NULL,
	"claim" text,
	"claimed_until_ms" bigint DEFAULT 0 NOT NULL,
	"retry_at_ms" bigint DEFAULT 0 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"failing_since_ms" bigint,
	"problem" text
);
--> statement-breakpoint
CREATE INDEX "approval_messages_due" ON "ephor"."approval_messages" USING btree ("channel","due_at_ms") WHERE not "ephor"."approval_messages"."is_over";--> statement-breakpoint
-- As before, with what is to be told at channels: in the step that makes the approval, so that no question is lost.
CREATE OR REPLACE FUNCTION ephor.ask_approval(p_now_ms bigint, p jsonb, p_most integer)
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
  -- In one order for all, so that two who make a channel's row at once do not wait for each other in a ring.
  INSERT INTO ephor.channel_senders (channel)
  SELECT c FROM jsonb_array_elements_text(coalesce(p -> 'channels', '[]')) AS e(c) ORDER BY c ON CONFLICT DO NOTHING;
  INSERT INTO ephor.approval_messages (approval, channel)
  SELECT a.id, c FROM jsonb_array_elements_text(coalesce(p -> 'channels', '[]')) AS e(c);
  RETURN jsonb_build_object('outcome', 'made', 'id', a.id);
END $$;
