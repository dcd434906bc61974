// An MCP server (Streamable HTTP, stateless) that serves Ephor's tokens only. Needs `npm install @modelcontextprotocol/sdk
// express zod` beside ephor. Settings: see README.md.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { createVerifier, mcpMiddleware, requireScope } from "ephor/verify";
import express from "express";
import { z } from "zod";
import { settings } from "./settings.mjs";

const verifier = createVerifier({
  ...settings(process.env),
  onProblem: (problem) => console.error("feed:", problem.kind),
});

function tools() {
  const server = new McpServer({ name: "billing", version: "1.0.0" });
  server.registerTool(
    "read_invoice",
    { description: "Reads an invoice", inputSchema: { id: z.string() } },
    async ({ id }, extra) => {
      const { subject, actors } = requireScope(extra, "billing:read_invoice");
      return { content: [{ type: "text", text: `invoice ${id} for ${subject.sub} through ${actors.join(" > ")}` }] };
    },
  );
  return server;
}

const app = express();
app.get(new URL(verifier.metadataUrl).pathname, (_req, res) => res.json(verifier.metadata(["billing:read_invoice"])));
// Whoever has a token of this resource may connect and list; each tool asks for its own scope.
app.post("/mcp", mcpMiddleware(verifier, { scope: [] }), express.json(), (req, res, next) => {
  answer(req, res).catch(next);
});

async function answer(req, res) {
  const server = tools();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on("close", () => Promise.all([transport.close(), server.close()]));
  await server.connect(transport);
  // Hands `req.auth`, which the middleware set, to the tools as `extra.authInfo`.
  await transport.handleRequest(req, res, req.body);
}

app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", function () {
  console.log(`listening on http://127.0.0.1:${this.address().port}`);
});
