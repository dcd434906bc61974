import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import {
  ACCESS_TOKEN_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  START,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { BILLING, openDoors, type Door } from "./doors.ts";
import {
  assertNothingLeaked,
  badToken,
  eventOf,
  granted,
  hops,
  message,
  raw,
  refused,
  refusedNow,
  type Refusal,
} from "./refusals.ts";

const w = await world({ after });
const doors = await openDoors(w);

const FORM = "application/x-www-form-urlencoded";
const SAML2_TYPE = "urn:ietf:params:oauth:token-type:saml2";
const badRequest = (reason: Refusal["reason"], status = 400): Refusal => ({ error: "invalid_request", reason, status });
const badScope = (reason: Refusal["reason"]): Refusal => ({ error: "invalid_scope", reason });
const badTarget = (reason: Refusal["reason"]): Refusal => ({ error: "invalid_target", reason });

/** A good exchange of an agent for itself, with parameters added, replaced or (undefined) removed. */
const exchange = (more: Form = {}): Promise<Answer> =>
  w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice", ...more });
/** The same as text. */
const encoded = (more: Form = {}): string => {
  const body = new URLSearchParams();
  const form: Form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("release-bot"),
    subject_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:read_invoice",
    ...more,
  };
  for (const [name, value] of Object.entries(form)) if (typeof value === "string") body.append(name, value);
  return body.toString();
};
const post = (body: string, contentType: string | undefined = FORM, target = "/token"): Promise<Answer> =>
  w.request("POST", target, { body, headers: { "content-type": contentType } });
const rawPost = (
  body: string | Buffer,
  headers: readonly (readonly [string, string])[] = [["Content-Type", FORM]],
): Promise<Answer> => raw(w.url, message("POST", "/token", { headers, body }));
/** A human's request carried by an agent. */
const onBehalf = (more: Form = {}): Promise<Answer> =>
  exchange({
    subject_token: w.human(),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    ...more,
  });

/** A parameter of what is wanted, at every grant type: each of them has its own way to this check, and none may miss it. */
async function refusedAtEveryDoor(refusal: Refusal, more: Form, label: string): Promise<void> {
  for (const door of doors) await refused(w, refusal, () => throughDoor(door, more), `${door.name}: ${label}`);
}
const throughDoor = (door: Door, more: Form = {}): Promise<Answer> => door.send(w.workload("door-bot"), more);

test("every door lets the good request through", async () => {
  for (const door of doors) granted(await throughDoor(door), door.name);
});

test("A-TX-01 grant_type twice, same value", async () => {
  await refused(w, badRequest("parameter_repeated"), () => exchange({ grant_type: [TOKEN_EXCHANGE, TOKEN_EXCHANGE] }));
  await refused(w, badRequest("parameter_repeated"), () => post(`grant_type=&${encoded()}`), "once empty");
  granted(await exchange());
});

test("A-TX-02 subject_token twice, whichever of the two is good", async () => {
  const pairs: [string, () => string[]][] = [
    ["good, bad", () => [w.workload("release-bot"), "bad"]],
    ["bad, good", () => ["bad", w.workload("release-bot")]],
    [
      "good, good",
      () => {
        const token = w.workload("release-bot");
        return [token, token];
      },
    ],
    ["good, empty", () => [w.workload("release-bot"), ""]],
  ];
  for (const [label, tokens] of pairs) {
    await refused(w, badRequest("parameter_repeated"), () => exchange({ subject_token: tokens() }), label);
  }
  for (const name of [
    "subject_token_type",
    "scope",
    "actor_token",
    "client_id",
    "client_assertion",
    "ttl",
    "purpose",
  ]) {
    await refused(w, badRequest("parameter_repeated"), () => exchange({ [name]: ["a", "a"] }), name);
  }
  granted(await exchange({ subject_token: [w.workload("release-bot")] }));
});

test("A-TX-03 parameters in the URL are never read, beside a body or alone", async () => {
  const withoutGrant = encoded({ grant_type: undefined });
  await refused(w, badRequest("parameter_in_query"), () =>
    post(withoutGrant, FORM, `/token?${new URLSearchParams({ grant_type: TOKEN_EXCHANGE })}`),
  );
  await refused(w, badRequest("parameter_in_query"), () => post("", FORM, `/token?${encoded()}`), "all of them");
  const emptyQuery = (): Promise<Answer> =>
    raw(w.url, message("POST", "/token?", { headers: [["Content-Type", FORM]], body: encoded() }));
  await refused(w, badRequest("parameter_in_query"), emptyQuery, "an empty query beside a good body");
  await refused(w, badRequest("parameter_missing"), () => post(withoutGrant), "and without the query it is missing");
  granted(await post(encoded()));
});

