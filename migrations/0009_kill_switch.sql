ALTER TABLE "ephor"."kills" ADD COLUMN "ends_at" bigint;--> statement-breakpoint
ALTER TABLE "ephor"."replicas" ADD COLUMN "beats" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "ephor"."replicas" ADD COLUMN "heard" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "dead_keys_position" ON "ephor"."dead_keys" USING btree ("position");--> statement-breakpoint
CREATE INDEX "kills_keys" ON "ephor"."kills" USING gin ("keys");--> statement-breakpoint
CREATE INDEX "kills_position" ON "ephor"."kills" USING btree ("position");--> statement-breakpoint
CREATE INDEX "nodes_open_kill_keys" ON "ephor"."nodes" USING gin ("kill_keys") WHERE "ephor"."nodes"."ended_at" is null;--> statement-breakpoint
CREATE INDEX "trust_objects_owner" ON "ephor"."trust_objects" USING btree (("body" ->> 'owner')) WHERE "ephor"."trust_objects"."kind" = 'agents';
--> statement-breakpoint
-- As before; a kill that ends by itself says so in its record too.
CREATE OR REPLACE FUNCTION ephor.kill(p_now_ms bigint, p_kill jsonb, p_event jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_position bigint; v_keys text[]; v_ends_at bigint := (p_kill ->> 'ends_at')::bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(4202171);
  UPDATE ephor.gate SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch INTO v_position;
  SELECT array_agg(k ORDER BY k) INTO v_keys FROM jsonb_array_elements_text(p_kill -> 'keys') k;
  INSERT INTO ephor.dead_keys (key, position, active, ends_at, kill_id)
  SELECT k, v_position, true, v_ends_at, p_kill ->> 'id' FROM unnest(v_keys) k ORDER BY k
  ON CONFLICT (key) DO UPDATE SET position = excluded.position, active = true, kill_id = excluded.kill_id,
    -- the longer of two kills stands
    ends_at = CASE WHEN dead_keys.active AND (dead_keys.ends_at IS NULL OR excluded.ends_at IS NULL) THEN NULL
      WHEN dead_keys.active THEN greatest(dead_keys.ends_at, excluded.ends_at) ELSE excluded.ends_at END;
  INSERT INTO ephor.kills (id, position, at_ms, actor, reason, keys, receipt, ends_at)
  VALUES (p_kill ->> 'id', v_position, p_now_ms, p_kill ->> 'actor', p_kill ->> 'reason', v_keys, coalesce(p_kill -> 'receipt', '{}'::jsonb), v_ends_at);
  PERFORM ephor.append_control(p_now_ms, ARRAY[ROW(e.id, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body)::ephor.event_row])
  FROM jsonb_populate_record(NULL::ephor.event_row, p_event) e;
  PERFORM pg_notify('ephor_kill', p_kill ->> 'id');
  RETURN jsonb_build_object('position', v_position);
END $$;
--> statement-breakpoint
-- A replica has dropped what kills up to this position cover. It need not outlive a crash: who waits for it waits on, or for its lease.
CREATE FUNCTION ephor.heard(p_replica text, p_position bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  UPDATE ephor.replicas SET heard = greatest(heard, p_position) WHERE id = p_replica;
END $$;
