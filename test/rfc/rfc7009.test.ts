import assert from "node:assert/strict";
import { after, test } from "node:test";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const { granted, refused } = await faces(w);

const fresh = async (): Promise<string> =>
  granted(await w.self("release-bot", { resource: BILLING, scope: "billing" })).token;
const exchange = (agent: string, subject: Form, form: Form = {}): Promise<Answer> =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    ...subject,
    actor_token: w.workload(agent),
    actor_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:read_invoice",
    ...form,
  });
const secret = { client_id: "billing", client_secret: BILLING_SECRET };
const agent = (name: string): Form => ({ client_assertion: w.workload(name), client_assertion_type: ASSERTION_TYPE });
const revoke = (form: Form, headers?: Record<string, string>): Promise<Answer> => w.post("/revoke", form, headers);
const isActive = async (token: string): Promise<unknown> =>
  (await w.post("/introspect", { token, ...secret })).body["active"];
const done = (answer: Answer, label = ""): void => {
  assert.equal(answer.status, 200, `${label} ${answer.text}`);
  assert.equal(answer.text, "", label);
  assert.equal(answer.headers.get("cache-control"), "no-store", label);
};

test("POST /revoke 200 with an empty body, and the token is dead at once (RFC 7009 §2.1, §2.2)", async () => {
  const token = await fresh();
  assert.equal(await isActive(token), true);
  done(await revoke({ token, ...agent("release-bot") }));
  assert.equal(await isActive(token), false);
});

test("revoking one token leaves its siblings alive (RFC 7009 §2.1)", async () => {
  const [one, other] = [await fresh(), await fresh()];
  done(await revoke({ token: one, ...agent("release-bot") }));
  assert.equal(await isActive(one), false);
  assert.equal(await isActive(other), true);
});

test("revoking again is 200: there is nothing left to do (RFC 7009 §2.2)", async () => {
  const token = await fresh();
  for (let i = 0; i < 2; i++) done(await revoke({ token, ...agent("release-bot") }));
});

test("POST /revoke 200 for a token that is invalid, unknown or over (RFC 7009 §2.2)", async () => {
  const expired = await fresh();
  w.clock.advance(60);
  for (const token of ["garbage", w.workload("release-bot"), expired])
    done(await revoke({ token, ...agent("release-bot") }));
});

test("somebody else's token stays alive, and who asked learns nothing about it (RFC 7009 §2.1, §5)", async () => {
  const token = await fresh();
  done(await revoke({ token, ...agent("triage-bot") }), "another agent");
  done(await revoke({ token, ...agent("billing-svc") }), "the client of another resource");
  assert.equal(await isActive(token), true);
  done(await revoke({ token, ...secret }), "the resource it is for");
  assert.equal(await isActive(token), false);
});

test("token_type_hint does not matter, right, wrong or unknown (RFC 7009 §2.1)", async () => {
  for (const hint of ["access_token", "refresh_token", "nonsense"]) {
    const token = await fresh();
    done(await revoke({ token, token_type_hint: hint, ...agent("release-bot") }), hint);
    assert.equal(await isActive(token), false, hint);
  }
});

test("revoking a hand-over ends what was derived from it, and lets nothing more be derived (RFC 7009 §2.1)", async () => {
  const subject = { subject_token: w.human("00u-7009"), subject_token_type: ID_TOKEN_TYPE };
  const parent = granted(await exchange("triage-bot", subject)).token;
  const handOver = granted(
    await exchange("triage-bot", subject, { resource: `${w.server.issuer}/agents/summary-bot` }),
  ).token;
  const given = { subject_token: handOver, subject_token_type: ACCESS_TOKEN_TYPE };
  const child = granted(await exchange("summary-bot", given)).token;
  assert.equal(await isActive(child), true);
  done(await revoke({ token: handOver, ...agent("triage-bot") }));
  assert.equal(await isActive(child), false);
  await refused(await exchange("summary-bot", given), "invalid_request", "killed");
  assert.equal(await isActive(parent), true);
});

test("the agent that a hand-over is addressed to may revoke it (RFC 7009 §2.1)", async () => {
  const subject = { subject_token: w.human("00u-7009b"), subject_token_type: ID_TOKEN_TYPE };
  const handOver = granted(
    await exchange("triage-bot", subject, { resource: `${w.server.issuer}/agents/summary-bot` }),
  ).token;
  done(await revoke({ token: handOver, ...agent("release-bot") }), "a stranger to it");
  const given = { subject_token: handOver, subject_token_type: ACCESS_TOKEN_TYPE };
  granted(await exchange("summary-bot", given));
  done(await revoke({ token: handOver, ...agent("summary-bot") }), "its addressee");
  await refused(await exchange("summary-bot", given), "invalid_request", "killed");
});

test("POST /revoke 401 invalid_client without client authentication, or with a wrong secret (RFC 7009 §2.1, RFC 6749 §5.2)", async () => {
  const token = await fresh();
  await refused(await revoke({ token }), "invalid_client", "client_missing");
  await refused(await revoke({ token, ...secret, client_secret: "x" }), "invalid_client", "client_secret_wrong");
  const basic = `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}`;
  await refused(
    await revoke({ token, ...secret }, { authorization: basic }),
    "invalid_request",
    "client_several_methods",
  );
  assert.equal(await isActive(token), true);
  done(await revoke({ token }, { authorization: basic }));
});

test("POST /revoke 400 invalid_request without a token; GET is 405 (RFC 7009 §2.1)", async () => {
  await refused(await revoke(secret), "invalid_request", "parameter_missing");
  const get = await w.request("GET", "/revoke");
  assert.equal(get.status, 405);
  assert.equal(get.headers.get("allow"), "POST");
});

test("a revocation is on the record with who did it (RFC 7009 §5)", async () => {
  const { token, claims } = granted(await w.self("release-bot", { resource: BILLING, scope: "billing" }));
  done(await revoke({ token, ...agent("release-bot") }));
  const [event] = await w.events({ type: "token.revoke" });
  assert.equal(event?.["jti"], claims.jti);
  assert.equal(event?.["agent"], "agent:release-bot");
});
