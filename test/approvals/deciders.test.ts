/** Who may decide, by what the trust objects and the clock say now. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  isApproved,
  killKeysOf,
  nameOf,
  whyNotDecide,
  type Decider,
  type Judged,
} from "../../src/approvals/deciders.ts";
import type { Approver } from "../../src/core/trust/model.ts";
import { agent, indexOf } from "../core/trust/objects.ts";

const NOW = 1_795_284_000;
const okta = (sub: string): object => ({ issuer: "okta", claims: { sub } });
const trust = indexOf({
  operators: {
    dana: { email: "dana@acme.example", sign_in: okta("dana"), slack: { team: "T1234", user: "U1234" } },
    sam: { sign_in: okta("sam"), groups: ["payments"] },
    eve: { sign_in: okta("eve"), groups: ["payments"], roles: ["read"] },
    chat: { slack: { team: "T1234", user: "U9999" }, groups: ["payments"] },
  },
});
trust.apply({
  version: 2,
  deletes: [],
  upserts: {
    issuers: [],
    resources: [],
    grants: [],
    operators: [],
    channels: [],
    agents: [agent("bot"), agent("named", [], { owner: "sam" })],
  },
});

const SUBJECT = "okta|customer";
const asks = (by: readonly Approver[], more: Partial<Judged & { count: number; agent: string }> = {}): Judged => ({
  path: ["bot"],
  txn: "T",
  sub: SUBJECT,
  needs: [{ agent: more.agent ?? "bot", grant: "writes", by, count: more.count ?? 1 }],
  ...more,
});
const signedIn = (sub: string, more: Partial<Extract<Decider, { kind: "person" }>> = {}): Decider => ({
  kind: "person",
  operator: trust.operatorOf({ sub: `okta|${sub}`, claims: { sub } })?.name,
  sub: `okta|${sub}`,
  authTime: NOW - 3_000,
  via: "console",
  ...more,
});
const chat = (operator: string): Decider => ({
  kind: "person",
  operator,
  sub: undefined,
  authTime: undefined,
  via: "slack",
});
const KEY: Decider = { kind: "operator", id: "operator" };

const may = (approval: Judged, decider: Decider): string | undefined =>
  whyNotDecide(approval, decider, { trust, now: NOW, isApproving: true });
const mayDeny = (approval: Judged, decider: Decider): string | undefined =>
  whyNotDecide(approval, decider, { trust, now: NOW, isApproving: false });

test("A-APP-04 an owner is the operator with that address or name, of the agent whose grant asks, or whoever holds the operator key", () => {
  assert.equal(may(asks(["owner"]), signedIn("dana")), undefined);
  assert.equal(may(asks(["owner"]), chat("dana")), undefined);
  assert.equal(may(asks(["owner"]), KEY), undefined);
  assert.equal(may(asks(["owner"]), signedIn("sam")), "approver_not_asked");
  assert.equal(may(asks(["owner"], { agent: "named" }), signedIn("sam")), undefined);
  assert.equal(may(asks(["owner"], { agent: "named" }), signedIn("dana")), "approver_not_asked");
  assert.equal(may(asks(["owner"], { agent: "gone" }), signedIn("dana")), "approver_not_asked");
});

test("A-APP-04 a group is its members with the role approve, never the operator key", () => {
  const group = asks([{ group: "payments" }]);
  assert.equal(may(group, signedIn("sam")), undefined);
  assert.equal(may(group, signedIn("dana")), "approver_not_asked");
  assert.equal(may(group, KEY), "approver_not_asked");
  assert.equal(may(group, signedIn("eve")), "role_missing");
  assert.equal(may(asks([{ group: "other" }]), signedIn("sam")), "approver_not_asked");
  assert.equal(may(group, signedIn("stranger")), "approver_not_asked");
  assert.equal(may(group, chat("nobody")), "approver_not_asked", "removed a moment ago");
});

test("A-APP-04 self is the human on whose behalf the call is made, by a sign-in of the last five minutes, at the console", () => {
  const self = asks(["self"]);
  const at = (authTime: number | undefined): Decider => signedIn("customer", { authTime });
  assert.equal(may(self, at(NOW)), undefined);
  assert.equal(may(self, at(NOW - 300)), undefined);
  assert.equal(may(self, at(NOW - 301)), "sign_in_too_old");
  assert.equal(may(self, at(NOW + 60)), undefined);
  assert.equal(may(self, at(NOW + 61)), "sign_in_too_old");
  assert.equal(may(self, at(undefined)), "sign_in_too_old");
  assert.equal(may(self, signedIn("other", { authTime: NOW })), "approver_not_asked");
  assert.equal(may(self, signedIn("dana", { authTime: NOW })), "approver_not_asked");
  assert.equal(may(self, KEY), "approver_not_asked");
  // The same text by a chat is no sign-in.
  assert.equal(
    may(self, { kind: "person", operator: undefined, sub: SUBJECT, authTime: NOW, via: "slack" }),
    "approver_not_asked",
  );
});

test("A-APP-04 INV-20 the human on whose behalf the call is made is the requester, owner and operator or not", () => {
  const own = asks(["owner", { group: "payments" }], { sub: "okta|dana" });
  assert.equal(may(own, signedIn("dana", { authTime: NOW })), "approver_is_requester");
  assert.equal(may(own, chat("dana")), "approver_is_requester", "nor in a chat");
  assert.equal(may(own, signedIn("sam")), undefined);
  assert.equal(may(own, KEY), undefined);
  // Only where the grant says self; then by a fresh sign-in, and never in a chat.
  const self = asks(["self", "owner"], { sub: "okta|dana" });
  assert.equal(may(self, signedIn("dana", { authTime: NOW })), undefined);
  assert.equal(may(self, signedIn("dana")), "sign_in_too_old");
  assert.equal(may(self, chat("dana")), "approver_is_requester");
  assert.equal(nameOf(signedIn("dana"), self), "human:okta|dana");
});

test("whoever was an operator when he was found, and is not by the trust objects that judge him, is nobody's stand-in", () => {
  const owner = asks(["owner"]);
  // Found as dana by the entry of a moment ago, which is another human's now.
  assert.equal(may(owner, signedIn("former", { operator: "dana" })), "approver_not_asked");
  assert.equal(mayDeny(owner, signedIn("former", { operator: "dana" })), "approver_not_asked");
  assert.equal(may(owner, signedIn("dana", { operator: "dana" })), undefined);
  // By a chat: the account is asked for once more.
  const account = { team: "T1234", user: "U1234" };
  const clicked = (user: string): Decider => ({
    ...(chat("dana") as Extract<Decider, { kind: "person" }>),
    isStill: (now) => now.operatorBySlack(account.team, user)?.name === "dana",
  });
  assert.equal(may(owner, clicked("U1234")), undefined);
  assert.equal(may(owner, clicked("U0000")), "approver_not_asked");
});

test("an operator of whom nobody can tell which human it is approves nothing on behalf of a human", () => {
  const group: readonly Approver[] = [{ group: "payments" }];
  assert.equal(may(asks(group), chat("chat")), "approver_unproven");
  assert.equal(may(asks(group, { sub: "agent|bot" }), chat("chat")), undefined);
});

test("any operator with the role approve may deny, and the human himself where he is asked; nobody else", () => {
  const group = asks([{ group: "payments" }]);
  for (const decider of [KEY, signedIn("dana"), signedIn("sam"), chat("chat")])
    assert.equal(mayDeny(group, decider), undefined);
  assert.equal(mayDeny(group, signedIn("eve")), "role_missing");
  assert.equal(mayDeny(group, signedIn("customer")), "approver_not_asked");
  assert.equal(mayDeny(asks(["self"]), signedIn("customer", { authTime: undefined })), undefined);
  assert.equal(mayDeny(asks(["self"]), signedIn("stranger")), "approver_not_asked");
});

test("count: 2 takes two people: one who comes two ways is one, and what somebody was once does not count", () => {
  const two = asks(["owner", { group: "payments" }], { count: 2 });
  assert.equal(nameOf(signedIn("dana"), two), nameOf(chat("dana"), two));
  const approved = (by: readonly string[]): boolean => isApproved(two, by, trust);
  assert.equal(approved(["operator:dana", "operator:dana"]), false);
  assert.equal(approved(["operator:dana", "operator:sam"]), true);
  assert.equal(approved(["operator:dana", "operator:operator"]), true);
  assert.equal(approved(["operator:dana", "operator:eve"]), false, "she lost the role");
  assert.equal(approved(["operator:dana", "operator:gone"]), false);
  assert.equal(approved(["operator:dana", `human:${SUBJECT}`]), false);
  assert.equal(isApproved(asks(["self"]), [`human:${SUBJECT}`], trust), true);
  assert.equal(isApproved(asks(["self"]), ["human:okta|other"], trust), false);
});

test("a decision dies with its operator, with the human behind and with his issuer", () => {
  assert.deepEqual(killKeysOf(chat("dana"), trust), ["operator:dana", "subject:okta|dana", "issuer:okta"]);
  assert.deepEqual(killKeysOf(signedIn("dana"), trust), ["operator:dana", "subject:okta|dana", "issuer:okta"]);
  assert.deepEqual(killKeysOf(signedIn("customer"), trust), [`subject:${SUBJECT}`, "issuer:okta"]);
  assert.deepEqual(killKeysOf(KEY, trust), []);
});
