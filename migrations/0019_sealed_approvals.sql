ALTER TABLE "ephor"."approvals" ALTER COLUMN "shown" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "ephor"."approvals" ADD COLUMN "sealed" jsonb;