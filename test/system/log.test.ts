import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidRequestError } from "../../src/core/oauth/errors.ts";
import { createLog } from "../../src/system/log.ts";
import type { LogFields, LogLevel } from "../../src/system/log.ts";

function lines(level: LogLevel, write: (log: ReturnType<typeof createLog>) => void): Record<string, unknown>[] {
  const written: string[] = [];
  write(createLog({ level, destination: { write: (line) => void written.push(line) } }));
  return written.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("the log", () => {
  it("writes one JSON object a line, with event, level, time and fields", () => {
    const [line] = lines("info", (log) => log.info("token.issued", { agent: "bot", ms: 3 }));
    assert.deepEqual(
      { ...line, time: undefined },
      { level: "info", event: "token.issued", agent: "bot", ms: 3, time: undefined },
    );
    assert.match(String(line?.["time"]), /^\d{4}-\d\d-\d\dT/);
  });

  it("INV-15 drops whatever is not on its list, and anything but scalars", () => {
    const smuggled = {
      agent: "bot",
      authorization: "canary",
      token: "canary",
      issuer: { secret: "canary" },
      jti: ["canary"],
    };
    const [line] = lines("info", (log) => log.info("x", smuggled as unknown as LogFields));
    assert.equal(line?.["agent"], "bot");
    assert.ok(!JSON.stringify(line).includes("canary"));
  });

  it("INV-15 says of an error what it is and where it was, never its message", () => {
    const cause = new SyntaxError('Unexpected token in "canary-secret"');
    const error = Object.assign(new TypeError("canary-secret", { cause }), { code: "E_X" });
    const [line] = lines("info", (log) => log.error("failed", { err: error }));
    const err = line?.["err"] as { name: string; code: string; at: string[]; cause: { name: string } };
    assert.deepEqual([err.name, err.code, err.cause.name], ["TypeError", "E_X", "SyntaxError"]);
    assert.ok(err.at.some((frame) => frame.includes("log.test")));
    assert.ok(!JSON.stringify(line).includes("canary"));
  });

  it("keeps the reason of a refusal", () => {
    const [line] = lines("info", (log) =>
      log.warn("refused", { err: new InvalidRequestError({ reason: "token_expired" }) }),
    );
    assert.equal((line?.["err"] as { reason: string } | undefined)?.reason, "token_expired");
  });

  it("survives thrown values that are no errors, and circles of causes", () => {
    const circle = new Error("a");
    circle.cause = circle;
    const written = lines("info", (log) => {
      log.error("x", { err: "canary" });
      log.error("x", { err: null });
      log.error("x", { err: circle });
    });
    assert.equal(written.length, 3);
    assert.ok(!JSON.stringify(written).includes("canary"));
  });

  it("A-AUD-05 keeps hostile text on its line, and cuts it", () => {
    const [line] = lines("info", (log) => log.info("x", { agent: `a\n{"b":\u001b[31m\u0000${"y".repeat(9_999)}` }));
    assert.equal(String(line?.["agent"]).length, 500);
  });

  it("respects its level, and carries the fields of a child", () => {
    const written = lines("warn", (log) => {
      log.info("quiet");
      log.child({ replica: "r1" }).warn("loud", { agent: "bot" });
    });
    assert.deepEqual(
      written.map(({ event, replica, agent }) => [event, replica, agent]),
      [["loud", "r1", "bot"]],
    );
  });
});
