import assert from "node:assert/strict";
import { test } from "node:test";
import { checkEntries, checkRemaining } from "../../src/registry/check.ts";
import { forbiddenChanges } from "../../src/registry/guard.ts";
import type { Actor } from "../../src/registry/guard.ts";
import { merge } from "../../src/registry/merged.ts";
import { planChanges, printPlan } from "../../src/registry/plan.ts";
import type { StoredObject } from "../../src/registry/store.ts";
import { ISSUER_URL, indexOf, read } from "../core/trust/objects.ts";

const OKTA = { url: "https://acme.okta.example", audience: "a", identifies: "humans", client_id: "0oa1" };
const ISSUERS = {
  okta: OKTA,
  google: { ...OKTA, url: "https://people.example" },
  silent: { url: "https://silent.example", audience: "a", identifies: "humans" },
  ci: { url: "https://ci.example", audience: "a" },
};
const at = (issuer: string, sub = "00u1ab"): object => ({ sign_in: { issuer, claims: { sub } } });

function refused(operators: object, before: object = {}): string[] {
  const entries = read({ issuers: ISSUERS, operators });
  const trust = indexOf(before);
  const { changes } = planChanges("t", entries, [], "whole");
  const merged = merge(trust, entries, changes);
  return checkEntries(entries, { merged, issuerUrl: ISSUER_URL, now: 0, checkSettings: () => [] })
    .map(({ path }) => path.join("."))
    .toSorted();
}

test("an operator signs in at an issuer of humans that has a client_id", () => {
  assert.deepEqual(refused({ dana: at("okta") }), []);
  assert.deepEqual(
    refused({
      dana: {
        sign_in: [
          { issuer: "okta", claims: { sub: "1" } },
          { issuer: "google", claims: { sub: "1" } },
        ],
      },
    }),
    [],
  );
  assert.deepEqual(refused({ dana: at("nowhere") }), ["operators.dana.sign_in.issuer"]);
  assert.deepEqual(refused({ dana: at("ci") }), ["operators.dana.sign_in.issuer"]);
  assert.deepEqual(refused({ dana: at("silent") }), ["operators.dana.sign_in.issuer"]);
});

test("one person is one operator, whatever they are known by", () => {
  const slack = { slack: { team: "T1234", user: "U1234" } };
  const teams = {
    teams: { tenant: "6babcaad-604b-40ac-a9d7-9fd97c0b779f", user: "6babcaad-604b-40ac-a9d7-9fd97c0b779e" },
  };
  assert.deepEqual(refused({ dana: { ...at("okta"), ...slack, ...teams }, sam: at("okta", "00u2cd") }), []);
  assert.deepEqual(refused({ dana: slack, sam: slack }), ["operators.dana.slack", "operators.sam.slack"]);
  assert.deepEqual(refused({ dana: teams, sam: teams }), ["operators.dana.teams", "operators.sam.teams"]);
  assert.deepEqual(refused({ dana: at("okta"), sam: at("okta") }), [
    "operators.dana.sign_in.claims.sub",
    "operators.sam.sign_in.claims.sub",
  ]);
  assert.deepEqual(
    refused({
      dana: { ...at("okta"), email: "dana@acme.example" },
      sam: { ...at("okta", "2"), email: "DANA@acme.example" },
    }),
    ["operators.dana.email", "operators.sam.email"],
  );
  // Also where another source has the other one.
  assert.deepEqual(refused({ dana: slack }, { operators: { sam: slack } }), ["operators.dana.slack"]);
  assert.deepEqual(refused({ dana: at("okta") }, { operators: { dana: slack } }), []);
});

test("names that the ledger gives to the operator key are no operator's", () => {
  assert.deepEqual(refused({ operator: at("okta") }), ["operators.operator"]);
  assert.deepEqual(refused({ start: at("okta") }), ["operators.start"]);
});

test("an issuer at which an operator of another source signs in keeps its client_id", () => {
  const trust = indexOf({ issuers: ISSUERS, operators: { dana: at("okta") } });
  const { client_id: _gone, ...silent } = OKTA;
  const entries = read({ issuers: { okta: silent } });
  const changes = entries.map(({ kind, name, body }) => ({ op: "update" as const, kind, name, body, differences: [] }));
  assert.deepEqual(
    checkRemaining(entries, changes, merge(trust, entries, changes)).map(({ path }) => path.join(".")),
    ["operators.dana.sign_in.issuer"],
  );
});

test("only the operator key says who operates, and at which issuers they sign in", () => {
  const before = { issuers: ISSUERS, operators: { dana: at("okta") } };
  const trust = indexOf(before);
  const forbidden = (actor: Actor, raw: object, gone: readonly string[] = []): string[] => {
    const entries = read(raw);
    const stored: StoredObject[] = read(before)
      .filter(({ kind, name }) => gone.includes(`${kind}/${name}`))
      .map(({ kind, name, body }) => ({ kind, name, body, source: "t", version: 1 }));
    const { changes } = planChanges("t", entries, stored, "whole");
    return forbiddenChanges(actor, changes, trust, entries).map(({ path }) => path.join("/"));
  };
  const changes: [object, string[], string[]][] = [
    [{ operators: { sam: at("okta", "2") } }, [], ["operators/sam"]],
    [{ operators: { dana: { ...at("okta"), roles: ["kill"] } } }, [], ["operators/dana"]],
    [{}, ["operators/dana"], ["operators/dana"]],
    [{ issuers: { okta: OKTA } }, [], ["issuers/okta"]],
    [{ issuers: { google: ISSUERS.google } }, [], []],
    [{ grants: [{ agent: "bot", resource: "ephor", actions: ["secrets"] }] }, [], ["grants/bot-ephor"]],
    [{ grants: [{ agent: "bot", resource: "crm", actions: ["read"] }] }, [], []],
  ];
  for (const [raw, gone, expected] of changes) {
    assert.deepEqual(forbidden({ type: "person", operator: "dana" }, raw, gone), expected);
    assert.deepEqual(forbidden({ type: "agent", name: "admin" }, raw, gone), expected);
    assert.deepEqual(forbidden({ type: "operator", id: "operator" }, raw, gone), []);
  }
});

test("the plan does not call the removal of an operator a kill", () => {
  const stored = read({ operators: { dana: at("okta") } }).map(({ kind, name, body }) => ({
    kind,
    name,
    body,
    source: "t",
    version: 1,
  }));
  const { changes } = planChanges("t", [], stored, "whole");
  assert.equal(printPlan({ source: "t", version: 1, changes, unchanged: 0, warnings: [] })[0], "- operator dana");
});
