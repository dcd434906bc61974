/**
 * Tokens that no reader may accept, whoever signed them: one table for outside tokens at /token and for our own wherever they
 * are read. Each is made from a good one and signed by the right key, so that it is the reader who has to refuse it.
 */
import { createHmac, createPublicKey, sign, type KeyObject } from "node:crypto";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import type { Reason } from "../../src/core/oauth/reasons.ts";

/** A good ES256 token taken apart, and the key that signs it. */
export interface Mint {
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly key: KeyObject;
  /** URL of a server that must not hear from anybody. */
  readonly elsewhere: string;
  /** Seconds since the epoch. */
  readonly now: number;
}

/** One bad token. */
export interface BadToken {
  /** Id of the case and what is done to the token. */
  readonly title: string;
  /** Recorded where it is presented as an outside token. */
  readonly reason: Reason | readonly Reason[];
  make(mint: Mint): string;
}

const b64 = (bytes: string | Uint8Array): string => Buffer.from(bytes).toString("base64url");
const es256 = (key: KeyObject, input: string, dsaEncoding: "ieee-p1363" | "der" = "ieee-p1363"): Buffer =>
  sign("sha256", Buffer.from(input), { key, dsaEncoding });

/** Signs exactly these octets. */
export function signed(key: KeyObject, header: string | Uint8Array, payload: string | Uint8Array): string {
  const input = `${b64(header)}.${b64(payload)}`;
  return `${input}.${es256(key, input).toString("base64url")}`;
}

/** The good token. */
export const unchanged = (m: Mint): string => signed(m.key, JSON.stringify(m.header), JSON.stringify(m.claims));

const bad = (title: string, reason: BadToken["reason"], make: BadToken["make"]): BadToken => ({ title, reason, make });
const withHeader = (m: Mint, header: Record<string, unknown>): string =>
  signed(m.key, JSON.stringify({ ...m.header, ...header }), JSON.stringify(m.claims));
const withHeaderText = (m: Mint, text: (header: string) => string): string =>
  signed(m.key, text(JSON.stringify(m.header)), JSON.stringify(m.claims));
/** Claims replaced; undefined removes one. */
export const withClaims = (m: Mint, claims: Record<string, unknown>): string =>
  signed(m.key, JSON.stringify(m.header), JSON.stringify({ ...m.claims, ...claims }));
const withPayload = (m: Mint, payload: string | Uint8Array): string => signed(m.key, JSON.stringify(m.header), payload);
const withPayloadText = (m: Mint, text: (payload: string) => string): string =>
  withPayload(m, text(JSON.stringify(m.claims)));
/** A claim's value as raw JSON text. */
const withRaw = (m: Mint, claim: string, json: string): string =>
  withPayloadText({ ...m, claims: { ...m.claims, [claim]: "RAW-JSON" } }, (payload) =>
    payload.replace('"RAW-JSON"', json),
  );
const parts = (m: Mint): [string, string, string] => unchanged(m).split(".") as [string, string, string];
const withSignature = (m: Mint, signature: Uint8Array): string => parts(m).slice(0, 2).concat(b64(signature)).join(".");

const stranger = makeKeyPair("P-256");

const algorithms: readonly BadToken[] = [
  ...["none", "None", "nOnE", "NONE", "es256", "ES256 ", "ES256K", "", "HS256", "PBES2-HS256+A128KW", "dir"].map(
    (alg) => bad(`A-JWT-01 alg ${JSON.stringify(alg)} with a signature`, "token_alg", (m) => withHeader(m, { alg })),
  ),
  ...["none", "nOnE"].map((alg) =>
    bad(
      `A-JWT-01 alg ${alg} without a signature`,
      "token_malformed",
      (m) => `${b64(JSON.stringify({ ...m.header, alg }))}.${parts(m)[1]}.`,
    ),
  ),
  bad("A-JWT-01 no alg", "token_alg", (m) => withHeader(m, { alg: undefined })),
  ...[null, 1, ["ES256"], { alg: "ES256" }, true].map((alg) =>
    bad(`A-JWT-01 alg ${JSON.stringify(alg)}`, "token_alg", (m) => withHeader(m, { alg })),
  ),
  bad("A-JWT-01 an empty signature", "token_malformed", (m) => parts(m).slice(0, 2).join(".") + "."),
  ...Object.entries(hmacSecrets()).map(([name, secret]) =>
    bad(`A-JWT-02 HS256 keyed with the public key as ${name}`, "token_alg", (m) => {
      const input = `${b64(JSON.stringify({ ...m.header, alg: "HS256" }))}.${parts(m)[1]}`;
      return `${input}.${createHmac("sha256", secret(createPublicKey(m.key)))
        .update(input)
        .digest("base64url")}`;
    }),
  ),
];

