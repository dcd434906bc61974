CREATE TABLE "ephor"."house" (
	"name" text PRIMARY KEY NOT NULL,
	"value" text NOT NULL
);
