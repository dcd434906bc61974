CREATE TABLE "ephor"."lease_marks" (
	"value" text NOT NULL,
	"kind" text NOT NULL,
	"lease" text NOT NULL,
	"created_at" bigint NOT NULL,
	CONSTRAINT "lease_marks_value_kind_lease_pk" PRIMARY KEY("value","kind","lease")
);
--> statement-breakpoint
CREATE TABLE "ephor"."leases" (
	"id" text PRIMARY KEY NOT NULL,
	"resource" text NOT NULL,
	"provider" text NOT NULL,
	"status" text NOT NULL,
	"facts" jsonb NOT NULL,
	"settings" jsonb NOT NULL,
	"txn" text NOT NULL,
	"node" text NOT NULL,
	"agent" text NOT NULL,
	"handle" jsonb,
	"created_at" bigint NOT NULL,
	"ends_at" bigint NOT NULL,
	"upstream_expires_at" bigint,
	"ended_at" bigint,
	"ended_because" text,
	"kill_keys" text[] NOT NULL,
	"kill_epochs" bigint[] NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_try_at_ms" bigint NOT NULL,
	"claimed_until_ms" bigint DEFAULT 0 NOT NULL,
	"last_problem" text
);
--> statement-breakpoint
CREATE TABLE "ephor"."secret_versions" (
	"name" text NOT NULL,
	"version" integer NOT NULL,
	"sealed" jsonb NOT NULL,
	"fingerprint" text NOT NULL,
	"created_at" bigint NOT NULL,
	"created_by" text NOT NULL,
	"retired_at" bigint,
	CONSTRAINT "secret_versions_name_version_pk" PRIMARY KEY("name","version")
);
--> statement-breakpoint
CREATE TABLE "ephor"."secrets" (
	"name" text PRIMARY KEY NOT NULL,
	"owner" text NOT NULL,
	"version" integer NOT NULL,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"updated_by" text NOT NULL
);
--> statement-breakpoint
CREATE INDEX "leases_open" ON "ephor"."leases" USING btree ("next_try_at_ms") WHERE "ephor"."leases"."status" <> 'ended';--> statement-breakpoint
CREATE INDEX "leases_txn" ON "ephor"."leases" USING btree ("txn");