function hmacSecrets(): Record<string, (key: KeyObject) => string | Buffer> {
  const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();
  return {
    "PEM and newline": pem,
    PEM: (key) => pem(key).trim(),
    "SPKI DER": (key) => key.export({ type: "spki", format: "der" }),
    "JWK JSON": (key) => JSON.stringify(key.export({ format: "jwk" })),
    "base64 of the DER": (key) => key.export({ type: "spki", format: "der" }).toString("base64"),
    nothing: () => "",
  };
}

const headers: readonly BadToken[] = [
  bad("A-JWT-04 jwk: an embedded key that made the signature", "token_header_member", (m) =>
    withHeader({ ...m, key: stranger.privateKey }, { jwk: stranger.publicKey.export({ format: "jwk" }) }),
  ),
  bad("A-JWT-04 jwk: the right key", "token_header_member", (m) =>
    withHeader(m, { jwk: createPublicKey(m.key).export({ format: "jwk" }) }),
  ),
  ...(["jku", "x5u"] as const).map((name) =>
    bad(`A-JWT-04 ${name}`, "token_header_member", (m) => withHeader(m, { [name]: `${m.elsewhere}/jwks` })),
  ),
  ...Object.entries({
    x5c: ["MIIB"],
    zip: "DEF",
    b64: true,
    crit: ["exp"],
    cty: "JWT",
    trust_chain: ["x"],
    enc: "A256GCM",
    p2c: 1e9,
  }).map(([name, value]) => bad(`A-JWT-04 ${name}`, "token_header_member", (m) => withHeader(m, { [name]: value }))),
  bad("A-JWT-04 crit that names b64", "token_header_member", (m) => withHeader(m, { crit: ["b64"], b64: false })),
  ...Object.entries({
    "an unknown kid": "nobody",
    "a path": "../../etc/passwd",
    SQL: "' OR 1=1 --",
    __proto__: "__proto__",
    empty: "",
  }).map(([name, kid]) => bad(`A-JWT-14 kid: ${name}`, "token_key_unknown", (m) => withHeader(m, { kid }))),
  ...[1, null, ["k"], { kid: "k" }, "k".repeat(513)].map((kid) =>
    bad(`A-JWT-14 kid ${JSON.stringify(kid).slice(0, 12)}`, "token_malformed", (m) => withHeader(m, { kid })),
  ),
  bad("A-JWT-14 kid of 10 kB", ["token_malformed", "token_too_large"], (m) =>
    withHeader(m, { kid: "k".repeat(10_000) }),
  ),
];

