/** Once-only tokens on three real servers: exactly once over all of them, over a kill, and over a crash (CONTRACT §5 "Once"). */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { claimsOf } from "../attacks/chain-world.ts";
import { eventually } from "../support/event-receiver.ts";
import { replicas, type Replica } from "../support/replicas.ts";
import { BILLING_SECRET, settled, type Answer } from "../support/world.ts";

const w = await replicas({ after }, { count: 3 });
const [one, two, three] = w.all as [Replica, Replica, Replica];
await w.apply((usual) =>
  `${usual}  - { name: refunds, agent: release-bot, resource: billing, actions: [refund], once: true }
  - { name: vends, agent: release-bot, resource: vault-key, actions: [vend], residual: unlimited, once: true }
`.replace("\ngrants:", "\n  vault-key: { credential: { static: { secret: vault-key, disclose: true } } }\ngrants:"),
);
const sealed = await settled(() => w.operator(one, "PUT", "/v1/secrets/vault-key", { value: "s3cret" }));
assert.ok(sealed.status < 300, sealed.text);

const issued = async (replica: Replica, scope = "billing:refund"): Promise<string> => {
  const audience = scope.split(":")[0] as string;
  return await w.minted(replica, "release-bot", { resource: undefined, audience, scope });
};
const use = (replica: Replica, token: string, consume: string | undefined = "true"): Promise<Answer> =>
  w.post(replica, "/introspect", { token, consume, client_id: "billing", client_secret: BILLING_SECRET });
const isActive = (answer: Answer): boolean => {
  assert.equal(answer.status, 200, answer.text);
  return answer.body["active"] === true;
};
/** Decisions about tokens' uses, of all replicas. */
const recorded = async (
  type: string,
  tokens: readonly string[],
): Promise<readonly { decision: string; reason: string | null }[]> =>
  await w.database.admin(
    `select decision, reason from ephor.events where type = $1 and body::jsonb ->> 'jti' = any($2)`,
    [type, tokens.map((token) => claimsOf(token).jti)],
  );

test("INV-07 of thirty uses of one token over three replicas at one moment exactly one is active", async () => {
  for (let round = 0; round < 10; round++) {
    const token = await issued(w.all[round % 3] as Replica);
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => use(w.all[i % 3] as Replica, token)));
    assert.equal(answers.filter(isActive).length, 1);
    const events = await recorded("token.consume", [token]);
    assert.equal(events.filter(({ decision }) => decision === "granted").length, 1);
    assert.equal(events.filter(({ reason }) => reason === "replayed").length, 29);
    for (const replica of w.all) assert.equal(isActive(await use(replica, token, undefined)), false);
  }
});

test("INV-07 of vends over three replicas at one moment exactly one is served", async () => {
  for (let round = 0; round < 5; round++) {
    const token = await issued(one, "vault-key:vend");
    const statuses = await Promise.all(
      Array.from({ length: 9 }, async (_, i) => {
        const { url } = w.all[i % 3] as Replica;
        const response = await fetch(`${url}/credentials/vault-key`, {
          method: "POST",
          headers: { authorization: `Bearer ${token}` },
        });
        await response.arrayBuffer();
        return response.status;
      }),
    );
    assert.deepEqual(statuses.toSorted(), [200, ...Array<number>(8).fill(401)]);
  }
});

test("INV-09 no use that begins after a kill's answer is active, on whichever replica; what was used was said, or taken back", async () => {
  let afterwards = 0;
  for (let round = 0; round < 3; round++) {
    const tokens = await Promise.all(Array.from({ length: 60 }, (_, i) => issued(w.all[i % 3] as Replica)));
    let answeredAt = Number.POSITIVE_INFINITY;
    const killing = (async () => {
      await Promise.all(tokens.slice(0, 6).map((token, i) => use(w.all[i % 3] as Replica, token)));
      const killed = await w.operator(two, "POST", "/v1/kill", { agent: "release-bot", reason: "race" });
      answeredAt = performance.now();
      assert.equal(killed.status, 200, killed.text);
    })();
    const late: boolean[] = [];
    const said = new Set<string>();
    // Each replica uses its share, one after the other, across the kill; the last ones for certain after it.
    await Promise.all(
      w.all.map(async (replica, at) => {
        for (const [i, token] of tokens.entries()) {
          if (i < 6 || i % 3 !== at) continue;
          if (i >= tokens.length - 6) await killing;
          const began = performance.now();
          const answer = await use(replica, token);
          const active = answer.status === 200 && answer.body["active"] === true;
          assert.ok(answer.status === 200 || answer.status === 503, answer.text);
          if (active) said.add(token);
          if (began > answeredAt) late.push(active);
        }
      }),
    );
    await killing;
    assert.ok(!late.includes(true), "active after the kill was answered");
    afterwards += late.length;
    for (const token of tokens) assert.equal(isActive(await use(three, token)), false);
    for (const token of tokens.slice(6)) {
      const events = await recorded("token.consume", [token]);
      const uses = events.filter(({ decision }) => decision === "granted").length;
      if (said.has(token)) assert.equal(uses, 1);
      // Written a little later than the answer is sent.
      else if (uses > 0)
        await eventually("a use that was not said is taken back", async () =>
          (await recorded("release.withheld", [token])).length === 1 ? true : undefined,
        );
    }
    await w.operator(two, "POST", "/v1/restore", { agent: "release-bot", reason: "race" });
  }
  assert.ok(afterwards > 0, "no use began after a kill");
});

test("a token that was used stays used when its replica is killed with SIGKILL right after the answer", async () => {
  const token = await issued(one);
  const fresh = await issued(one);
  assert.equal(isActive(await use(three, token)), true);
  three.child.kill("SIGKILL");
  await three.ended;
  const again = await w.start();
  for (const replica of [one, two, again]) {
    assert.equal(isActive(await use(replica, token, undefined)), false);
    assert.equal(isActive(await use(replica, token)), false);
  }
  assert.equal(isActive(await use(again, fresh)), true);
  assert.equal(isActive(await use(one, fresh)), false);
});
