import assert from "node:assert/strict";
import {
  constants,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  type KeyObject,
} from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE, world, type Answer } from "../support/world.ts";
import { BAD_TOKENS, signed, unchanged, withClaims, type Mint } from "./bad-tokens.ts";
import { BILLING, doorGrants, everyDoor, openDoors } from "./doors.ts";
import { ownKey } from "./own-key.ts";
import { assertFace, assertNothingLeaked, granted, refused, refusedNow } from "./refusals.ts";

// Outside tokens, at each place of POST /token that takes one. Our own are in own-tokens.test.ts.

/** Where headers of tokens point; nobody may come. */
let visits = 0;
const listener = createServer((_request, response) => void response.end("{}")).on("connection", () => visits++);
listener.listen(0, "127.0.0.1");
await once(listener, "listening");
after(() => listener.close());
const elsewhere = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`;

const w = await world({ after });
const doors = await openDoors(w);

/** An issuer at a URL as real ones have, with fixed keys, an algorithm list and a longest life. */
const STRICT = "https://issuer.acme.example";
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = makeKeyPair("P-256");
const ed = makeKeyPair("Ed25519");
const jwkOf = (key: KeyObject, kid: string): string => JSON.stringify({ ...key.export({ format: "jwk" }), kid });
await w.apply(
  `
issuers:
  strict:
    url: ${STRICT}
    audience: ["${w.server.issuer}", "https://sts.acme.example"]
    jwks: { keys: [${jwkOf(rsa.publicKey, "rsa")}, ${jwkOf(ec.publicKey, "ec")}, ${jwkOf(ed.publicKey, "ed")}] }
    algorithms: [RS256, ES256]
    max_token_age: 10m
agents:
  strict-bot: { owner: dana@acme.example, trust: [{ issuer: strict, claims: { team: tools } }] }