const duplicates: readonly BadToken[] = [
  ...['"alg":"none"', '"alg":"ES256"', '"kid":"x"', '"al\\u0067":"none"', '"typ":"JWT"'].flatMap((member) => [
    bad(`A-JWT-05 header ends with another ${member}`, "token_duplicate_member", (m) =>
      withHeaderText(m, (text) => text.replace(/\}$/, `,${member}}`)),
    ),
    bad(`A-JWT-05 header begins with another ${member}`, "token_duplicate_member", (m) =>
      withHeaderText(m, (text) => text.replace("{", `{${member},`)),
    ),
  ]),
  ...[
    '"sub":"agent|x"',
    '"s\\u0075b":"agent|x"',
    '"\\u0073\\u0075\\u0062":"x"',
    '"aud":"x"',
    '"exp":9999999999',
    '"iss":"x"',
    '"jti":"x"',
  ].flatMap((member) => [
    bad(`A-JWT-05 payload ends with another ${member}`, "token_duplicate_member", (m) =>
      withPayloadText(m, (text) => text.replace(/\}$/, `,${member}}`)),
    ),
    bad(`A-JWT-05 payload begins with another ${member}`, "token_duplicate_member", (m) =>
      withPayloadText(m, (text) => text.replace("{", `{${member},`)),
    ),
  ]),
  bad("A-JWT-05 a member twice in a nested object", "token_duplicate_member", (m) =>
    withRaw(m, "act", '{"sub":"a","sub":"b"}'),
  ),
  bad("A-JWT-05 a member twice, one escaped, three deep", "token_duplicate_member", (m) =>
    withRaw(m, "act", '{"a":[{"sub":"a","s\\u0075b":"b"}]}'),
  ),
  bad("A-JWT-05 a member twice, equal", "token_duplicate_member", (m) => withRaw(m, "x", '{"a":1,"a":1}')),
];

const times: readonly BadToken[] = [
  bad("A-JWT-06 no exp", "token_claim_missing", (m) => withClaims(m, { exp: undefined })),
  ...[null, "RAW", "", [], {}, true, -1, 0].map((exp) =>
    bad(`A-JWT-06 exp ${JSON.stringify(exp)}`, "token_claim_type", (m) => withClaims(m, { exp })),
  ),
  bad("A-JWT-06 exp as text", "token_claim_type", (m) => withClaims(m, { exp: String(m.claims["exp"]) })),
  bad("A-JWT-06 exp in a list", "token_claim_type", (m) => withClaims(m, { exp: [m.claims["exp"]] })),
  bad("A-JWT-06 exp with a fraction", "token_claim_type", (m) => withClaims(m, { exp: Number(m.claims["exp"]) + 0.5 })),
  ...[
    "1e308",
    "1e999",
    "9007199254740992",
    "9223372036854775807",
    "18446744073709551615",
    "-1e999",
    "1.7976931348623159e308",
  ].map((exp) => bad(`A-JWT-06 exp ${exp}`, "token_malformed", (m) => withRaw(m, "exp", exp))),
  ...["NaN", "Infinity", "0x7fffffff", "01", "+1", "1.", ".5", "undefined"].map((exp) =>
    bad(`A-JWT-06 exp ${exp}`, "token_malformed", (m) => withRaw(m, "exp", exp)),
  ),
  bad("A-JWT-06 iat as text", "token_claim_type", (m) => withClaims(m, { iat: String(m.claims["iat"]) })),
  bad("A-JWT-06 nbf null", "token_claim_type", (m) => withClaims(m, { nbf: null })),
  bad("A-JWT-06 no iat", "token_claim_missing", (m) => withClaims(m, { iat: undefined })),
  bad("A-JWT-07 iat more than 30 s ahead", "token_not_yet_valid", (m) =>
    withClaims(m, { iat: m.now + 31, exp: m.now + 45 }),
  ),
  bad("A-JWT-07 nbf more than 30 s ahead", "token_not_yet_valid", (m) => withClaims(m, { nbf: m.now + 31 })),
  bad("A-JWT-07 exp before iat", "token_lifetime", (m) => withClaims(m, { iat: m.now + 20, exp: m.now + 10 })),
  bad("A-JWT-07 exp equal to iat", "token_lifetime", (m) => withClaims(m, { iat: m.now + 10, exp: m.now + 10 })),
  bad("A-JWT-08 expired a minute ago", "token_expired", (m) =>
    withClaims(m, { iat: m.now - 100, exp: m.now - 60, nbf: undefined }),
  ),
];

