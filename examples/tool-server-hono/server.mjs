// A tool server on Hono that serves Ephor's tokens only. Settings are in the environment; see README.md.
import { serve } from "@hono/node-server";
import { createVerifier, honoMiddleware } from "ephor/verify";
import { Hono } from "hono";
import { settings } from "./settings.mjs";

const verifier = createVerifier({
  ...settings(process.env),
  onProblem: (problem) => console.error("feed:", problem.kind),
});

const app = new Hono();
app.get(new URL(verifier.metadataUrl).pathname, (c) => c.json(verifier.metadata(["billing:read_invoice"])));
app.get("/invoices/:id", honoMiddleware(verifier, { scope: "billing:read_invoice" }), (c) => {
  const { subject, actors } = c.get("ephor");
  return c.json({ invoice: c.req.param("id"), for: subject.sub, through: actors });
});

const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: Number(process.env.PORT ?? 3000) }, ({ port }) =>
  console.log(`listening on http://127.0.0.1:${port}`),
);
process.once("SIGTERM", () => {
  verifier.close();
  server.close();
});