grants:
${doorGrants("strict-bot")}
`,
  "strict.yaml",
);

let minted = 0;
const issuerKey = w.workloads.key({ algorithm: "ES256" });
const issuerPrivateKey = createPrivateKey({ key: issuerKey.privateJwk, format: "jwk" });
const good = (): Mint => ({
  header: { alg: "ES256", kid: issuerKey.kid, typ: "JWT" },
  claims: {
    iss: w.workloads.url,
    sub: "system:serviceaccount:agents:door-bot",
    aud: w.server.issuer,
    jti: `t-${++minted}`,
    iat: w.now(),
    nbf: w.now(),
    exp: w.now() + 45,
  },
  key: issuerPrivateKey,
  elsewhere,
  now: w.now(),
});
const strict = (): Mint => ({
  header: { alg: "ES256", kid: "ec" },
  claims: {
    iss: STRICT,
    sub: "w-1",
    team: "tools",
    aud: w.server.issuer,
    jti: `s-${++minted}`,
    iat: w.now(),
    exp: w.now() + 300,
  },
  key: ec.privateKey,
  elsewhere,
  now: w.now(),
});
/** A strict token signed in another way. */
const strictSigned = (header: Record<string, unknown>, make: (input: string) => Buffer): string => {
  const [head, payload] = [JSON.stringify(header), JSON.stringify(strict().claims)].map((text) =>
    Buffer.from(text).toString("base64url"),
  );
  return `${head}.${payload}.${make(`${head}.${payload}`).toString("base64url")}`;
};
const rs256 = (input: string, key: KeyObject = rsa.privateKey): Buffer => sign("sha256", Buffer.from(input), key);
const ps256 = (input: string): Buffer =>
  sign("sha256", Buffer.from(input), { key: rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });

const { refuse: refusedAtEveryDoor, grant: grantedAtEveryDoor } = everyDoor(w, doors);

test("the good tokens pass every door", async () => {
  await grantedAtEveryDoor(() => unchanged(good()), "ES256");
  await grantedAtEveryDoor(() => unchanged(strict()), "strict");
  await grantedAtEveryDoor(() => w.workload("door-bot"), "RS256");
});

const WHAT: Readonly<Record<string, string>> = {
  "A-JWT-01": "alg none, unknown or missing, and an empty signature",
  "A-JWT-02": "HS256 keyed with the public key, however it is written",
  "A-JWT-04": "headers that carry or fetch a key, or change what is signed",
  "A-JWT-05": "a member twice, in header or payload, at any depth, also escaped",
  "A-JWT-06": "exp missing, of another type, or not an exact whole number of seconds",
  "A-JWT-07": "iat or nbf ahead, exp not after iat",
  "A-JWT-08": "expired",
  "A-JWT-09": "not three parts, or something around them",
  "A-JWT-10": "base64url that is padded, of the other alphabet, broken or not canonical",
  "A-JWT-11": "nested deeper than 32",
  "A-JWT-12": "a payload that is no object, or text that parsers read differently",
  "A-JWT-14": "a kid that nobody has, or that is none",
  "A-JWT-15": "ECDSA signatures that are not r and s of these bytes",
  "A-JWT-17": "an iss that is nearly ours to trust",
  "A-JWT-18": "an aud that is not ours alone",
};
for (const [id, what] of Object.entries(WHAT)) {
  test(`${id} ${what}`, async () => {
    const cases = BAD_TOKENS.filter((each) => each.title.startsWith(id));
    assert.ok(cases.length > 0);
    for (const { title, reason, make } of cases) await refusedAtEveryDoor(reason, () => make(good()), title);
    await grantedAtEveryDoor(() => unchanged(good()), "unchanged");
    assert.equal(visits, 0, "somebody followed a URL of a token");
  });
}

test("A-JWT-02 HS256 keyed with the issuer's RSA key", async () => {
  const spki = createPublicKey(rsa.privateKey);
  const secrets = [
    spki.export({ type: "spki", format: "pem" }).toString(),
    spki.export({ type: "spki", format: "pem" }).toString().trim(),
    spki.export({ type: "pkcs1", format: "pem" }).toString(),
    spki.export({ type: "spki", format: "der" }),
    JSON.stringify(spki.export({ format: "jwk" })),
    String(spki.export({ format: "jwk" }).n),
  ];
  for (const [at, secret] of secrets.entries()) {
    for (const alg of ["HS256", "HS512"]) {
      const make = (): string =>
        strictSigned({ alg, kid: "rsa" }, (input) =>
          createHmac(alg.replace("HS", "sha"), secret).update(input).digest(),
        );
      await refusedAtEveryDoor("token_alg", make, `${alg} ${at}`);
    }
  }
  await grantedAtEveryDoor(() => strictSigned({ alg: "RS256", kid: "rsa" }, (input) => rs256(input)), "RS256");
});

test("A-JWT-03 a good signature by an algorithm outside the issuer's list", async () => {
  await refusedAtEveryDoor("token_alg", () => strictSigned({ alg: "PS256", kid: "rsa" }, ps256), "PS256");
  await refusedAtEveryDoor(
    "token_alg",
    () => strictSigned({ alg: "RS512", kid: "rsa" }, (input) => sign("sha512", Buffer.from(input), rsa.privateKey)),
    "RS512",
  );
  for (const alg of ["EdDSA", "Ed25519"]) {
    await refusedAtEveryDoor(
      "token_alg",
      () => strictSigned({ alg, kid: "ed" }, (input) => sign(null, Buffer.from(input), ed.privateKey)),
      alg,
    );
  }
  // In the list, but not how this signature was made, or not of this key.
  await refusedAtEveryDoor(
    "token_signature",
    () => strictSigned({ alg: "RS256", kid: "rsa" }, ps256),
    "PS256 that says RS256",
  );
  await refusedAtEveryDoor(
    "token_key_unknown",
    () => strictSigned({ alg: "RS256", kid: "ec" }, (input) => rs256(input)),
    "RS256 by the name of the EC key",
  );
  await refusedAtEveryDoor(
    "token_key_unknown",
    () => strictSigned({ alg: "ES256", kid: "rsa" }, (input) => rs256(input)),
    "ES256 by the name of the RSA key",
  );
  await grantedAtEveryDoor(() => strictSigned({ alg: "RS256", kid: "rsa" }, (input) => rs256(input)), "RS256");
  await grantedAtEveryDoor(
    () => strictSigned({ alg: "RS256" }, (input) => rs256(input)),
    "the only RSA key needs no name",
  );
});

test("A-JWT-04 a header member that means nothing to anybody is ignored (RFC 7515 §4)", async () => {
  await grantedAtEveryDoor(
    () => signed(ec.privateKey, JSON.stringify({ ...strict().header, x: "y" }), JSON.stringify(strict().claims)),
    "x",
  );
});

test("A-JWT-07 a life above the issuer's allowed maximum, and a clock 30 seconds ahead", async () => {
  await refusedAtEveryDoor("token_lifetime", () => withClaims(strict(), { exp: w.now() + 601 }), "601 s of 10 minutes");
  await refusedAtEveryDoor("token_lifetime", () => withClaims(good(), { exp: w.now() + 86_401 }), "more than a day");
  await refusedAtEveryDoor(
    "token_lifetime",
    () => withClaims(strict(), { exp: w.now() + 10 * 365 * 86_400 }),
    "ten years",
  );
  await grantedAtEveryDoor(() => withClaims(strict(), { exp: w.now() + 600 }), "10 minutes");
  await grantedAtEveryDoor(() => withClaims(good(), { exp: w.now() + 86_400 }), "a day");
  await grantedAtEveryDoor(
    () => withClaims(good(), { iat: w.now() + 30, nbf: w.now() + 30, exp: w.now() + 60 }),
    "30 s ahead",
  );
});

test("A-JWT-08 expired: within the issuer's skew of 30 seconds accepted, at its end refused", async () => {
  for (const ago of [30, 31, 300]) {
    await refusedAtEveryDoor(
      "token_expired",
      () => withClaims(good(), { iat: w.now() - 400, nbf: undefined, exp: w.now() - ago }),
      `${ago} s ago`,
    );
  }
  for (const ago of [29, 0])
    await grantedAtEveryDoor(
      () => withClaims(good(), { iat: w.now() - 400, nbf: undefined, exp: w.now() - ago }),
      `${ago} s ago`,
    );
});

test("A-JWT-09 megabytes of dots end at the body's limit, and the longest that is read takes under 50 ms", async () => {
  await refused(w, { error: "invalid_request", reason: "body_too_large", status: 413 }, () =>
    doors[0]!.send(".".repeat(1_000_000)),
  );
  for (const text of [
    ".".repeat(16_000),
    "a".repeat(16_000),
    `${"A".repeat(8_000)}.${"A".repeat(7_900)}.AA`,
    "[".repeat(16_000),
  ]) {
    let fastest = Infinity;
    for (let round = 0; round < 20 && fastest >= 50; round++) {
      const started = performance.now();
      assert.equal((await doors[0]!.send(text)).status, 400);
      fastest = Math.min(fastest, performance.now() - started);
    }
    assert.ok(fastest < 50, `${fastest} ms`);
  }
});

test("A-JWT-11 a workload's token of more than 8 KiB, and a human's of more than 16", async () => {
  const sized = (bytes: number): string => {
    const padded = (length: number): string => withClaims(good(), { x: "x".repeat(length) });
    const length = Math.floor(((bytes - padded(0).length) * 3) / 4);
    return [1, 0, -1, -2, -3].map((more) => padded(length + more)).find((token) => token.length <= bytes) ?? "";
  };
  await refusedAtEveryDoor("token_too_large", () => sized(8 * 1024 + 3), "8 KiB and a little");
  await refusedAtEveryDoor("token_too_large", () => sized(16 * 1024 + 3), "16 KiB and a little");
  assert.ok(sized(8 * 1024).length > 8 * 1024 - 3);
  await grantedAtEveryDoor(() => sized(8 * 1024), "8 KiB");
  const human = (characters: number): Promise<ReturnType<typeof granted>> =>
    w
      .post("/token", {
        grant_type: TOKEN_EXCHANGE,
        subject_token: w.human("00u-big", { x: "x".repeat(characters) }),
        subject_token_type: JWT_TYPE,
        actor_token: w.workload("door-bot"),
        actor_token_type: JWT_TYPE,
        resource: BILLING,
        scope: "billing:read_invoice",
      })
      .then((answer) => granted(answer));
  await human(9_000);
  await assert.rejects(human(12_500));
  // Depth: 32 levels are read, 33 are not (in the table).
  await grantedAtEveryDoor(
    () =>
      signed(
        good().key,
        JSON.stringify(good().header),
        JSON.stringify(good().claims).replace(/\}$/, `,"x":${"[".repeat(31)}${"]".repeat(31)}}`),
      ),
    "32 deep",
  );
});

test("A-JWT-13 tokens of another kind: our own, those that say they are ours, and other types", async () => {
  const record = await ownKey(w, "record");
  const statement = (typ: string): string =>
    signed(
      record.privateKey,
      JSON.stringify({ typ, alg: "ES256", kid: record.kid }),
      JSON.stringify({ ...good().claims, iss: w.server.issuer }),
    );
  const access = async (): Promise<string> =>
    granted(await w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice" }));
  const kinds: Record<string, () => Promise<string>> = {
    "our access token": access,
    "our hand-over": async () =>
      granted(
        await w.self("release-bot", { resource: `${w.server.issuer}/agents/door-bot`, scope: "billing:read_invoice" }),
      ),
    "our introspection answer": async () =>
      (
        await w.post(
          "/introspect",
          { token: await access(), client_id: "billing", client_secret: BILLING_SECRET },
          { accept: "application/token-introspection+jwt" },
        )
      ).text,
    "our ledger's head": async () => statement("ephor-head+jwt"),
    "our approval": async () => statement("ephor-approval+jwt"),
  };
  await w.apply("grants: [{ agent: release-bot, delegate_to: [door-bot], name: release-to-door }]", "kinds.yaml");
  for (const [name, make] of Object.entries(kinds)) {
    for (const door of doors) {
      w.clock.advance(61);
      const token = await make();
      assert.match(token, /^eyJ/);
      // As a subject token an access token of ours is looked at as a hand-over, for which nobody acts here.
      const isLookedAt = door.name === "subject_token" && (name === "our access token" || name === "our hand-over");
      const reason = isLookedAt ? "actor_missing" : "token_issuer_unknown";
      await refusedNow(w, { error: door.error, reason }, () => door.send(token), `${door.name}: ${name}`);
    }
  }
  const acted = (token: string): Promise<Answer> =>
    doors[0]!.send(token, { actor_token: w.workload("door-bot"), actor_token_type: JWT_TYPE });
  w.clock.advance(61);
  const token = await access();
  await refusedNow(
    w,
    { error: "invalid_request", reason: "subject_not_addressed" },
    () => acted(token),
    "an access token that is not addressed to the actor",
  );
  // Our issuer's name in a token of somebody else's key, plain and dressed as ours.
  await refusedAtEveryDoor("token_issuer_unknown", () => withClaims(good(), { iss: w.server.issuer }), "our iss");
  const dressed = (): string =>
    signed(
      ec.privateKey,
      JSON.stringify({ typ: "at+jwt", alg: "ES256", kid: record.kid }),
      JSON.stringify({ ...good().claims, iss: w.server.issuer }),
    );
  for (const door of doors) {
    await refused(
      w,
      { error: door.error, reason: door.name === "subject_token" ? "token_signature" : "token_issuer_unknown" },
      () => door.send(dressed()),
      door.name,
    );
  }
  const typed = (typ: unknown): string =>
    signed(ec.privateKey, JSON.stringify({ ...strict().header, typ }), JSON.stringify(strict().claims));
  for (const typ of [
    "ephor-head+jwt",
    "ephor-receipt+jwt",
    "ephor-approval+jwt",
    "txntoken+jwt",
    "token-introspection+jwt",
    "secevent+jwt",
    "logout+jwt",
    "dpop+jwt",
    "JWE",
    "application/x",
    "",
    "client-authentication+jwt",
  ]) {
    await refusedAtEveryDoor("token_typ", () => typed(typ), typ);
  }
  for (const typ of [1, null, ["JWT"], "t".repeat(200)])
    await refusedAtEveryDoor("token_malformed", () => typed(typ), String(typ).slice(0, 9));
  await refusedAtEveryDoor(
    "token_typ",
    () => withClaims(strict(), { events: { "http://schemas.openid.net/event/backchannel-logout": {} } }),
    "a logout token",
  );
  await refusedAtEveryDoor(
    "token_bound",
    () => withClaims(strict(), { cnf: { jkt: "x".repeat(43) } }),
    "bound to a key that nobody shows",
  );
  await refusedAtEveryDoor(
    "token_bound",
    () => withClaims(strict(), { cnf: { "x5t#S256": "x" } }),
    "bound to a certificate",
  );
  for (const typ of ["JWT", "jwt", "application/jwt", "at+jwt", undefined])
    await grantedAtEveryDoor(() => typed(typ), String(typ));
});

test("A-JWT-14 unknown kids bring at most one look at the issuer's keys", async () => {
  w.clock.advance(31);
  granted(await doors[0]!.send(unchanged(good())));
  await w.workloads.forgetRequests();
  for (const kid of ["a", "../jwks", "' OR 1=1 --", "%00", "k".repeat(512)]) {
    const token = signed(good().key, JSON.stringify({ ...good().header, kid }), JSON.stringify(good().claims));
    assertFace(await doors[0]!.send(token), { error: "invalid_request", label: kid });
  }
  const { jwks, seen } = await w.workloads.requests();
  assert.ok(jwks <= 1, `${jwks} fetches`);
  assert.deepEqual(
    seen.filter(({ path }) => path !== "/jwks" && path !== "/.well-known/openid-configuration"),
    [],
  );
});

test("A-JWT-16 an issuer's weak, broken, private or symmetric keys are not loaded, and do not spoil the others", async () => {
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 });
  const stranger = makeKeyPair("P-256");
  const rsaJwk = rsa.publicKey.export({ format: "jwk" });
  const ecJwk = stranger.publicKey.export({ format: "jwk" });
  const symmetric = { kty: "oct", k: Buffer.from("secret").toString("base64url") };
  const published: Record<string, Record<string, unknown>> = {
    "rsa-1024": { ...small.publicKey.export({ format: "jwk" }) },
    "exponent-1": { ...rsaJwk, e: "AQ" },
    "exponent-2": { ...rsaJwk, e: "Ag" },
    "exponent-even": { ...rsaJwk, e: "AQAC" },
    "modulus-even": { ...rsaJwk, n: String(rsaJwk.n).replace(/.$/, "A") },
    "off-curve": { ...ecJwk, y: ecJwk.x },
    "curve-k1": { ...ecJwk, crv: "secp256k1" },
    "short-x": { ...ecJwk, x: String(ecJwk.x).slice(0, 20) },
    "private-ec": { ...stranger.privateKey.export({ format: "jwk" }) },
    "private-rsa": { ...rsa.privateKey.export({ format: "jwk" }) },
    "for-encryption": { ...ecJwk, use: "enc" },
    "ops-sign": { ...ecJwk, key_ops: ["sign"] },
    "alg-other": { ...ecJwk, alg: "ES384" },
    symmetric,
    "kid-number": { ...ecJwk, kid: 7 },
  };
  await w.workloads.publish([...Object.entries(published).map(([kid, jwk]) => ({ kid, ...jwk })), "text", null, 1, []]);
  w.clock.advance(601);
  const signers: Record<string, (input: string) => Buffer> = {
    "rsa-1024": (input) => rs256(input, small.privateKey),
    "exponent-1": unpowered,
  };
  for (const [kid, { kty }] of Object.entries(published)) {
    const make = (): string => {
      const header = { alg: kty === "RSA" ? "RS256" : "ES256", kid };
      const [head, payload] = [header, good().claims].map((part) =>
        Buffer.from(JSON.stringify(part)).toString("base64url"),
      );
      const input = `${head}.${payload}`;
      const signer =
        signers[kid] ??
        ((text: string) =>
          kty === "RSA"
            ? rs256(text)
            : sign("sha256", Buffer.from(text), { key: stranger.privateKey, dsaEncoding: "ieee-p1363" }));
      return `${input}.${signer(input).toString("base64url")}`;
    };
    await refusedAtEveryDoor("token_key_unknown", make, kid);
  }
  await grantedAtEveryDoor(() => unchanged(good()), "the good keys beside them");
  // The same in a trust file does not get in at all.
  for (const kid of ["rsa-1024", "private-ec", "private-rsa", "symmetric", "curve-k1"]) {
    const spec = {
      url: `https://${kid}.acme.example`,
      audience: w.server.issuer,
      jwks: { keys: [{ kid, ...published[kid] }] },
    };
    assert.equal((await w.operator("PUT", `/v1/issuers/${kid}`, spec)).status, 422, kid);
    assert.equal((await w.operator("GET", `/v1/issuers/${kid}`)).status, 404, kid);
  }
  await w.workloads.publish([]);
});