/** Shapes of the text; some cannot stand in a header. */
const shapes: readonly BadToken[] = [
  bad("A-JWT-09 one part", "token_malformed", (m) => parts(m)[0]),
  bad("A-JWT-09 two parts", "token_malformed", (m) => parts(m).slice(0, 2).join(".")),
  bad("A-JWT-09 four parts", "token_malformed", (m) => `${unchanged(m)}.${parts(m)[2]}`),
  bad("A-JWT-09 five parts, as a JWE has", "token_malformed", (m) => [...parts(m), "YQ", "YQ"].join(".")),
  bad("A-JWT-09 an empty header", "token_malformed", (m) => `.${parts(m)[1]}.${parts(m)[2]}`),
  bad("A-JWT-09 an empty payload", "token_malformed", (m) => `${parts(m)[0]}..${parts(m)[2]}`),
  ...["..", ".", "a", "null", "a.b.c"].map((text) => bad(`A-JWT-09 ${text}`, "token_malformed", () => text)),
  bad("A-JWT-09 15 kB of dots", "token_malformed", () => ".".repeat(15_000)),
  bad("A-JWT-09 60 kB of dots", "token_too_large", () => ".".repeat(60_000)),
  ...[" ", "\n", "\t", "\r\n", "\u00a0", "\ufeff"].flatMap((blank) => [
    bad(`A-JWT-09 ${JSON.stringify(blank)} in front`, "token_malformed", (m) => blank + unchanged(m)),
    bad(`A-JWT-09 ${JSON.stringify(blank)} behind`, "token_malformed", (m) => unchanged(m) + blank),
  ]),
  bad("A-JWT-09 Bearer inside the token", "token_malformed", (m) => `Bearer ${unchanged(m)}`),
  bad("A-JWT-09 JSON serialisation (RFC 7515 §7.2)", "token_malformed", (m) => {
    const [protectedHeader, payload, signature] = parts(m);
    return JSON.stringify({ protected: protectedHeader, payload, signature });
  }),
  ...[0, 1, 2].flatMap((part) => [
    bad(`A-JWT-10 padding in part ${part}`, "token_malformed", (m) => edited(m, part, (text) => `${text}=`)),
    bad(`A-JWT-10 two paddings in part ${part}`, "token_malformed", (m) => edited(m, part, (text) => `${text}==`)),
    bad(`A-JWT-10 a blank in part ${part}`, "token_malformed", (m) =>
      edited(m, part, (text) => `${text.slice(0, 4)} ${text.slice(4)}`),
    ),
    bad(`A-JWT-10 a newline in part ${part}`, "token_malformed", (m) =>
      edited(m, part, (text) => `${text.slice(0, 4)}\n${text.slice(4)}`),
    ),
    bad(`A-JWT-10 + in part ${part}`, "token_malformed", (m) => edited(m, part, (text) => `+${text.slice(1)}`)),
    bad(`A-JWT-10 / in part ${part}`, "token_malformed", (m) => edited(m, part, (text) => `/${text.slice(1)}`)),
    bad(`A-JWT-10 one character too many in part ${part}`, "token_malformed", (m) => edited(m, part, lengthened)),
  ]),
  bad("A-JWT-10 stray bits at the end of the signature", "token_malformed", (m) => edited(m, 2, strayBit)),
];

const edited = (m: Mint, part: number, edit: (text: string) => string): string =>
  parts(m)
    .map((text, at) => (at === part ? edit(text) : text))
    .join(".");
/** To a length that base64 cannot have. */
const lengthened = (text: string): string => text + "A".repeat((5 - (text.length % 4)) % 4 || 4);
/** 64 octets leave two characters with four unused bits: setting one gives another spelling of the same signature. */
const strayBit = (text: string): string => {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return text.slice(0, -1) + alphabet[alphabet.indexOf(text.slice(-1)) | 1];
};

