// A local MCP server by hand: each tool does what a test needs. `modern` or `legacy` says which era it speaks.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";

const era = process.argv[2];
const waiting = new Map();
let calls = 0;
const write = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const say = (id, text) =>
  write({ id, result: { content: [{ type: "text", text: typeof text === "string" ? text : JSON.stringify(text) }] } });

const tools = {
  env: ({ id }) => say(id, process.env),
  where: ({ id }) =>
    say(id, {
      cwd: process.cwd(),
      files: readdirSync("."),
      home: readdirSync(process.env.HOME),
      pid: process.pid,
      argv: process.argv.slice(2),
    }),
  id: ({ id, params }) =>
    say(id, { id, token: params["_meta"]?.progressToken ?? null, said: params.arguments?.say ?? null, calls: ++calls }),
  hold: ({ id, params }) => waiting.set(params.arguments.name, id),
  release: ({ id, params }) => {
    say(waiting.get(params.arguments.name), `held ${params.arguments.name}`);
    say(id, "released");
  },
  held: ({ id }) => say(id, [...waiting.keys()]),
  endless: () => process.stdout.write("x".repeat(5 * 1024 * 1024)),
  garbage({ id }) {
    process.stdout.write('not json\n{"jsonrpc":"2.0","id":\n[]\n\n"text"\n{"jsonrpc":"1.0","id":1,"result":{}}\n');
    process.stdout.write('{"jsonrpc":"2.0","id":99999,"result":{"content":[]}}\n');
    process.stdout.write(
      `{"jsonrpc": "2.0",\r "result": {"content": [], "big": 12345678901234567890, "n": 1.0}, "id": ${id}}\r\n`,
    );
  },
  exit: () => process.exit(3),
  async ask({ id }) {
    const answers = [];
    asked = (message) => {
      answers.push(message);
      if (answers.length === 2) say(id, answers);
    };
    write({ id: "mine", method: "sampling/createMessage", params: { messages: [] } });
    write({ id, method: "ping" });
  },
  question({ id, params }) {
    asked = (message) => say(id, message);
    write({ id: params.arguments.as, method: params.arguments.method, params: { messages: [], maxTokens: 1 } });
    if (params.arguments.withdraws)
      write({ method: "notifications/cancelled", params: { requestId: params.arguments.as } });
  },
  unanswered({ id }) {
    const answers = [];
    asked = (message) => answers.push(message);
    tools.answers = ({ id: of }) => say(of, answers);
    write({ id: "left alone", method: "sampling/createMessage", params: { messages: [], maxTokens: 1 } });
    void id;
  },
  answers: ({ id }) => say(id, []),
  fork({ id }) {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "inherit" });
    say(id, { pid: child.pid });
  },
  stubborn({ id }) {
    process.on("SIGTERM", () => {});
    process.stdin.removeAllListeners("end");
    setInterval(() => {}, 1000);
    say(id, "stays");
  },
  progress({ id, params }) {
    const progressToken = params["_meta"]?.progressToken;
    write({ method: "notifications/progress", params: { progressToken, progress: 1, total: 2 } });
    write({ method: "notifications/progress", params: { progressToken: 4711, progress: 1 } });
    say(id, "done");
  },
  leak({ id }) {
    process.stderr.write(`the key is ${process.env.FILES_KEY}\n`);
    setTimeout(() => say(id, `the key is ${process.env.FILES_KEY}`), 50);
  },
  flood: () => process.stdout.write("{}\n".repeat(60_000)),
};
let asked = () => {};

createInterface({ input: process.stdin }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.method === undefined) return asked(message);
  const { id, method, params } = message;
  if (method === "notifications/cancelled") {
    const name = Array.from(waiting.keys()).find((key) => waiting.get(key) === params.requestId);
    if (name !== undefined) waiting.set(`cancelled ${name}`, params.requestId);
    return;
  }
  if (id === undefined) return;
  if (method === "initialize" && era === "legacy")
    return write({
      id,
      result: {
        protocolVersion: "2025-11-25",
        capabilities: { tools: {} },
        serverInfo: { name: "scripted", version: "1" },
      },
    });
  if (method === "server/discover" && era === "modern")
    return write({
      id,
      result: {
        supportedVersions: ["2026-07-28"],
        capabilities: { tools: {} },
        serverInfo: { name: "scripted", version: "1" },
      },
    });
  if (method === "tools/list")
    return write({
      id,
      result: { tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: "object" } })) },
    });
  if (method === "tools/call" && tools[params.name]) return tools[params.name](message);
  write({ id, error: { code: -32601, message: "unknown" } });
});
process.stdin.on("end", () => process.exit(0));
