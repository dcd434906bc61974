-- Unlogged: a count is worth a minute and no write to a disk.
CREATE UNLOGGED TABLE "ephor"."call_counts" (
	"agent" text NOT NULL,
	"resource" text NOT NULL,
	"minute" integer NOT NULL,
	"calls" integer NOT NULL,
	CONSTRAINT "call_counts_agent_resource_pk" PRIMARY KEY("agent","resource")
);