test("A-TX-04 a body as JSON, as multipart, or without Content-Type", async () => {
  const json = (): string => JSON.stringify(Object.fromEntries(new URLSearchParams(encoded())));
  const multipart = (): string =>
    [...new URLSearchParams(encoded())]
      .map(([name, value]) => `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`)
      .join("") + "--x--\r\n";
  const notAForm = badRequest("content_type", 415);
  await refused(w, notAForm, () => post(json(), "application/json"), "json");
  await refused(w, notAForm, () => post(encoded(), "application/json"), "a form that says json");
  await refused(w, notAForm, () => post(multipart(), "multipart/form-data; boundary=x"), "multipart");
  await refused(w, notAForm, () => post(encoded(), "text/plain"), "text");
  await refused(w, notAForm, () => rawPost(encoded(), []), "none");
  granted(await rawPost(encoded()));
});

test("A-TX-05 a charset that is not UTF-8, and two Content-Type headers", async () => {
  for (const type of [
    `${FORM}; charset=utf-16`,
    `${FORM}; charset=iso-8859-1`,
    `${FORM}; charset=utf-8; charset=utf-16`,
    `${FORM}, ${FORM}`,
    `${FORM}x`,
  ]) {
    await refused(w, badRequest("content_type", 415), () => post(encoded(), type), type);
  }
  const twice = [
    ["Content-Type", FORM],
    ["content-type", "application/json"],
  ] as const;
  await refused(w, badRequest("malformed_request"), () => rawPost(encoded(), twice));
  await refused(w, badRequest("malformed_request"), () => rawPost(encoded(), [...twice].reverse()));
  await refused(
    w,
    badRequest("malformed_request"),
    () =>
      rawPost(encoded(), [
        ["Content-Type", FORM],
        ["Content-Type", FORM],
      ]),
    "even the same",
  );
  await refused(
    w,
    badRequest("content_type", 415),
    () =>
      rawPost(encoded(), [
        ["Content-Type", FORM],
        ["Content-Encoding", "gzip"],
      ]),
    "compressed",
  );
  granted(await rawPost(encoded(), [["Content-Type", `${FORM}; charset=UTF-8`]]));
});

test("A-TX-06 actor_token and actor_token_type go together, and so do the others (RFC 8693 §2.1)", async () => {
  const missing = badRequest("parameter_missing");
  await refused(w, missing, () => onBehalf({ actor_token_type: undefined }));
  await refused(w, missing, () => onBehalf({ actor_token: undefined }));
  await refused(w, missing, () => onBehalf({ actor_token_type: "" }), "an empty value is no value (RFC 6749 §3.2)");
  await refused(
    w,
    missing,
    () => exchange({ actor_token: w.workload("release-bot") }),
    "beside a workload's own token",
  );
  await refused(w, missing, () => exchange({ actor_token_type: JWT_TYPE }), "beside a workload's own token");
  await refused(w, missing, () => exchange({ subject_token_type: undefined }));
  await refused(w, missing, () => exchange({ subject_token: undefined }));
  await refused(
    w,
    badRequest("actor_missing"),
    () => onBehalf({ actor_token: undefined, actor_token_type: undefined }),
    "a human without an agent",
  );
  granted(await onBehalf());
});

test("A-TX-07 a token of another type than subject_token_type and actor_token_type say", async () => {
  const accessToken = (): string =>
    w.humans.mint(
      { sub: "00u1ab", aud: "api://ephor", groups: ["support"] },
      { now: w.now(), header: { typ: "at+jwt" } },
    );
  await refused(
    w,
    badToken("token_typ"),
    () => onBehalf({ subject_token_type: ACCESS_TOKEN_TYPE }),
    "an ID token as access token",
  );
  await refused(
    w,
    badToken("token_typ"),
    () => onBehalf({ subject_token: accessToken() }),
    "an access token as ID token",
  );
  granted(await onBehalf({ subject_token: accessToken(), subject_token_type: ACCESS_TOKEN_TYPE }));
  granted(await onBehalf());
  for (const type of [
    SAML2_TYPE,
    "urn:ietf:params:oauth:token-type:saml1",
    "urn:ietf:params:oauth:token-type:refresh_token",
    "jwt",
    JWT_TYPE.toUpperCase(),
  ]) {
    await refused(
      w,
      badRequest("token_type_unsupported"),
      () => exchange({ subject_token_type: type }),
      `subject ${type}`,
    );
    await refused(w, badRequest("token_type_unsupported"), () => onBehalf({ actor_token_type: type }), `actor ${type}`);
  }
  // A hand-over token of ours is an access token, whatever the caller would like it to be.
  const given = (): Promise<string> =>
    exchange({ resource: `${w.server.issuer}/agents/summary-bot` }).then((answer) => granted(answer));
  const redeem = (token: string, type: string): Promise<Answer> =>
    exchange({
      subject_token: token,
      subject_token_type: type,
      actor_token: w.workload("summary-bot"),
      actor_token_type: JWT_TYPE,
    });
  w.clock.advance(61);
  const token = await given();
  await refusedNow(w, badToken("token_typ"), () => redeem(token, ID_TOKEN_TYPE), "ours as ID token");
  granted(await redeem(token, ACCESS_TOKEN_TYPE));
});

