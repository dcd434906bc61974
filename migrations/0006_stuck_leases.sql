ALTER TABLE "ephor"."leases" ADD COLUMN "stuck_since" bigint;--> statement-breakpoint
-- Its upstream does not let it end: found once, however often it is tried after that.
CREATE FUNCTION ephor.lease_stuck(p_now_ms bigint, p_id text, p_event jsonb)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE ephor.leases SET stuck_since = p_now_ms / 1000 WHERE id = p_id AND status = 'ending' AND stuck_since IS NULL;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM ephor.record_control(p_now_ms, p_event);
  RETURN true;
END $$;
