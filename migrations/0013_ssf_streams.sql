CREATE TABLE "ephor"."ssf_events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "ephor"."ssf_events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"stream" text NOT NULL,
	"jti" text NOT NULL,
	"kind" text NOT NULL,
	"subject" jsonb NOT NULL,
	"event" jsonb NOT NULL,
	"txn" text,
	"at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."ssf_streams" (
	"id" text PRIMARY KEY NOT NULL,
	"receiver" text NOT NULL,
	"resource" text,
	"aud" text NOT NULL,
	"method" text NOT NULL,
	"endpoint_url" text,
	"internal" boolean DEFAULT false NOT NULL,
	"header" jsonb,
	"header_version" integer DEFAULT 0 NOT NULL,
	"events_requested" text[],
	"description" text,
	"status" text NOT NULL,
	"status_reason" text,
	"taken" bigint NOT NULL,
	"created_at_ms" bigint NOT NULL,
	"verified_at_ms" bigint DEFAULT 0 NOT NULL,
	"claim" text,
	"claimed_until_ms" bigint DEFAULT 0 NOT NULL,
	"retry_at_ms" bigint DEFAULT 0 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"failing_since_ms" bigint,
	"problem" text,
	"delivered" bigint DEFAULT 0 NOT NULL,
	"refused" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX "ssf_events_jti" ON "ephor"."ssf_events" USING btree ("stream","jti");--> statement-breakpoint
CREATE INDEX "ssf_events_order" ON "ephor"."ssf_events" USING btree ("stream","id");--> statement-breakpoint
CREATE UNIQUE INDEX "ssf_streams_receiver" ON "ephor"."ssf_streams" USING btree ("receiver");