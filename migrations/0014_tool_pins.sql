CREATE TABLE "ephor"."tool_pins" (
	"resource" text NOT NULL,
	"entry" text NOT NULL,
	"tool" text NOT NULL,
	"status" text NOT NULL,
	"hash" text,
	"definition" text,
	"annotations" jsonb,
	"seen_hash" text,
	"seen_definition" text,
	"changed_at_ms" bigint,
	"accepted_at_ms" bigint,
	"accepted_by" text,
	CONSTRAINT "tool_pins_resource_entry_tool_pk" PRIMARY KEY("resource","entry","tool")
);
--> statement-breakpoint
CREATE TABLE "ephor"."tool_servers" (
	"resource" text NOT NULL,
	"entry" text NOT NULL,
	"pinned_at_ms" bigint NOT NULL,
	CONSTRAINT "tool_servers_resource_entry_pk" PRIMARY KEY("resource","entry")
);
--> statement-breakpoint
CREATE INDEX "tool_pins_status" ON "ephor"."tool_pins" USING btree ("resource","entry","status");