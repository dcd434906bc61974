CREATE TABLE "ephor"."sessions" (
	"id" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"who" text NOT NULL,
	"key_hash" text,
	"person" jsonb,
	"kill_keys" text[] NOT NULL,
	"kill_epoch" bigint NOT NULL,
	"created_at" bigint NOT NULL,
	"used_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE INDEX "sessions_who" ON "ephor"."sessions" USING btree ("who");--> statement-breakpoint
CREATE INDEX "sessions_expires_at" ON "ephor"."sessions" USING btree ("expires_at");