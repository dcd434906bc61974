CREATE TABLE "ephor"."recordings" (
	"event" text PRIMARY KEY NOT NULL,
	"of" text NOT NULL,
	"part" text NOT NULL,
	"txn" text NOT NULL,
	"resource" text NOT NULL,
	"sealed" jsonb,
	"kek" text GENERATED ALWAYS AS (sealed->>'kek') STORED,
	"kept_at" bigint NOT NULL,
	"until" bigint NOT NULL,
	"erased_at" bigint,
	"erased_by" text,
	"erased_because" text
);
--> statement-breakpoint
CREATE INDEX "recordings_of" ON "ephor"."recordings" USING btree ("of");--> statement-breakpoint
CREATE INDEX "recordings_until" ON "ephor"."recordings" USING btree ("until");--> statement-breakpoint
CREATE INDEX "recordings_kek" ON "ephor"."recordings" USING btree ("kek");
--> statement-breakpoint
-- What is kept beside events. Rows whose event was not written (the asker decides once more) are not kept, nor is the answer of
-- a call that was erased while it was made.
CREATE FUNCTION ephor.keep(p_kept jsonb)
RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
  INSERT INTO ephor.recordings (event, "of", part, txn, resource, sealed, kept_at, until)
  SELECT k.event, k."of", k.part, k.txn, k.resource, k.sealed, k.kept_at, k.until
  FROM jsonb_to_recordset(p_kept) AS k(event text, "of" text, part text, txn text, resource text, sealed jsonb, kept_at bigint, until bigint)
  WHERE NOT EXISTS (SELECT 1 FROM ephor.recordings d WHERE d.event = k."of" AND d.erased_at IS NOT NULL);
END;
--> statement-breakpoint
-- The gate, for a batch in which something is kept: all of it in one step, or none. A batch in which nothing is kept goes to
-- `ephor.gate` as ever.
CREATE FUNCTION ephor.gate_keeping(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_rows jsonb, p_kept jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v jsonb;
BEGIN
  v := ephor.gate(p_stream, p_seq, p_prev, p_now_ms, p_rows);
  PERFORM ephor.keep(jsonb_agg(k)) FROM jsonb_array_elements(p_kept) k
  WHERE v -> 'outcomes' ->> ((k ->> 'i')::int - 1) NOT IN ('stale', 'continue');
  RETURN v;
END $$;
--> statement-breakpoint
-- Likewise for refusals and outcomes.
CREATE FUNCTION ephor.record_keeping(p_stream text, p_seq bigint, p_prev bytea, p_now_ms bigint, p_events jsonb, p_kept jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE v jsonb;
BEGIN
  v := ephor.record(p_stream, p_seq, p_prev, p_now_ms, p_events);
  PERFORM ephor.keep(p_kept);
  RETURN v;
END $$;
--> statement-breakpoint
-- Erases what is kept of a call, or of its answer alone: the value goes, and with it its data key. The ledger's event stays, and
-- who erased it, and why, is an event.
CREATE FUNCTION ephor.erase_recordings(p_now_ms bigint, p_event text, p_by text, p_because text, p_row jsonb)
RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE v_erased text[];
BEGIN
  WITH gone AS (
    UPDATE ephor.recordings SET sealed = NULL, erased_at = p_now_ms / 1000, erased_by = p_by, erased_because = p_because
    WHERE (event = p_event OR "of" = p_event) AND sealed IS NOT NULL RETURNING event
  ) SELECT coalesce(array_agg(event ORDER BY event), '{}') INTO v_erased FROM gone;
  IF cardinality(v_erased) > 0 THEN PERFORM ephor.record_control(p_now_ms, p_row); END IF;
  RETURN v_erased;
END $$;
