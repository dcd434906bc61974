/** An inspector whose verdicts a test writes, and a check of its signatures by the published scheme. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Cleanup } from "../support/database.ts";

export const SECRET = `whsec_${Buffer.from("an inspector's own key, 32 bytes").toString("base64")}`;

/** What an inspector was shown. */
export interface Shown {
  readonly phase: "request" | "response";
  readonly decision: string;
  readonly agent: string;
  readonly path: string[];
  readonly sub: string;
  readonly txn: string;
  readonly resource: string;
  readonly action: string;
  readonly call: Record<string, unknown>;
  readonly arguments?: unknown;
  readonly body?: unknown;
}

export interface Inspector {
  readonly url: string;
  readonly seen: { readonly shown: Shown; readonly text: string; readonly isSigned: boolean; readonly id: string }[];
  /** The verdict; an answer that is taken over by the test is none. */
  verdict: (shown: Shown, res: ServerResponse) => unknown;
}

export async function startInspector(t: Cleanup): Promise<Inspector> {
  const inspector: Inspector = { url: "", seen: [], verdict: () => ({ verdict: "allow" }) };
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      const text = Buffer.concat(chunks).toString("utf8");
      const shown = JSON.parse(text) as Shown;
      inspector.seen.push({ shown, text, isSigned: isSigned(req, text), id: String(req.headers["webhook-id"]) });
      const verdict = inspector.verdict(shown, res);
      if (verdict === undefined) return;
      res.writeHead(200, { "content-type": "application/json" });
      res.end(typeof verdict === "string" ? verdict : JSON.stringify(verdict));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(inspector, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/look?at=it` });
}

/** Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, the key in base64 behind `whsec_`. */
function isSigned({ headers }: IncomingMessage, body: string): boolean {
  const key = Buffer.from(SECRET.slice("whsec_".length), "base64");
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature } = headers;
  const wanted = `v1,${createHmac("sha256", key)
    .update(`${String(id)}.${String(at)}.${body}`)
    .digest("base64")}`;
  const given = Buffer.from(String(signature));
  return given.length === wanted.length && timingSafeEqual(given, Buffer.from(wanted)) && /^\d{10}$/.test(String(at));
}
