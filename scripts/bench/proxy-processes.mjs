// What the case `proxy` needs: an MCP server that answers at once, and a bare reverse proxy of the same runtime before it.
import { createServer } from "node:http";
import { Pool } from "undici";

process.on("disconnect", () => process.exit());
process.once("message", ({ kind, port, upstream }) => {
  const server = createServer(kind === "upstream" ? answer : relay(upstream));
  server.keepAliveTimeout = 60_000;
  server.listen(port, "127.0.0.1", () => process.send("ready"));
});

const TOOL = { name: "echo", description: "Says it again.", inputSchema: { type: "object" } };
const TEXT = "x".repeat(900);

const RESULTS = {
  initialize: {
    protocolVersion: "2025-11-25",
    capabilities: { tools: {} },
    serverInfo: { name: "echo", version: "1.0.0" },
  },
  "tools/list": { tools: [TOOL] },
  "tools/call": { content: [{ type: "text", text: TEXT }] },
};

/** One message of 2025-11-25, without a session. */
function answer(req, res) {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (id === undefined) return res.writeHead(202).end();
    const { seconds } = params?.arguments ?? {};
    if (method === "tools/call" && seconds !== undefined) return stream(res, id, seconds);
    const result = RESULTS[method];
    const body = JSON.stringify({ jsonrpc: "2.0", id, result });
    res.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    res.end(body);
  });
}

/** An event each quarter of a second, and then the answer. */
function stream(res, id, seconds) {
  res.writeHead(200, { "content-type": "text/event-stream" });
  const say = (message) => res.write(`data: ${JSON.stringify({ jsonrpc: "2.0", ...message })}\n\n`);
  const note = { method: "notifications/message", params: { level: "info", data: TEXT.slice(0, 100) } };
  const timer = setInterval(() => say(note), 250);
  const end = setTimeout(() => {
    clearInterval(timer);
    say({ id, result: RESULTS["tools/call"] });
    res.end();
  }, seconds * 1_000);
  res.once("close", () => {
    clearInterval(timer);
    clearTimeout(end);
  });
}

/** Reads nothing, decides nothing, records nothing. */
function relay(origin) {
  const pool = new Pool(origin, { connections: 64, pipelining: 1 });
  return (req, res) => {
    pool.stream(
      {
        method: req.method,
        path: "/mcp",
        headers: { ...req.headers, host: undefined, connection: undefined },
        body: req,
      },
      ({ statusCode, headers }) => {
        res.writeHead(statusCode, headers);
        return res;
      },
      (error) => error && res.destroy(),
    );
  };
}