const payloads: readonly BadToken[] = [
  bad("A-JWT-11 nested 33 deep", "token_malformed", (m) => withRaw(m, "x", "[".repeat(32) + "]".repeat(32))),
  bad("A-JWT-11 an act 33 deep", "token_malformed", (m) =>
    withRaw(m, "act", '{"act":'.repeat(33) + "1" + "}".repeat(33)),
  ),
  bad("A-JWT-11 3,000 open brackets", "token_malformed", (m) => withRaw(m, "x", "[".repeat(3_000))),
  ...["[]", '"text"', "1", "null", "true", "", "{", "{}{}", "{},", "/**/{}", "{'a':1}", '{"a":1,}', "\u00a0{}"].map(
    (text) => bad(`A-JWT-12 the payload is ${JSON.stringify(text)}`, "token_malformed", (m) => withPayload(m, text)),
  ),
  bad("A-JWT-12 the claims in a list", "token_malformed", (m) => withPayloadText(m, (text) => `[${text}]`)),
  bad("A-JWT-12 something behind the claims", "token_malformed", (m) => withPayloadText(m, (text) => `${text}x`)),
  bad("A-JWT-12 a byte order mark", "token_malformed", (m) => withPayloadText(m, (text) => `\ufeff${text}`)),
  bad("A-JWT-12 a byte order mark in the header", "token_malformed", (m) =>
    withHeaderText(m, (text) => `\ufeff${text}`),
  ),
  bad("A-JWT-12 UTF-16", "token_malformed", (m) => withPayload(m, Buffer.from(JSON.stringify(m.claims), "utf16le"))),
  bad("A-JWT-12 octets that are not UTF-8", "token_malformed", (m) =>
    withPayload(m, Buffer.from(JSON.stringify({ ...m.claims, x: "\u00ff" }), "latin1")),
  ),
  bad("A-JWT-12 an overlong encoding", "token_malformed", (m) =>
    withPayload(
      m,
      Buffer.concat([
        Buffer.from(JSON.stringify(m.claims).replace(/\}$/, ',"x":"')),
        Buffer.from([0xc0, 0xaf]),
        Buffer.from('"}'),
      ]),
    ),
  ),
  bad("A-JWT-12 a lone surrogate", "token_malformed", (m) => withRaw(m, "x", '"\\ud800"')),
  bad("A-JWT-12 NUL in sub", "token_malformed", (m) => withRaw(m, "sub", '"a\\u0000b"')),
  bad("A-JWT-12 NUL in a name", "token_malformed", (m) => withRaw(m, "x", '{"a\\u0000":1}')),
  bad("A-JWT-12 a raw control character", "token_malformed", (m) => withRaw(m, "x", '"\u0001"')),
  bad("A-JWT-12 a claim called __proto__", "token_malformed", (m) => withRaw(m, "x", '{"__proto__":{"admin":true}}')),
  bad("A-JWT-12 sub missing", "token_claim_missing", (m) => withClaims(m, { sub: undefined })),
  ...[null, 1, "", ["a"], { sub: "a" }, true].map((sub) =>
    bad(`A-JWT-12 sub ${JSON.stringify(sub)}`, "token_claim_type", (m) => withClaims(m, { sub })),
  ),
];

/** Order of P-256: r and s lie between 1 and this less one. */
const ORDER = Buffer.from("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", "hex");
const ZERO = Buffer.alloc(32);
const ONE = Buffer.concat([Buffer.alloc(31), Buffer.from([1])]);

const signatures: readonly BadToken[] = [
  ...Object.entries({
    "zero, zero": [ZERO, ZERO],
    "zero, one": [ZERO, ONE],
    "one, zero": [ONE, ZERO],
    "order, order": [ORDER, ORDER],
    "order, one": [ORDER, ONE],
    "one, one": [ONE, ONE],
  }).map(([name, pair]) =>
    bad(`A-JWT-15 r, s = ${name}`, "token_signature", (m) => withSignature(m, Buffer.concat(pair))),
  ),
  bad("A-JWT-15 r good, s zero", "token_signature", (m) =>
    withSignature(m, Buffer.concat([Buffer.from(parts(m)[2], "base64url").subarray(0, 32), ZERO])),
  ),
  bad("A-JWT-15 DER in place of r‖s", "token_signature", (m) =>
    withSignature(m, es256(m.key, parts(m).slice(0, 2).join("."), "der")),
  ),
  ...[1, 32, 63, 65, 96, 128].map((length) =>
    bad(`A-JWT-15 a signature of ${length} octets`, "token_signature", (m) =>
      withSignature(m, Buffer.concat([Buffer.from(parts(m)[2], "base64url"), Buffer.alloc(64)]).subarray(0, length)),
    ),
  ),
  bad("A-JWT-15 the signature of another key", "token_signature", (m) => unchanged({ ...m, key: stranger.privateKey })),
  bad(
    "A-JWT-15 the signature of other claims",
    "token_signature",
    (m) => `${withClaims(m, { x: 1 }).split(".").slice(0, 2).join(".")}.${parts(m)[2]}`,
  ),
  bad("A-JWT-15 the signature of another header", "token_signature", (m) =>
    edited(m, 0, () => b64(JSON.stringify({ ...m.header, typ: undefined }))),
  ),
  bad("A-JWT-15 RS256 over an EC key", "token_key_unknown", (m) => withHeader(m, { alg: "RS256" })),
];

