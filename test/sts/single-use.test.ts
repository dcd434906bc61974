import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { randomUUID } from "node:crypto";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import { JWT_TYPE, TOKEN_EXCHANGE, usualTrust, world, type Answer } from "../support/world.ts";

const w = await world(
  {
    after,
  },
  { trust: (issuers) => usualTrust(issuers).replace("internal: true }", "internal: true, single_use: true }") },
);

const BILLING = "https://billing.acme.example";

/** A client that binds its tokens to a key, and takes our nonces. */
function keyed(): (token: string, actor?: boolean) => Promise<Answer> {
  const { privateKey, publicKey } = makeKeyPair("P-256");
  let nonce: string | undefined;
  const send = (token: string): Promise<Answer> => {
    const header = Buffer.from(
      JSON.stringify({ typ: "dpop+jwt", alg: "ES256", jwk: publicKey.export({ format: "jwk" }) }),
    );
    const proof = signJws("ES256", privateKey, {
      encodedHeader: header.toString("base64url"),
      claims: { jti: randomUUID(), htm: "POST", htu: `${w.server.issuer}/token`, iat: w.now(), nonce },
    });
    return w.post(
      "/token",
      {
        grant_type: TOKEN_EXCHANGE,
        subject_token: token,
        subject_token_type: JWT_TYPE,
        resource: BILLING,
        scope: "billing:read_invoice",
      },
      { dpop: proof },
    );
  };
  return async (token) => {
    const first = await send(token);
    nonce = first.headers.get("dpop-nonce") ?? nonce;
    return first.body["error"] === "use_dpop_nonce" ? send(token) : first;
  };
}

const txnOf = (answer: Answer): unknown => decodeJwt(answer.body["access_token"] as string)["txn"];

test("a single-use token without a key opens one task and is refused afterwards", async () => {
  const token = w.workload("release-bot");
  assert.equal((await w.self("release-bot", { token, resource: BILLING, scope: "billing" })).status, 200);
  const again = await w.self("release-bot", { token, resource: BILLING, scope: "billing" });
  assert.equal(again.body["error"], "invalid_request");
  assert.equal((await w.events({ type: "token.issue", limit: "1" }))[0]?.["reason"], "single_use_spent");
});

test("a single-use token that came with a DPoP key continues by that key until the deadline, also past its own end, and by no other", async () => {
  const token = w.workload("release-bot");
  const client = keyed();
  const first = await client(token);
  assert.equal(first.status, 200, first.text);
  assert.equal(first.body["token_type"], "DPoP");
  const second = await client(token);
  assert.equal(txnOf(second), txnOf(first));
  assert.equal((await keyed()(token)).body["error"], "invalid_request");
  assert.equal(
    (await w.self("release-bot", { token, resource: BILLING, scope: "billing" })).body["error"],
    "invalid_request",
  );
  w.clock.advance(700);
  const late = await client(token);
  assert.equal(late.status, 200, late.text);
  assert.equal(txnOf(late), txnOf(first));
  assert.equal((await keyed()(token)).body["error"], "invalid_request");
  w.clock.advance(3_600);
  assert.equal((await client(token)).body["error"], "invalid_request");
});

test("an expired single-use token that opened nothing is refused, with a key too", async () => {
  const token = w.workload("release-bot");
  w.clock.advance(700);
  assert.equal((await keyed()(token)).body["error"], "invalid_request");
});
