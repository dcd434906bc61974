CREATE SCHEMA IF NOT EXISTS "ephor";
--> statement-breakpoint
CREATE TABLE "ephor"."batches" (
	"stream" text NOT NULL,
	"first_seq" bigint NOT NULL,
	"last_seq" bigint NOT NULL,
	"prev" "bytea" NOT NULL,
	"hash" "bytea" NOT NULL,
	"at_ms" bigint NOT NULL,
	CONSTRAINT "batches_stream_first_seq_pk" PRIMARY KEY("stream","first_seq")
);
--> statement-breakpoint
CREATE TABLE "ephor"."events" (
	"stream" text NOT NULL,
	"seq" bigint NOT NULL,
	"id" text NOT NULL,
	"at_ms" bigint NOT NULL,
	"type" text NOT NULL,
	"decision" text NOT NULL,
	"reason" text,
	"agent" text,
	"sub" text,
	"resource" text,
	"txn" text,
	"jti" text,
	"trace_id" text,
	"body" text NOT NULL,
	CONSTRAINT "events_stream_seq_pk" PRIMARY KEY("stream","seq")
);
--> statement-breakpoint
CREATE TABLE "ephor"."heads" (
	"seq" bigint PRIMARY KEY NOT NULL,
	"at_ms" bigint NOT NULL,
	"jws" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."streams" (
	"id" text PRIMARY KEY NOT NULL,
	"replica" text NOT NULL,
	"seq" bigint NOT NULL,
	"hash" "bytea" NOT NULL,
	"started_at_ms" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."bindings" (
	"key" text PRIMARY KEY NOT NULL,
	"agent" text NOT NULL,
	"txn" text NOT NULL,
	"node" text NOT NULL,
	"single_use" boolean NOT NULL,
	"jkt" text,
	"exp" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."dead_keys" (
	"key" text PRIMARY KEY NOT NULL,
	"position" bigint NOT NULL,
	"active" boolean NOT NULL,
	"ends_at" bigint,
	"kill_id" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."gate" (
	"id" smallint PRIMARY KEY NOT NULL,
	"epoch" bigint NOT NULL,
	"trust_version" bigint NOT NULL,
	CONSTRAINT "gate_one_row" CHECK ("ephor"."gate"."id" = 1)
);
--> statement-breakpoint
CREATE TABLE "ephor"."hops" (
	"jti" text PRIMARY KEY NOT NULL,
	"txn" text NOT NULL,
	"node" text NOT NULL,
	"kind" text NOT NULL,
	"actor" text NOT NULL,
	"aud" text NOT NULL,
	"scopes" text[] NOT NULL,
	"iat" bigint NOT NULL,
	"exp" bigint NOT NULL,
	"jkt" text,
	"kill_keys" text[] NOT NULL,
	"kill_epochs" bigint[] NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."kills" (
	"id" text PRIMARY KEY NOT NULL,
	"position" bigint NOT NULL,
	"at_ms" bigint NOT NULL,
	"actor" text NOT NULL,
	"reason" text NOT NULL,
	"keys" text[] NOT NULL,
	"receipt" jsonb NOT NULL,
	"restored_at_ms" bigint
);
--> statement-breakpoint
CREATE TABLE "ephor"."nodes" (
	"id" text PRIMARY KEY NOT NULL,
	"txn" text NOT NULL,
	"parent" text,
	"agent" text NOT NULL,
	"path" text[] NOT NULL,
	"ceiling" text[],
	"made_at" bigint NOT NULL,
	"ended_at" bigint,
	"kill_keys" text[] NOT NULL,
	"kill_epochs" bigint[] NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."noise" (
	"minute" bigint NOT NULL,
	"reason" text NOT NULL,
	"source" text NOT NULL,
	"count" bigint NOT NULL,
	CONSTRAINT "noise_minute_reason_source_pk" PRIMARY KEY("minute","reason","source")
);
--> statement-breakpoint
CREATE TABLE "ephor"."replay" (
	"key" text PRIMARY KEY NOT NULL,
	"holder" text NOT NULL,
	"exp" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."replicas" (
	"id" text PRIMARY KEY NOT NULL,
	"started_at_ms" bigint NOT NULL,
	"beat_at_ms" bigint NOT NULL,
	"version" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ephor"."tasks" (
	"txn" text PRIMARY KEY NOT NULL,
	"opener" text NOT NULL,
	"subject" jsonb NOT NULL,
	"sub" text NOT NULL,
	"purpose" text,
	"ceiling" text[],
	"opened_at" bigint NOT NULL,
	"deadline" bigint NOT NULL,
	"ended_at" bigint,
	"ended_by" text,
	"trace_id" text
);
--> statement-breakpoint
CREATE TABLE "ephor"."keys" (
	"kid" text PRIMARY KEY NOT NULL,
	"use" text NOT NULL,
	"algorithm" text NOT NULL,
	"status" text NOT NULL,
	"public_jwk" jsonb,
	"sealed" jsonb NOT NULL,
	"created_at" bigint NOT NULL,
	"activated_at" bigint,
	"retired_at" bigint
);
--> statement-breakpoint
CREATE TABLE "ephor"."operators" (
	"id" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"key_hash" text NOT NULL,
	"created_at" bigint NOT NULL,
	"disabled_at" bigint
);
--> statement-breakpoint
CREATE TABLE "ephor"."trust_digests" (
	"source" text NOT NULL,
	"digest" text NOT NULL,
	"version" bigint NOT NULL,
	"applied_at_ms" bigint NOT NULL,
	CONSTRAINT "trust_digests_source_digest_pk" PRIMARY KEY("source","digest")
);
--> statement-breakpoint
CREATE TABLE "ephor"."trust_log" (
	"version" bigint NOT NULL,
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"deleted" boolean NOT NULL,
	CONSTRAINT "trust_log_version_kind_name_pk" PRIMARY KEY("version","kind","name")
);
--> statement-breakpoint
CREATE TABLE "ephor"."trust_objects" (
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"source" text NOT NULL,
	"body" jsonb NOT NULL,
	"version" bigint NOT NULL,
	CONSTRAINT "trust_objects_kind_name_pk" PRIMARY KEY("kind","name")
);
--> statement-breakpoint
CREATE TABLE "ephor"."trust_sources" (
	"source" text PRIMARY KEY NOT NULL,
	"digest" text NOT NULL,
	"version" bigint NOT NULL,
	"applied_at_ms" bigint NOT NULL
);
--> statement-breakpoint
CREATE INDEX "events_id" ON "ephor"."events" USING btree ("id");--> statement-breakpoint
CREATE INDEX "events_txn" ON "ephor"."events" USING btree ("txn") WHERE "ephor"."events"."txn" is not null;--> statement-breakpoint
CREATE INDEX "events_jti" ON "ephor"."events" USING btree ("jti") WHERE "ephor"."events"."jti" is not null;--> statement-breakpoint
CREATE INDEX "events_trace" ON "ephor"."events" USING btree ("trace_id") WHERE "ephor"."events"."trace_id" is not null;--> statement-breakpoint
CREATE INDEX "events_agent" ON "ephor"."events" USING btree ("agent","id");--> statement-breakpoint
CREATE INDEX "bindings_exp" ON "ephor"."bindings" USING btree ("exp");--> statement-breakpoint
CREATE INDEX "hops_exp" ON "ephor"."hops" USING btree ("exp");--> statement-breakpoint
CREATE INDEX "nodes_txn_agent" ON "ephor"."nodes" USING btree ("txn","agent");--> statement-breakpoint
CREATE INDEX "replay_exp" ON "ephor"."replay" USING btree ("exp");--> statement-breakpoint
CREATE INDEX "tasks_deadline" ON "ephor"."tasks" USING btree ("deadline");--> statement-breakpoint
CREATE INDEX "tasks_sub" ON "ephor"."tasks" USING btree ("sub");--> statement-breakpoint
CREATE INDEX "trust_objects_source" ON "ephor"."trust_objects" USING btree ("source");