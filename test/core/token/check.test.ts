import assert from "node:assert/strict";
import { test } from "node:test";
import type { TimeRules } from "../../../src/core/token/check.ts";
import {
  checkAudience,
  checkTimes,
  checkTyp,
  isOwnTyp,
  OUTSIDE_SKEW_SECONDS,
  readString,
  requireString,
} from "../../../src/core/token/check.ts";

const NOW = 1795312800;
const outside: TimeRules = { now: NOW, skewSeconds: OUTSIDE_SKEW_SECONDS, aheadSeconds: OUTSIDE_SKEW_SECONDS };
const good = { exp: NOW + 300, iat: NOW - 10 };
const refuses = (claims: object, reason: string, rules: TimeRules = outside) =>
  assert.throws(() => checkTimes({ ...claims }, rules), { name: "RefusedToken", reason }, JSON.stringify(claims));

test("times of a valid token are returned; iat may be absent where it is not required", () => {
  assert.deepEqual(checkTimes(good, outside), good);
  assert.deepEqual(checkTimes({ exp: NOW + 1 }, outside), { exp: NOW + 1 });
  refuses({ exp: NOW + 1 }, "token_claim_missing", { ...outside, requireIat: true });
});

test("A-JWT-06 exp must be there, a positive whole number, and exact", () => {
  refuses({ iat: NOW }, "token_claim_missing");
  for (const exp of ["1795312845", null, [NOW], {}, true, -1, 0, NOW + 0.5, 1e308, Infinity, NaN, 2 ** 53, 2 ** 63]) {
    refuses({ ...good, exp }, "token_claim_type");
  }
});

test("iat and nbf, where present, are whole numbers too", () => {
  for (const claim of ["iat", "nbf"]) {
    for (const value of ["1", null, [1], -1, 1.5, 2 ** 53]) refuses({ ...good, [claim]: value }, "token_claim_type");
  }
  assert.ok(checkTimes({ ...good, nbf: 0 }, outside));
});

test("A-JWT-07 iat and nbf may be 30 s ahead, not 31", () => {
  assert.ok(checkTimes({ exp: NOW + 300, iat: NOW + 30, nbf: NOW + 30 }, outside));
  refuses({ exp: NOW + 300, iat: NOW + 31 }, "token_not_yet_valid");
  refuses({ exp: NOW + 300, nbf: NOW + 31 }, "token_not_yet_valid");
});

test("A-JWT-07 exp must lie after iat, by no more than the issuer's maximum", () => {
  refuses({ exp: NOW + 10, iat: NOW + 10 }, "token_lifetime");
  refuses({ exp: NOW + 9, iat: NOW + 10 }, "token_lifetime");
  const rules = { ...outside, maxLifetimeSeconds: 600 };
  assert.ok(checkTimes({ iat: NOW, exp: NOW + 600 }, rules));
  refuses({ iat: NOW, exp: NOW + 601 }, "token_lifetime", rules);
  assert.ok(checkTimes({ exp: NOW + 600 }, rules));
  refuses({ exp: NOW + 601 }, "token_lifetime", rules);
});

test("A-JWT-08 expiry has 30 s of skew for outside tokens and none for ours (RFC 7519 §4.1.4)", () => {
  assert.ok(checkTimes({ exp: NOW - 29 }, outside));
  refuses({ exp: NOW - 30 }, "token_expired");
  refuses({ exp: NOW - 31 }, "token_expired");
  const ours = { now: NOW, skewSeconds: 0, aheadSeconds: 5 };
  assert.ok(checkTimes({ exp: NOW + 1 }, ours));
  refuses({ exp: NOW }, "token_expired", ours);
});

test("A-JWT-18 aud is exactly one accepted audience, alone or as the only element", () => {
  const accepted = ["https://sts.acme.example", "api://ephor"];
  assert.equal(checkAudience("api://ephor", accepted), "api://ephor");
  assert.equal(checkAudience(["https://sts.acme.example"], accepted), "https://sts.acme.example");
  const refused: [unknown, string][] = [
    [undefined, "token_claim_missing"],
    [["api://ephor", "https://other.example"], "token_audience"],
    [["api://ephor", "https://sts.acme.example"], "token_audience"],
    [["api://ephor", "api://ephor"], "token_audience"],
    [[], "token_audience"],
    [[["api://ephor"]], "token_claim_type"],
    [1, "token_claim_type"],
    [null, "token_claim_type"],
    [{ 0: "api://ephor", length: 1 }, "token_claim_type"],
    ["API://ephor", "token_audience"],
    ["api://ephor ", "token_audience"],
    ["api://ephor/", "token_audience"],
    ["", "token_audience"],
  ];
  for (const [aud, reason] of refused)
    assert.throws(() => checkAudience(aud, accepted), { name: "RefusedToken", reason });
});

test("A-JWT-13 typ is compared without case and without application/ (RFC 7515 §4.1.9)", () => {
  for (const typ of ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"]) checkTyp(typ, ["at+jwt"]);
  for (const typ of [undefined, "JWT", "at+jwt ", "text/at+jwt", "application/application/at+jwt", "dpop+jwt", ""]) {
    assert.throws(() => checkTyp(typ, ["at+jwt"]), { name: "RefusedToken", reason: "token_typ" }, typ);
  }
  checkTyp(undefined, [undefined, "jwt"]);
  checkTyp("JWT", [undefined, "jwt"]);
});

test("A-JWT-13 what only we sign is told from what others sign as well", () => {
  for (const typ of ["ephor-head+jwt", "application/ephor-approval+jwt", "Ephor-Receipt+jwt", "ephor-feed+jwt"]) {
    assert.equal(isOwnTyp(typ), true, typ);
  }
  for (const typ of [undefined, "JWT", "at+jwt", "oauth-id-jag+jwt"]) assert.equal(isOwnTyp(typ), false, typ);
});

test("a string claim is never what an object inherits, nor empty, nor endless", () => {
  assert.equal(requireString({ sub: "a" }, "sub"), "a");
  assert.equal(readString({}, "sub"), undefined);
  assert.throws(() => requireString({}, "sub"), { reason: "token_claim_missing" });
  assert.throws(() => requireString({}, "constructor"), { reason: "token_claim_missing" });
  for (const sub of ["", 1, null, ["a"], "x".repeat(2049)]) {
    assert.throws(() => readString({ sub }, "sub"), { name: "RefusedToken", reason: "token_claim_type" });
  }
});