test("A-TX-08 requested_token_type unknown, or a refresh token, which does not exist here", async () => {
  const types = ["refresh_token", "id_token", "saml2", "id-jag", "txn_token"].map(
    (type) => `urn:ietf:params:oauth:token-type:${type}`,
  );
  for (const type of [...types, "urn:example:unknown", "access_token"]) {
    await refusedAtEveryDoor(badRequest("requested_token_type_unsupported"), { requested_token_type: type }, type);
  }
  granted(await exchange({ requested_token_type: ACCESS_TOKEN_TYPE }));
  const jwt = await exchange({ requested_token_type: JWT_TYPE });
  granted(jwt);
  assert.deepEqual([jwt.body["token_type"], jwt.body["issued_token_type"]], ["N_A", JWT_TYPE]);
  await refused(w, { error: "unsupported_grant_type", reason: "grant_type_unsupported" }, () =>
    exchange({ grant_type: "refresh_token", refresh_token: "x" }),
  );
});

test("A-TX-09 two targets, of which one is allowed: nothing for the allowed one either", async () => {
  const ledger = "https://ledger.acme.example";
  const several = badTarget("target_several");
  const pairs: Form[] = [
    { resource: [BILLING, ledger] },
    { resource: [ledger, BILLING] },
    { resource: BILLING, audience: "ledger" },
    { resource: undefined, audience: ["billing", "ledger"] },
    { resource: BILLING, audience: `${w.server.issuer}/agents/summary-bot` },
  ];
  for (const pair of pairs) await refusedAtEveryDoor(several, pair, JSON.stringify(pair));
  granted(await exchange({ resource: [BILLING, BILLING], audience: BILLING }), "the same one, named three times");
});

test("A-TX-10 a target that is relative, has a fragment or user information, or is 4 kB long", async () => {
  const malformed = [
    "/invoices",
    "billing.acme.example",
    "//billing.acme.example",
    "billing",
    `${BILLING}/#x`,
    `${BILLING}#`,
    "https://me@billing.acme.example",
    "https://me:pw@billing.acme.example/",
    `${BILLING}/${"a".repeat(4096)}`,
    `${BILLING}/ x`,
    `${BILLING}/%zz`,
    `${BILLING}/\u00e9`,
    " ",
    `${BILLING}\n`,
    `${BILLING}/\\`,
  ];
  for (const resource of malformed)
    await refused(w, badTarget("target_malformed"), () => exchange({ resource }), resource.slice(0, 60));
  await refusedAtEveryDoor(badTarget("target_malformed"), { resource: `${BILLING}#x` }, "fragment");
  const unknown = [
    "https://billing.acme.example.evil.com",
    "http://billing.acme.example",
    `${BILLING}:8443`,
    `${BILLING}/x`,
    `${BILLING}?x=y`,
    `${w.server.issuer}/agents/nobody`,
  ];
  for (const resource of unknown) await refused(w, badTarget("target_unknown"), () => exchange({ resource }), resource);
  await refusedAtEveryDoor(badTarget("target_missing"), { resource: undefined }, "none");
  // Where a cloud's own STS takes tokens (CONTRACT §4).
  for (const resource of [
    "https://sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "https://iam.googleapis.com/projects/1",
  ]) {
    await refused(w, badTarget("target_reserved"), () => exchange({ resource }), resource);
  }
  granted(await exchange({ resource: "HTTPS://Billing.acme.example:443/" }), "RFC 3986 §6.2.3: the same identifier");
  granted(await exchange({ resource: undefined, audience: "billing" }), "by name");
});