/** What an RSA key with exponent 1 would accept: the padded digest itself (RFC 8017 §9.2). */
function unpowered(input: string): Buffer {
  const digestInfo = Buffer.from("3031300d060960864801650304020105000420", "hex");
  const hash = createHash("sha256").update(input).digest();
  const padding = Buffer.alloc(256 - 3 - digestInfo.length - hash.length, 0xff);
  return Buffer.concat([Buffer.from([0, 1]), padding, Buffer.from([0]), digestInfo, hash]);
}

test("A-JWT-17 an iss that differs by what URL readers forgive", async () => {
  const host = "issuer.acme.example";
  const nearly = [
    `https://${host}:443`,
    `https://${host}.`,
    `https://${host.toUpperCase()}`,
    `HTTPS://${host}`,
    `https://${host}/`,
    `https://${host}//`,
    `https://%69ssuer.acme.example`,
    `https://${host}?`,
    `https://${host}#`,
    `http://${host}`,
    `https://x@${host}`,
    `https://${host}.evil.com`,
    `https://evil.com/${host}`,
    ` ${STRICT}`,
    `${STRICT} `,
    `${STRICT}\t`,
    "https://issuer.acme.examplе",
    `https://xn--${host}`,
    host,
    `//${host}`,
    "",
  ];
  for (const iss of nearly) {
    await refusedAtEveryDoor("token_issuer_unknown", () => withClaims(strict(), { iss }), iss);
  }
  await grantedAtEveryDoor(() => unchanged(strict()), STRICT);
});

test("A-JWT-18 exactly one audience, equal to one of those that are configured", async () => {
  await refusedAtEveryDoor(
    "token_audience",
    () => withClaims(strict(), { aud: [w.server.issuer, "https://sts.acme.example"] }),
    "two of ours are two",
  );
  await grantedAtEveryDoor(() => withClaims(strict(), { aud: "https://sts.acme.example" }), "the other one");
  await grantedAtEveryDoor(() => withClaims(strict(), { aud: [w.server.issuer] }), "a list of one");
});

test("no refusal of this file leaked or called anybody", async () => {
  assert.equal(visits, 0);
  await assertNothingLeaked(w);
});
