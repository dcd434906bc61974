import assert from "node:assert/strict";
import { test } from "node:test";
import { checkMayAct } from "../../../src/core/delegation/may-act.ts";

const identities = [
  { sub: "agent|planner", iss: "https://sts.acme.example" },
  { sub: "system:serviceaccount:support:planner", iss: "https://k8s.example", client_id: "planner" },
];
const refuses = (mayAct: unknown) =>
  assert.throws(
    () => checkMayAct(mayAct, identities),
    { name: "RefusedToken", reason: "may_act_mismatch" },
    JSON.stringify(mayAct),
  );

test("without may_act nothing is refused: grants decide (RFC 8693 §4.4)", () => {
  checkMayAct(undefined, identities);
  checkMayAct(undefined, []);
});

test("the actor that is named may act, under any one of its names", () => {
  checkMayAct({ sub: "agent|planner" }, identities);
  checkMayAct({ sub: "agent|planner", iss: "https://sts.acme.example" }, identities);
  checkMayAct({ client_id: "planner" }, identities);
});

test("A-CHN-04 any other actor is refused", () => {
  refuses({ sub: "agent|fixer" });
  refuses({ sub: "agent|planner", iss: "https://other.example" });
  refuses({ sub: "agent|planner", iss: "https://k8s.example" });
  refuses({ sub: "agent|planner", email: "a@b.example" });
});

test("a may_act that names nobody, or is no object, permits nobody", () => {
  for (const mayAct of [
    null,
    {},
    [],
    "agent|planner",
    [{ sub: "agent|planner" }],
    { sub: ["agent|planner"] },
    { toString: "x" },
  ])
    refuses(mayAct);
  assert.throws(() => checkMayAct({ sub: "agent|planner" }, []), { reason: "may_act_mismatch" });
});
