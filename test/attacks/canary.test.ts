/** INV-15: what is secret is put wherever it could be put, rightly and wrongly; then everything that is kept or shown is searched. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  JWT_BEARER,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  type Answer,
} from "../support/world.ts";
import { asserted, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { granted } from "./refusals.ts";

const w = await chainWorld({ after });
/** Long enough that a part of one cannot be there by chance. */
const PART = 24;

interface Canaries {
  readonly secrets: Map<string, string>;
  readonly shown: { readonly what: string; readonly text: string }[];
}

/** Sends everything, keeps what was secret and what was answered. */
async function sing(): Promise<Canaries> {
  const secrets = new Map<string, string>([
    ["operator key", w.operatorKey],
    ["client secret", BILLING_SECRET],
  ]);
  const shown: { what: string; text: string }[] = [];
  const secret = (name: string, value: string): string => {
    secrets.set(name, value);
    return value;
  };
  const kept = async (what: string, asked: Promise<Answer>): Promise<Answer> => {
    const answer = await asked;
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    // A token is answered to whoever it is for; everything else of an answer must be clean.
    shown.push({
      what,
      text: `${headers}\n${answer.status === 200 && "access_token" in answer.body ? "" : answer.text}`,
    });
    return answer;
  };
  const workload = secret("workload token", w.workload("release-bot"));
  const human = secret("human token", w.human());
  const assertion = secret("private_key_jwt", w.privateKeyJwt());
  secret("access token", granted(await kept("exchange", w.self("release-bot", { token: workload, ...READ_INVOICE }))));
  const given = secret("hand-over", await w.handed(human));
  granted(
    await kept(
      "redeem",
      w.redeem("summary-bot", given, {
        ...READ_INVOICE,
        actor_token: secret("actor token", w.workload("summary-bot")),
      }),
    ),
  );
  await kept("client", w.post("/token", { grant_type: "client_credentials", ...asserted(assertion), ...READ_INVOICE }));
  await kept("replay", w.post("/token", { grant_type: "client_credentials", ...asserted(assertion), ...READ_INVOICE }));
  await kept("introspect", w.introspect(given));
  secret("v1 token", granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:read" })));

  for (const [label, value] of Array.from(secrets)) {
    for (const name of [
      "grant_type",
      "scope",
      "resource",
      "audience",
      "client_id",
      "requested_token_type",
      "ttl",
      "subject_token_type",
      "actor_token_type",
      "request_details",
      "unknown",
    ]) {
      await kept(
        `${label} as ${name}`,
        w.self("release-bot", {
          ...READ_INVOICE,
          ...(name === "audience" ? { resource: undefined } : {}),
          [name]: value,
        }),
      );
    }
    for (const type of [ACCESS_TOKEN_TYPE, JWT_TYPE, TASK_TYPE]) {
      await kept(
        `${label} as subject`,
        w.post("/token", {
          grant_type: TOKEN_EXCHANGE,
          subject_token: value,
          subject_token_type: type,
          ...READ_INVOICE,
        }),
      );
      await kept(
        `${label} as actor`,
        w.onBehalf("triage-bot", w.human(), { actor_token: value, actor_token_type: type, ...READ_INVOICE }),
      );
    }
    await kept(
      `${label} as assertion`,
      w.post("/token", { grant_type: JWT_BEARER, assertion: value, ...READ_INVOICE }),
    );
    await kept(
      `${label} as client`,
      w.post("/introspect", { token: value, client_assertion: value, client_assertion_type: ASSERTION_TYPE }),
    );
    await kept(
      `${label} as secret`,
      w.post("/introspect", { token: value, client_id: value.slice(0, 60), client_secret: value }),
    );
    await kept(
      `${label} as Basic`,
      w.post(
        "/revoke",
        { token: value },
        { authorization: `Basic ${Buffer.from(`${value}:${value}`).toString("base64")}` },
      ),
    );
    await kept(`${label} in the query`, w.post(`/token?subject_token=${value}`, {}));
    await kept(
      `${label} as DPoP`,
      w
        .self("release-bot", READ_INVOICE)
        .then(() =>
          w.post(
            "/token",
            { grant_type: TOKEN_EXCHANGE },
            { dpop: value, traceparent: value, "x-request-id": value, "user-agent": value },
          ),
        ),
    );
    for (const path of [
      `/v1/chains/${value}`,
      `/v1/who/${value}`,
      `/v1/tasks/${value}`,
      `/v1/agents/${value}`,
      `/v1/agents?after=${value}`,
      `/v1/audit?agent=${value}`,
      `/${value}`,
      `/v1/kills/${value}`,
    ]) {
      await kept(
        `${label} at ${path.slice(0, 12)}`,
        w.request("GET", path, { headers: { authorization: `Bearer ${value}` } }),
      );
      await kept(`${label} at ${path.slice(0, 12)} by an operator`, w.operator("GET", path));
    }
    await kept(`${label} killed`, w.operator("POST", "/v1/kill", { jti: value, reason: "test" }));
    // An operator's own file is quoted back to him, so that he finds the line; it is recorded nowhere.
    await w.operator("PUT", "/v1/agents/x", {
      owner: "a@b.example",
      trust: [{ issuer: value, claims: { sub: 1 } }],
      [value]: value,
    });
    await w.operator("POST", "/v1/apply", { source: "x.yaml", file: `agents:\n  ${value}: {}\n` });
    await kept(
      `${label} as body`,
      w.request("POST", "/v1/kill", {
        headers: { authorization: `Bearer ${w.operatorKey}`, "content-type": "application/json" },
        body: value,
      }),
    );
  }
  return { secrets, shown };
}

test("INV-15 no secret is in a log line, an event, the database, a metric or an answer that is not for it", async () => {
  const { secrets, shown } = await sing();
  const search = (what: string, text: string): void => {
    for (const [name, value] of secrets) {
      // Also the signature alone, and the middle: what is cut short is still a secret.
      for (const part of [value.slice(-PART), value.slice(value.length >> 1).slice(0, PART), value.slice(0, 200)]) {
        assert.ok(
          !text.includes(part),
          `${name} in ${what}: …${text.slice(Math.max(0, text.indexOf(part) - 200), text.indexOf(part) + 20)}`,
        );
      }
    }
  };
  assert.ok(w.lines.length > 0);
  search("the log", w.lines.join("\n"));
  search("the metrics", (await w.request("GET", "/metrics")).text);
  for (const { what, text } of shown) search(`the answer to ${what}`, text);
  const tables = await w.admin<{ name: string }>(
    "select table_name as name from information_schema.tables where table_schema = 'ephor' and table_type = 'BASE TABLE'",
  );
  assert.ok(tables.length > 10);
  for (const { name } of tables) {
    const rows = await w.admin<{ text: string }>(`select t::text as text from ephor."${name}" t`);
    search(`the table ${name}`, rows.map((row) => row.text).join("\n"));
    // Our own private keys are sealed.
    assert.doesNotMatch(rows.map((row) => row.text).join("\n"), /"{1,2}d"{1,2}\s*:\s*"{1,2}[\w-]{40}/, name);
  }
  assert.equal(claimsOf(secrets.get("access token") ?? "").iss, w.server.issuer);
});