test("A-TX-11 a scope with anything but printable ASCII between single blanks (RFC 6749 §3.3)", async () => {
  const good = "billing:read_invoice";
  const malformed = [
    `${good}\tbilling`,
    `${good}\nbilling`,
    `${good}\r`,
    `"${good}"`,
    `${good}\\`,
    `${good}  ${good}`,
    ` ${good}`,
    `${good} `,
    "admin\\u0000",
    `${good}\u00a0billing`,
    `${good}\u2028`,
    `${good}\u00e9`,
    Array.from({ length: 500 }, (_, i) => `billing:a${i}`).join(" "),
    `${good}\u007f`,
  ];
  for (const scope of malformed)
    await refused(w, badScope("scope_malformed"), () => exchange({ scope }), JSON.stringify(scope).slice(0, 60));
  await refusedAtEveryDoor(badScope("scope_malformed"), { scope: `${good}\tbilling` }, "tab");
  for (const scope of [
    `${good},billing`,
    "BILLING:read_invoice",
    "billing:",
    ":read_invoice",
    "billing:read invoice",
    "billing:*",
    "*",
    "openid",
    "__proto__:x",
  ]) {
    await refused(w, badScope(["scope_unknown", "scope_not_granted"]), () => exchange({ scope }), scope);
  }
  // The text `\u0000` is a bad scope; the octet is a bad request, as in every parameter (A-TX-14).
  await refused(w, badRequest("malformed_request"), () => exchange({ scope: "admin\u0000" }), "NUL");
  granted(await exchange({ scope: `${good} ${good}` }));
});

test("A-TX-12 no scope is no permission: absent and empty are refused, never all (CONTRACT §2 rule 2)", async () => {
  await refusedAtEveryDoor(badScope("scope_missing"), { scope: undefined }, "absent");
  await refusedAtEveryDoor(badScope("scope_missing"), { scope: "" }, "empty");
  await refused(w, badScope("scope_malformed"), () => exchange({ scope: " " }), "a blank");
  const all = await exchange({ scope: "billing" });
  granted(all);
  assert.equal(all.body["scope"], "billing:read_invoice", "the resource alone asks for what is granted there");
});

test("A-TX-13 one scope more than granted refuses all of it: nothing is narrowed silently", async () => {
  await refusedAtEveryDoor(badScope("scope_not_granted"), { scope: "billing:read_invoice billing:refund" }, "one more");
  await refusedAtEveryDoor(
    badScope("scope_unknown"),
    { scope: "billing:read_invoice ledger:read" },
    "of another resource",
  );
  await refused(
    w,
    badScope("scope_not_granted"),
    () => w.self("lonely-bot", { resource: BILLING, scope: "billing" }),
    "no grant at all",
  );
  const answer = await exchange();
  assert.equal(decodeJwt(granted(answer))["scope"], "billing:read_invoice");
});

test("A-TX-14 broken percent-encoding, invalid UTF-8, and NUL in any parameter", async () => {
  const malformed = badRequest("malformed_request");
  for (const tail of [
    "&purpose=%zz",
    "&purpose=%",
    "&purpose=%4",
    "&%zz=1",
    "&purpose=%ff",
    "&purpose=%c0%80",
    "&purpose=%ed%a0%80",
    "&purpose=%00",
    "&a%00=1",
    "&client_id=release-bot%00",
  ]) {
    await refused(w, malformed, () => post(encoded() + tail), tail);
  }
  await refused(
    w,
    malformed,
    () => rawPost(Buffer.concat([Buffer.from(`${encoded()}&purpose=`), Buffer.from([0xff, 0xfe])])),
    "octets that are not UTF-8",
  );
  await refused(
    w,
    malformed,
    () => rawPost(Buffer.concat([Buffer.from(`${encoded()}&purpose=a`), Buffer.from([0])])),
    "a NUL octet",
  );
  await refused(w, malformed, () => rawPost(Buffer.from(encoded(), "utf16le")), "UTF-16");
  await refused(
    w,
    malformed,
    () => post(`${encoded()}&${Array.from({ length: 70 }, (_, i) => `a${i}=1`).join("&")}`),
    "70 parameters more",
  );
  await refused(
    w,
    badRequest("body_too_large", 413),
    () => post(`${encoded()}&foo=${"a".repeat(65_536)}`),
    "64 KiB more",
  );
  const answer = await post(`${encoded()}&purpose=caf%C3%A9+%26+cr%C3%A8me`);
  assert.equal(decodeJwt(granted(answer))["purpose"], "café & crème");
});

