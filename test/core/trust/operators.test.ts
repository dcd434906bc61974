import assert from "node:assert/strict";
import { test } from "node:test";
import { isOwner, subsOf } from "../../../src/core/trust/operator-index.ts";
import { index, indexOf, problemPaths, read } from "./objects.ts";

const TENANT = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
const USER = "00000000-0000-0000-0000-0000000000aa";

const DANA = {
  email: "dana@acme.example",
  sign_in: { issuer: "okta", claims: { sub: "00u1ab" } },
  roles: ["read", "approve", "kill"],
  groups: ["payments"],
  slack: { team: "T0123ABCD", user: "U0123ABCD" },
  teams: { tenant: TENANT, user: USER },
};

const operators = (entries: object): object => ({ operators: entries });
const person = (sub: string, claims: Record<string, unknown> = {}) => ({
  sub: `okta|${sub}`,
  claims: { sub, ...claims },
});

test("an operator is read whole, and without roles may read and approve", () => {
  const trust = indexOf(operators({ dana: DANA, sam: { slack: { team: "T1234", user: "W1234" } } }));
  const dana = trust.operator("dana");
  assert.ok(dana);
  assert.deepEqual(dana.roles, ["read", "approve", "kill"]);
  assert.deepEqual(dana.groups, ["payments"]);
  assert.deepEqual(subsOf(dana), ["okta|00u1ab"]);
  assert.deepEqual(trust.operator("sam")?.roles, ["read", "approve"]);
  assert.deepEqual(trust.operator("sam")?.groups, []);
  assert.equal(trust.operator("nobody"), undefined);
});

test("an operator is found by Slack, by Teams and by sign-in, exactly", () => {
  const trust = indexOf(operators({ dana: DANA, sam: { sign_in: { issuer: "okta", claims: { sub: "00u2cd" } } } }));
  assert.equal(trust.operatorBySlack("T0123ABCD", "U0123ABCD")?.name, "dana");
  assert.equal(trust.operatorBySlack("T0123ABCD", "U0123ABCE"), undefined);
  assert.equal(trust.operatorBySlack("T9999ABCD", "U0123ABCD"), undefined);
  assert.equal(trust.operatorByTeams(TENANT, USER)?.name, "dana");
  assert.equal(trust.operatorByTeams(USER, TENANT), undefined);
  assert.equal(trust.operatorOf(person("00u1ab"))?.name, "dana");
  assert.equal(trust.operatorOf(person("00u2cd"))?.name, "sam");
  assert.equal(trust.operatorOf(person("00u3ef")), undefined);
  assert.equal(trust.operatorOf({ sub: "google|00u1ab", claims: { sub: "00u1ab" } }), undefined);
});

test("further claims of a sign-in must fit too, at each question", () => {
  const trust = indexOf(operators({ dana: { sign_in: { issuer: "okta", claims: { sub: "00u1ab", acr: "mfa" } } } }));
  assert.equal(trust.operatorOf(person("00u1ab", { acr: "mfa" }))?.name, "dana");
  assert.equal(trust.operatorOf(person("00u1ab", { acr: "pwd" })), undefined);
  assert.equal(trust.operatorOf(person("00u1ab")), undefined);
});

test("an operator who was changed or removed is no longer found by what they had", () => {
  const trust = indexOf(operators({ dana: DANA }));
  const none = { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] };
  const [changed] = read(operators({ dana: { sign_in: { issuer: "okta", claims: { sub: "other" } } } }));
  assert.ok(changed?.kind === "operators");
  trust.apply({ version: 2, deletes: [], upserts: { ...none, operators: [changed.model] } });
  assert.equal(trust.operatorOf(person("00u1ab")), undefined);
  assert.equal(trust.operatorBySlack("T0123ABCD", "U0123ABCD"), undefined);
  assert.equal(trust.operatorByTeams(TENANT, USER), undefined);
  assert.equal(trust.operatorOf(person("other"))?.name, "dana");
  trust.apply({ version: 3, deletes: [{ kind: "operators", name: "dana" }], upserts: none });
  assert.equal(trust.operatorOf(person("other")), undefined);
  assert.deepEqual(trust.operators(), []);
});

test("a person or account that two operators claim is neither", () => {
  const [dana, sam] = read(operators({ dana: DANA, sam: DANA })).map(({ model }) => model);
  const trust = index({ operators: [dana, sam] as never });
  assert.equal(trust.operatorOf(person("00u1ab")), undefined);
  assert.equal(trust.operatorBySlack("T0123ABCD", "U0123ABCD"), undefined);
});

test("an owner is meant by address or by name, exactly", () => {
  const dana = indexOf(operators({ dana: DANA })).operator("dana");
  assert.ok(dana);
  assert.equal(isOwner(dana, "dana@acme.example"), true);
  assert.equal(isOwner(dana, "dana"), true);
  assert.equal(isOwner(dana, "Dana@acme.example"), false);
  assert.equal(isOwner(dana, "sam@acme.example"), false);
});

test("what is no operator is refused, with the key", () => {
  const paths = (entry: object): string[] => problemPaths(operators({ dana: entry }));
  assert.deepEqual(paths(DANA), []);
  assert.deepEqual(paths({ email: "dana@acme.example" }), ["operators.dana.sign_in"]);
  assert.deepEqual(paths({ ...DANA, scim: true }), ["operators.dana.scim"]);
  assert.deepEqual(paths({ ...DANA, email: "dana" }), ["operators.dana.email"]);
  assert.deepEqual(paths({ ...DANA, roles: ["admin"] }), ["operators.dana.roles.0"]);
  assert.deepEqual(paths({ ...DANA, roles: ["read", "read"] }), ["operators.dana.roles"]);
  assert.deepEqual(paths({ ...DANA, slack: { team: "acme", user: "dana" } }), [
    "operators.dana.slack.team",
    "operators.dana.slack.user",
  ]);
  assert.deepEqual(paths({ ...DANA, teams: { tenant: TENANT.toUpperCase(), user: USER } }), [
    "operators.dana.teams.tenant",
  ]);
  const claims = (of: object): string[] => paths({ sign_in: { issuer: "okta", claims: of } });
  // One entry is one person: a group, a list or a pattern would be many.
  assert.deepEqual(claims({ groups: "admins" }), ["operators.dana.sign_in.claims.sub"]);
  assert.deepEqual(claims({ sub: ["00u1ab", "00u2cd"] }), ["operators.dana.sign_in.claims.sub"]);
  assert.deepEqual(claims({ sub: { like: "00u*" } }), ["operators.dana.sign_in.claims.sub"]);
  assert.deepEqual(problemPaths({ operators: [DANA] }), ["operators"]);
});
