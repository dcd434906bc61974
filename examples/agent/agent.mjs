// An agent that reads an invoice at a tool server, under a task that ends with it. Settings: see README.md.
import { createClient, fileProof, KilledError, platformProof } from "ephor/client";

const { EPHOR_URL: url, EPHOR_AUDIENCE: audience = url, EPHOR_TOKEN_FILE: file, RESOURCE, TOOL_URL } = process.env;

const client = createClient({ url, proof: file ? fileProof(file) : platformProof({ audience, env: process.env }) });
const task = await client.openTask({ purpose: "read invoice 7" });
try {
  const rounds = Number(process.env.ROUNDS ?? 1);
  const ttlSeconds = Number(process.env.TTL ?? 45);
  for (let round = 1; round <= rounds; round++) {
    // Asked for at each call: the client hands out the same token until shortly before its end, then a new one.
    const token = await task.exchange({ resource: RESOURCE, scopes: ["billing:read_invoice"], ttlSeconds });
    const invoice = `${TOOL_URL}/invoices/7`;
    const answer = await fetch(invoice, { headers: await token.headers({ method: "GET", url: invoice }) });
    console.log(answer.status, await answer.text());
    if (round < rounds) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
} catch (error) {
  if (!(error instanceof KilledError)) throw error;
  console.log("stopped:", error.message);
  process.exitCode = 5;
} finally {
  await task.complete().catch(() => {});
}
