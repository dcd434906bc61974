// A local MCP server by the official SDK, of both eras.
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

serveStdio(() => {
  const server = new McpServer({ name: "notes", version: "1.0.0" });
  const tool = (name, act) =>
    server.registerTool(name, { description: name, inputSchema: z.object({ id: z.number() }) }, async (args) => ({
      content: [{ type: "text", text: act(args) }],
    }));
  tool(
    "read_note",
    ({ id }) => `note ${id} by ${process.env.NOTES_KEY === "notes-key-value-5d1c77" ? "the right key" : "no key"}`,
  );
  tool("echo_key", () => `key ${process.env.NOTES_KEY}`);
  tool("drop_notes", () => "dropped");
  return server;
});
