import assert from "node:assert/strict";
import { after, test } from "node:test";
import { world } from "../support/world.ts";

const w = await world({ after });
const plain = "canary-pasted-value";
const file = (settings: string, beside = ""): string => `resources:
  crm:
    credential:
      ${settings}
${beside}`;
const apply = (text: string) => w.operator("POST", "/v1/apply", { source: "vault.yaml", file: text });

const refused: readonly [title: string, text: string, at: { line: number; key: string }][] = [
  [
    "a mistyped key",
    file("static: { secret: crm-key, disclos: true }"),
    { line: 4, key: "resources.crm.credential.static.disclos" },
  ],
  [
    "a key that is missing",
    file("static: { disclose: true }"),
    { line: 4, key: "resources.crm.credential.static.secret" },
  ],
  [
    "a value pasted where a secret's name belongs",
    file(`static: { secret: "${plain} with spaces", disclose: true }`),
    { line: 4, key: "resources.crm.credential.static.secret" },
  ],
  [
    "settings that do not go together",
    file("oauth: { token_url: https://crm.example/token, client_id: crm, secret: crm-client, grant: refresh_token }"),
    { line: 4, key: "resources.crm.credential.oauth.refresh_secret" },
  ],
  ["a kind that nobody makes", file("slack: { secret: crm-key }"), { line: 4, key: "resources.crm.credential.slack" }],
  [
    "disclose beside a kind that has no use for it",
    file("postgres: { host: db, database: orders, secret: orders-admin, roles: [readers] }", "    disclose: true\n"),
    { line: 5, key: "resources.crm.disclose" },
  ],
];

for (const [title, text, at] of refused) {
  test(`${title} stops the apply with file, line, key and mend`, async () => {
    const answer = await apply(text);
    assert.equal(answer.status, 422, answer.text);
    const problems = answer.body["errors"] as Record<string, unknown>[];
    const problem = problems.find(({ path, line }) => path === at.key && line === at.line);
    assert.ok(problem, answer.text);
    assert.ok(String(problem["mend"]).length > 0);
    assert.ok(!answer.text.includes(plain));
    assert.equal((await w.operator("GET", "/v1/resources/crm")).status, 404);
  });
}

test("a single object is judged as a file is, and what its provider takes is applied", async () => {
  const bad = await w.operator("PUT", "/v1/resources/one", { credential: { static: { secert: "crm-key" } } });
  assert.equal(bad.status, 422, bad.text);
  const good = await w.operator("PUT", "/v1/resources/one", {
    credential: { static: { secret: "crm-key", disclose: true } },
  });
  assert.equal(good.status, 201, good.text);
  const applied = await apply(file("static: { secret: crm-key }", "    disclose: true\n"));
  assert.equal(applied.status, 200, applied.text);
});
