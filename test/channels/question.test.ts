/** What is told of an approval is text that its reader sees, and that its channel takes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { questionOf } from "../../src/channels/question.ts";
import { slackMessage } from "../../src/channels/slack.ts";
import { printable } from "../../src/core/printable.ts";

const slack = {
  kind: "slack",
  name: "payments",
  internal: false,
  channel: "C0123ABCD",
  token: "t",
  signingSecret: "s",
  api: "https://slack.com/api",
} as const;

const questionAbout = (action: string, reason = "x") =>
  questionOf({
    id: "apr_01J00000000000000000000000",
    uri: "https://ephor.example/console/approvals/apr_01J00000000000000000000000",
    status: "pending",
    agent: "bot",
    path: ["bot"],
    sub: "agent|bot",
    txn: "t",
    resource: "crm",
    action,
    args_digest: "d",
    call: {},
    arguments: {},
    needs: [],
    decisions: Array.from({ length: 10 }, () => ({
      by: "operator:dana",
      decision: "approve" as const,
      reason,
      at: "2026-11-23T00:00:00.000Z",
    })),
    created_at: "2026-11-23T00:00:00.000Z",
    expires_at: "2026-11-23T01:00:00.000Z",
  });

test("A-APP-05 no name or reason makes a message that Slack refuses as broken text, so that nobody would be asked", () => {
  for (let shift = 0; shift < 2; shift++)
    for (const question of [
      questionAbout("a".repeat(shift) + "😀".repeat(100)),
      questionAbout("read", "a".repeat(shift) + "😀".repeat(250)),
    ]) {
      const { body } = slackMessage(slack, question, undefined);
      JSON.parse(body, (_name, value: unknown) => {
        if (typeof value === "string") assert.ok(isWellFormed(value), JSON.stringify(value.slice(-20)));
        return value;
      });
    }
});

test("A-APP-05 what looks like nothing is told by its number: fillers, selectors, tags, the Braille blank", () => {
  for (const unseen of ["\u034f", "\u3164", "\ufe0f", "\u2800", "\u{e0101}", "\u{e0041}", "\u202e"])
    assert.equal(printable(`a${unseen}b`), `a\\u{${unseen.codePointAt(0)?.toString(16)}}b`);
  assert.equal(printable("plain, 日本語, ça va 😀"), "plain, 日本語, ça va 😀");
});

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}
