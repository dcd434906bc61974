import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { TestContext } from "node:test";
import { test } from "node:test";
import { OUTSIDE_TOKEN_MAX_BYTES, readCompactJws } from "../../src/core/token/jws.ts";
import { JwkError } from "../../src/core/token/public-jwk.ts";
import { RefusedToken } from "../../src/core/token/refused.ts";
import { importVerificationKey } from "../../src/system/jwk.ts";
import { verifyJwsSignature } from "../../src/system/jws-signature.ts";

// Project Wycheproof's files are not part of this repository: EPHOR_VECTORS says where they are.
const directory = resolve(process.env.EPHOR_VECTORS ?? resolve(import.meta.dirname, "../../../shared/vectors/wycheproof"));

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly result: "valid" | "invalid" | "acceptable";
  readonly jws?: unknown;
  readonly msg?: string;
  readonly sig?: string;
}
type Jwk = Record<string, unknown>;
interface Group {
  readonly comment?: string;
  readonly public?: Jwk & { keys?: Jwk[] };
  readonly private?: Jwk & { keys?: Jwk[] };
  readonly publicKeyDer?: string;
  readonly publicKeyJwk?: Jwk;
  readonly tests: readonly Vector[];
}

function read(t: TestContext, name: string): readonly Group[] | undefined {
  const path = resolve(directory, name);
  if (existsSync(path)) return (JSON.parse(readFileSync(path, "utf8")) as { testGroups: Group[] }).testGroups;
  t.diagnostic(`vectors absent: ${name} (set EPHOR_VECTORS to a directory of Project Wycheproof's files)`);
  return undefined;
}

/** As federation does it: read strictly, choose the key by `kid`, insist on its algorithms, verify. */
function isAccepted(token: unknown, jwks: readonly Jwk[]): boolean {
  if (typeof token !== "string") return false;
  try {
    const jws = readCompactJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES });
    const jwk = jwks.find((candidate) => candidate.kid === jws.header.kid);
    if (jwk === undefined) return false;
    const { key, algorithms } = importVerificationKey(jwk);
    return algorithms.includes(jws.header.alg) && verifyJwsSignature(jws.header.alg, key, jws);
  } catch (error) {
    assert.ok(error instanceof RefusedToken || error instanceof JwkError, String(error));
    return false;
  }
}

const isSymmetric = (group: Group) => group.public === undefined;

/**
 * Valid by Wycheproof, refused here on purpose: keys whose own `alg` is another algorithm than the token's, or none at all
 * ("ES521"). One key, one algorithm (RFC 8725 §3.1). Named by group comment, so that no other vector hides behind it.
 */
function isStricterHere(group: Group, alg: unknown): boolean {
  return group.comment?.startsWith("rfc7520") === true && group.public?.alg !== alg;
}

function algorithmOf(token: unknown): unknown {
  return (JSON.parse(Buffer.from(String(token).split(".")[0] ?? "", "base64url").toString()) as { alg: unknown }).alg;
}

for (const file of ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"]) {
  test(`A-JWT-15 A-JWT-16 Wycheproof ${file}`, (t) => {
    const groups = read(t, file);
    let accepted = 0;
    let refused = 0;
    for (const group of groups ?? []) {
      const jwks = group.public?.keys ?? (group.public === undefined ? (group.private?.keys ?? []) : [group.public]);
      for (const vector of group.tests) {
        if (vector.jws === undefined) continue;
        const expected =
          vector.result === "valid" && !isSymmetric(group) && !isStricterHere(group, algorithmOf(vector.jws));
        assert.equal(isAccepted(vector.jws, jwks), expected, `${file} ${vector.tcId} ${group.comment}: ${vector.comment}`);
        if (expected) accepted++;
        else refused++;
      }
    }
    if (groups !== undefined) {
      t.diagnostic(`${accepted} accepted, ${refused} refused`);
      assert.ok(accepted > 0 && refused > 0);
    }
  });
}

for (const [file, alg] of [
  ["ecdsa_secp256r1_sha256_p1363_test.json", "ES256"],
  ["ed25519_test.json", "Ed25519"],
] as const) {
  test(`A-JWT-15 Wycheproof ${file}`, (t) => {
    const groups = read(t, file);
    let vectors = 0;
    for (const group of groups ?? []) {
      const der = Buffer.from(group.publicKeyDer ?? "", "hex");
      const jwk = group.publicKeyJwk ?? createPublicKey({ key: der, format: "der", type: "spki" }).export({ format: "jwk" });
      const { key } = importVerificationKey(jwk as Jwk);
      for (const { tcId, comment, msg = "", sig = "", result } of group.tests) {
        const signingInput = Buffer.from(msg, "hex").toString("latin1");
        const isGood = verifyJwsSignature(alg, key, { signingInput, signature: Buffer.from(sig, "hex") });
        assert.equal(isGood, result === "valid", `${file} ${tcId}: ${comment}`);
        vectors++;
      }
    }
    if (groups !== undefined) assert.ok(vectors > 100, String(vectors));
  });
}