const names: readonly BadToken[] = [
  ...Object.entries<(iss: string) => string>({
    "upper case": (iss) => iss.toUpperCase(),
    "a slash behind": (iss) => `${iss}/`,
    "a blank behind": (iss) => `${iss} `,
    "a dot behind the host": (iss) => iss.replace(/(:\/\/[^:/]+)/, "$1."),
    "the port with a zero": (iss) => iss.replace(/:(\d+)$/, ":0$1"),
    "percent-encoding": (iss) => iss.replace("://1", "://%31"),
    "a user": (iss) => iss.replace("://", "://x@"),
    "a fragment": (iss) => `${iss}#`,
    "a path": (iss) => `${iss}/.`,
    https: (iss) => iss.replace("http:", "https:"),
  }).map(([name, change]) =>
    bad(`A-JWT-17 iss with ${name}`, "token_issuer_unknown", (m) =>
      withClaims(m, { iss: change(String(m.claims["iss"])) }),
    ),
  ),
  bad("A-JWT-17 no iss", "token_claim_missing", (m) => withClaims(m, { iss: undefined })),
  ...[null, 1, true].map((iss) =>
    bad(`A-JWT-17 iss ${JSON.stringify(iss)}`, "token_claim_type", (m) => withClaims(m, { iss })),
  ),
  bad("A-JWT-17 iss in a list", "token_claim_type", (m) => withClaims(m, { iss: [m.claims["iss"]] })),
  bad("A-JWT-18 no aud", "token_claim_missing", (m) => withClaims(m, { aud: undefined })),
  bad("A-JWT-18 ours and another", "token_audience", (m) =>
    withClaims(m, { aud: [m.claims["aud"], "https://other.example"] }),
  ),
  bad("A-JWT-18 another and ours", "token_audience", (m) =>
    withClaims(m, { aud: ["https://other.example", m.claims["aud"]] }),
  ),
  bad("A-JWT-18 ours twice", "token_audience", (m) => withClaims(m, { aud: [m.claims["aud"], m.claims["aud"]] })),
  bad("A-JWT-18 an empty list", "token_audience", (m) => withClaims(m, { aud: [] })),
  bad("A-JWT-18 a list in a list", "token_claim_type", (m) => withClaims(m, { aud: [[m.claims["aud"]]] })),
  ...[1, null, {}, true].map((aud) =>
    bad(`A-JWT-18 aud ${JSON.stringify(aud)}`, "token_claim_type", (m) => withClaims(m, { aud })),
  ),
  ...Object.entries<(aud: string) => string>({
    "in upper case": (aud) => aud.toUpperCase(),
    "and a blank": (aud) => `${aud} `,
    "and a slash": (aud) => `${aud}/`,
    "and a comma and another": (aud) => `${aud},x`,
    "with something in front": (aud) => `x${aud}`,
    cut: (aud) => aud.slice(0, -1),
  }).map(([name, change]) =>
    bad(`A-JWT-18 ours ${name}`, "token_audience", (m) => withClaims(m, { aud: change(String(m.claims["aud"])) })),
  ),
];

/** All of them. */
export const BAD_TOKENS: readonly BadToken[] = [
  ...algorithms,
  ...headers,
  ...duplicates,
  ...times,
  ...shapes,
  ...payloads,
  ...signatures,
  ...names,
];
