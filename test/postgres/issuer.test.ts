import assert from "node:assert/strict";
import { test } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { agreedIssuer } from "../../src/server/agreed-issuer.ts";
import { testDatabase } from "../support/database.ts";

const config = (env: Record<string, string>) => loadConfig({ env, workingDirectory: "/nowhere" });

test("two replicas without a configured issuer speak as the first one's, so that each accepts the other's tokens", async (t) => {
  const { db } = await testDatabase(t);
  const first = await agreedIssuer(config({ EPHOR_LISTEN: "127.0.0.1:8461" }), db);
  const second = await agreedIssuer(config({ EPHOR_LISTEN: "127.0.0.1:8462" }), db);
  assert.equal(first, "http://127.0.0.1:8461");
  assert.equal(second, first);
});

test("a configured issuer stands, whatever was agreed on before", async (t) => {
  const { db } = await testDatabase(t);
  await agreedIssuer(config({ EPHOR_LISTEN: "127.0.0.1:8461" }), db);
  const issuer = await agreedIssuer(config({ EPHOR_ISSUER: "https://sts.acme.example" }), db);
  assert.equal(issuer, "https://sts.acme.example");
});
