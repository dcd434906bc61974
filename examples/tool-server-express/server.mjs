// The middleware of a tool server on Express, on a bare node:http server: `expressMiddleware` is an ordinary
// `(req, res, next)`, so with Express it is `app.get("/invoices/:id", invoices, handler)`. Settings: see README.md.
import { createServer } from "node:http";
import { createVerifier, expressMiddleware } from "ephor/verify";
import { settings } from "./settings.mjs";

const verifier = createVerifier({
  ...settings(process.env),
  onProblem: (problem) => console.error("feed:", problem.kind),
});
const invoices = expressMiddleware(verifier, { scope: "billing:read_invoice" });

function handler(req, res) {
  const { subject, actors } = req.ephor;
  json(res, 200, { invoice: req.url.split("/")[2], for: subject.sub, through: actors });
}

function json(res, status, body) {
  res.statusCode = status;
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify(body));
}

const server = createServer((req, res) => {
  if (req.url === new URL(verifier.metadataUrl).pathname) return json(res, 200, verifier.metadata());
  if (!req.url.startsWith("/invoices/")) return json(res, 404, {});
  return invoices(req, res, (error) => (error ? json(res, 500, {}) : handler(req, res)));
});
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}`),
);
process.once("SIGTERM", () => {
  verifier.close();
  server.close();
});