test("A-TX-15 any method but POST is 405 with Allow (RFC 9110 §15.5.6)", async () => {
  const notServed = badRequest("method_not_allowed", 405);
  for (const method of ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"]) {
    const body = method === "PUT" || method === "PATCH" ? encoded() : undefined;
    const answer = await refused(
      w,
      notServed,
      () =>
        raw(
          w.url,
          message(method, "/token", {
            headers: [
              ["Content-Type", FORM],
              ["Origin", "https://evil.example"],
            ],
            ...(body === undefined ? {} : { body }),
          }),
        ),
      method,
    );
    assert.equal(answer.headers.get("allow"), "POST", method);
    assert.equal(answer.headers.get("access-control-allow-methods"), null, method);
  }
  w.clock.advance(61);
  const head = await raw(w.url, message("HEAD", "/token"));
  assert.deepEqual([head.status, head.headers.get("allow"), head.text], [405, "POST", ""]);
  assert.equal((await eventOf(w, head)).reason, "method_not_allowed");
  assert.equal(
    (await raw(w.url, message("post", "/token", { headers: [["Content-Type", FORM]], body: encoded() }))).status,
    400,
    "methods are case-sensitive",
  );
  granted(await rawPost(encoded()));
});

test("A-TX-16 parameters that nobody knows have no effect (RFC 6749 §3.2), whatever they are called", async () => {
  const plain = await exchange();
  for (const name of [
    "foo",
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "hasOwnProperty",
    "is_admin",
    "sub",
    "act",
    "exp",
    "iss",
    "txn",
    "refresh_token",
  ]) {
    const answer = await exchange({ [`${name}`]: "x" });
    const [claims, usual] = [decodeJwt(granted(answer, name)), decodeJwt(granted(plain))];
    assert.deepEqual(Object.keys(claims).sort(), Object.keys(usual).sort(), name);
    assert.deepEqual(
      [claims.sub, claims["scope"], claims.aud, claims["act"]],
      [usual.sub, usual["scope"], usual.aud, undefined],
      name,
    );
    await refused(w, badRequest("parameter_repeated"), () => exchange({ [`${name}`]: ["x", "x"] }), `${name} twice`);
  }
  const body = `__proto__=x&constructor=y&__proto__%5Bscope%5D=billing%3Arefund&${encoded()}`;
  assert.equal((await post(body)).body["scope"], "billing:read_invoice");
  assert.equal(({} as Record<string, unknown>)["x"], undefined);
  granted(await exchange());
});

test("A-TX-17 a success has exactly its members, and lives as long as it says, under 60 seconds", async () => {
  for (const [door, ttl] of doors.flatMap((each) =>
    [undefined, "1", "59"].map((seconds) => [each, seconds] as const),
  )) {
    const answer = await throughDoor(door, { ttl });
    const claims = decodeJwt(granted(answer, door.name));
    const members = ["access_token", "expires_in", "issued_token_type", "scope", "token_type"];
    const isExchange = door.name === "subject_token" || door.name === "actor_token";
    assert.deepEqual(
      Object.keys(answer.body).sort(),
      isExchange ? members : members.filter((name) => name !== "issued_token_type"),
      door.name,
    );
    assert.equal(answer.headers.get("cache-control"), "no-store");
    assert.equal(answer.headers.get("access-control-allow-origin"), null);
    assert.equal(answer.body["expires_in"], ttl === undefined ? 45 : Number(ttl));
    assert.equal((claims.exp as number) - w.now(), answer.body["expires_in"]);
    assert.equal(claims.iat, w.now());
    assert.equal(answer.body["token_type"], "Bearer");
    assert.equal(answer.body["scope"], claims["scope"]);
  }
  for (const ttl of ["60", "0", "-1", "1e1", "045", "45.0", " 45", "99999999999999999999", "Infinity", "0x2d"]) {
    await refused(w, badRequest("ttl_out_of_range"), () => exchange({ ttl }), ttl);
  }
  await refusedAtEveryDoor(badRequest("ttl_out_of_range"), { ttl: "60" }, "60");
  await refused(w, badRequest("purpose_too_long"), () => exchange({ purpose: "p".repeat(201) }));
  granted(await exchange({ purpose: "p".repeat(200) }));
});

test("no refusal of this file minted, leaked or broke anything", async () => {
  const token = granted(await exchange());
  assert.equal(
    (await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET })).body["active"],
    true,
  );
  assert.ok((await hops(w)) > 0);
  assert.ok(w.now() > START);
  await assertNothingLeaked(w);
});
