/** Rotation of an IAM user's access key at an IAM and an STS that verify every signature, whatever fails on the way. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BROKER, ROLE } from "../support/aws-order.ts";
import { fakeIam, type IamKey } from "../support/fake-iam.ts";
import { fakeSts } from "../support/fake-sts.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const USERS = [
  "calm",
  "second",
  "lost",
  "refused",
  "stuck",
  "late",
  "session",
  "due",
  "kept",
  "raced",
  "overtaken",
  "retried",
] as const;
type User = (typeof USERS)[number];
const iam = await fakeIam({ after });
const sts = await fakeSts(
  { after },
  {
    keys: iam.known,
    roles: {
      [ROLE]: {
        trust: {
          Statement: [
            {
              Effect: "Allow",
              Principal: { AWS: USERS.map((user) => BROKER.replace(/[^/]+$/, user)) },
              Action: ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            },
          ],
        },
      },
    },
  },
);
const w = await world({ after }, { trust: usualTrust, start: Math.floor(Date.now() / 1000) });
const aws = (user: User): string =>
  JSON.stringify({
    aws: {
      role_arn: ROLE,
      region: sts.region,
      endpoint: sts.url,
      iam_endpoint: iam.url,
      secret: `${user}-root`,
      ...(user === "due" && { rotate_every: "2h" }),
    },
  });
await w.apply(
  `
resources:${USERS.map((user) => `\n  ${user}-aws: { credential: ${aws(user)} }`).join("")}
grants:
${USERS.map((user) => `  - { agent: release-bot, resource: ${user}-aws, actions: [vend] }`).join("\n")}
`,
  "aws.yaml",
);

const valueOf = ({ id, secret }: IamKey): string => JSON.stringify({ access_key_id: id, secret_access_key: secret });
async function set(user: User, value: string): Promise<void> {
  const answer = await w.operator("PUT", `/v1/secrets/${user}-root`, { value });
  assert.equal(answer.status, 200, answer.text);
}
/** Every secret key there ever was. */
const canaries = new Set<string>();
async function start(user: User): Promise<IamKey> {
  const key = iam.add(user, { createdAt: new Date(Date.now() - 86_400_000) });
  canaries.add(key.secret);
  await set(user, valueOf(key));
  return key;
}
const rotate = (user: User): Promise<Answer> => w.operator("POST", `/v1/secrets/${user}-root/rotate`);
async function vend(user: User): Promise<Answer> {
  const token = await w.self("release-bot", { audience: `${user}-aws`, scope: `${user}-aws:vend` });
  return w.request("POST", `/credentials/${user}-aws`, {
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
}
const idsOf = (user: User): string[] => {
  for (const { secret } of iam.keys.values()) canaries.add(secret);
  return iam.ofUser(user).map(({ id }) => id);
};
const signerOfLastVend = (): unknown => sts.calls.findLast(({ action }) => action === "AssumeRole")?.signer;
/** What its present keys signed. */
const actions = (user: User): string[] =>
  iam.calls.filter(({ signer }) => iam.keys.get(signer)?.user === user).map(({ action }) => action);
const waiting = async (user: User): Promise<number> =>
  (
    await w.admin(
      "select 1 from ephor.secret_versions v join ephor.secrets s using (name) where name = $1 and v.version > s.version and v.retired_at is null",
      [`${user}-root`],
    )
  ).length;
async function told(user: User): Promise<string[]> {
  const rows = await w.admin<{ decision: string; body: string }>(
    "select decision, body from ephor.events where type = 'secret.rotate' and strpos(body, $1) > 0 order by id",
    [`"secret":"${user}-root"`],
  );
  return rows.map(({ decision, body }) => {
    const { outcome, why, problem, code } = JSON.parse(body) as Record<string, string | undefined>;
    return [decision, why, outcome, problem, problem === "unreachable" ? undefined : code].filter(Boolean).join(" ");
  });
}
async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < 600; round++) {
    if (await look()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail(`never came: ${what}`);
}

test("CONTRACT §7 a rotated access key: the old one is gone at AWS, the new one vends, and nothing waits", async () => {
  const old = await start("calm");
  assert.equal((await vend("calm")).status, 200);
  const answer = await rotate("calm");
  assert.equal(answer.status, 200, answer.text);
  const [next, ...more] = idsOf("calm");
  assert.deepEqual([more, next === old.id, iam.known[old.id]], [[], false, undefined]);
  assert.equal((await vend("calm")).status, 200);
  assert.equal(signerOfLastVend(), next);
  assert.equal(await waiting("calm"), 0);
  assert.deepEqual(await told("calm"), ["granted asked", "noted made", "noted rotated", "noted old one ended"]);
  const last = iam.calls.slice(-2).map(({ action, signer, about }) => [action, signer, about]);
  assert.deepEqual(last, [
    ["UpdateAccessKey", next, old.id],
    ["DeleteAccessKey", next, old.id],
  ]);
  assert.equal((await rotate("calm")).status, 200);
  assert.equal(idsOf("calm").length, 1);
  assert.equal((await vend("calm")).status, 200);
});

test("vends while a key is rotated again and again all succeed", async (t) => {
  await start("raced");
  const agents: number[][] = [[], []];
  let isOver = false;
  t.after(() => (isOver = true));
  const vends = agents.map(async (states) => {
    while (!isOver) states.push((await vend("raced")).status);
  });
  for (let round = 0; round < 4; round++) {
    assert.equal((await rotate("raced")).status, 200);
    // A vend is made once more, not twice: those that this rotation met are over before the next.
    const met = agents.map(({ length }) => length);
    await until("the end of each vend", async () => agents.every(({ length }, at) => length > (met[at] ?? 0)));
  }
  isOver = true;
  await Promise.all(vends);
  assert.deepEqual(new Set(agents.flat()), new Set([200]));
  assert.equal(idsOf("raced").length, 1);
});

test("a vend that is refused with the key before is made once more with the new one; long after a rotation it is refused", async () => {
  await start("retried");
  assert.equal((await rotate("retried")).status, 200);
  const refusal = { code: "InvalidClientTokenId", status: 403 };
  sts.next(refusal);
  assert.equal((await vend("retried")).status, 200);
  sts.next(refusal, refusal);
  assert.equal((await vend("retried")).status, 403);
  w.clock.advance(61);
  sts.next(refusal);
  assert.equal((await vend("retried")).status, 403);
  idsOf("retried");
});

test("a second key of the user that is not ours, even an inactive one, is refused by name, and nothing is changed", async () => {
  const ours = await start("second");
  const other = iam.add("second", { active: false, createdAt: new Date() });
  const answer = await rotate("second");
  assert.equal(answer.status, 422);
  assert.match(answer.text, /order_refused, second_key_exists/);
  assert.deepEqual(idsOf("second"), [ours.id, other.id]);
  assert.deepEqual([await waiting("second"), actions("second")], [0, ["ListAccessKeys"]]);
  assert.equal((await vend("second")).status, 200);
  iam.keys.delete(other.id);
  assert.equal((await rotate("second")).status, 200);
});

test("a key whose answer was lost is deleted by the next attempt; the old one vends meanwhile", async () => {
  const old = await start("lost");
  iam.next("CreateAccessKey", "lost");
  const answer = await rotate("lost");
  assert.equal(answer.status, 503, answer.text);
  const [, orphan = ""] = idsOf("lost");
  assert.deepEqual([idsOf("lost"), await waiting("lost")], [[old.id, orphan], 1]);
  assert.equal((await vend("lost")).status, 200);
  assert.equal((await rotate("lost")).status, 200);
  const [next, ...more] = idsOf("lost");
  assert.deepEqual([more, [old.id, orphan].includes(next ?? "")], [[], false]);
  assert.deepEqual(await told("lost"), [
    "granted asked",
    "noted failed unreachable",
    "granted asked",
    "noted given up",
    "noted leftover ended",
    "granted asked",
    "noted made",
    "noted rotated",
    "noted old one ended",
  ]);
});

test("after a lost answer that made nothing, a key that an operator made later is another's", async () => {
  const ours = await start("kept");
  iam.next("CreateAccessKey", { code: "ServiceFailure", status: 500 });
  assert.equal((await rotate("kept")).status, 503);
  // For a minute nobody knows whether a list that does not have one lags.
  assert.deepEqual([(await rotate("kept")).status, await waiting("kept")], [503, 1]);
  iam.aheadMs = 120_000;
  const other = iam.add("kept", { createdAt: new Date(Date.now() + iam.aheadMs) });
  const answer = await rotate("kept").finally(() => (iam.aheadMs = 0));
  assert.deepEqual([answer.status, /second_key_exists/.test(answer.text)], [422, true]);
  assert.deepEqual(idsOf("kept"), [ours.id, other.id]);
  // What the first attempt left to be looked for is not looked for any more.
  assert.equal(await waiting("kept"), 0);
});

test("a new key that AWS does not accept is deleted, and the old one goes on", async () => {
  const old = await start("refused");
  sts.next({ code: "AccessDenied", status: 403 });
  const answer = await rotate("refused");
  assert.equal(answer.status, 422, answer.text);
  assert.deepEqual([idsOf("refused"), await waiting("refused")], [[old.id], 0]);
  assert.deepEqual(await told("refused"), [
    "granted asked",
    "noted made",
    "noted as it was order_refused AccessDenied",
    "noted failed order_refused AccessDenied",
  ]);
  assert.equal((await vend("refused")).status, 200);
});

test("a new key that could not be deleted, as after a crash, waits to be: the old one counts", async () => {
  const old = await start("stuck");
  sts.next({ code: "AccessDenied", status: 403 });
  iam.next("UpdateAccessKey", { code: "ServiceFailure", status: 500 });
  assert.equal((await rotate("stuck")).status, 422);
  assert.deepEqual([idsOf("stuck").length, await waiting("stuck")], [2, 1]);
  assert.equal((await vend("stuck")).status, 200);
  assert.equal(signerOfLastVend(), old.id);
  assert.equal((await rotate("stuck")).status, 200);
  assert.equal(idsOf("stuck").length, 1);
  // Given up before it is ended: whoever made it, and lives, must not make it count.
  assert.deepEqual((await told("stuck")).slice(3, 6), ["granted asked", "noted given up", "noted leftover ended"]);
});

test("a value that an operator sets during a rotation wins, and the key that was made is deleted", async () => {
  const old = await start("overtaken");
  const setMeanwhile = { meanwhile: () => set("overtaken", valueOf(old)) };
  const overtake = [
    () => iam.next("CreateAccessKey", setMeanwhile),
    () => sts.next({ code: "InvalidClientTokenId", status: 403, ...setMeanwhile }),
  ];
  for (const begin of overtake) {
    begin();
    const answer = await rotate("overtaken");
    assert.equal(answer.status, 409, answer.text);
    assert.deepEqual([idsOf("overtaken"), await waiting("overtaken")], [[old.id], 0]);
    assert.equal((await vend("overtaken")).status, 200);
  }
});

test("a secret with a session's keys cannot be rotated, and AWS is not asked", async () => {
  const key = await start("session");
  await set("session", JSON.stringify({ ...(JSON.parse(valueOf(key)) as object), session_token: "CANARY-session" }));
  const answer = await rotate("session");
  assert.equal(answer.status, 422);
  assert.match(answer.text, /secret_malformed, session_token_in_secret/);
  assert.deepEqual(actions("session"), []);
});

test("an old key that AWS would not delete is deleted by itself; rotate_every rotates without being asked", async () => {
  await start("due");
  const old = await start("late");
  iam.next("DeleteAccessKey", { code: "Throttling", status: 400 });
  assert.equal((await rotate("late")).status, 200);
  assert.deepEqual([idsOf("late").length, iam.known[old.id], await waiting("late")], [2, undefined, 1]);
  assert.equal((await vend("late")).status, 200);
  const [dueBefore] = idsOf("due");
  w.clock.advance(7_201);
  await until("the end of what waited", async () => (await waiting("late")) === 0);
  assert.equal(idsOf("late").length, 1);
  await until("the rotation", async () => !idsOf("due").includes(dueBefore ?? ""));
  await until("its end", async () => (await waiting("due")) === 0);
  assert.equal((await vend("due")).status, 200);
});

test("A-SEC no secret key, old or new, is in the log, the ledger or the database, nor a word of AWS", async () => {
  const rows = await w.admin<{ text: string }>(
    `select string_agg(body, ' ') as text from ephor.events
     union all select string_agg(v::text, ' ') from ephor.secret_versions v
     union all select string_agg(l::text, ' ') from ephor.leases l`,
  );
  const everything = [...w.lines, ...rows.map(({ text }) => text)].join("\n");
  assert.ok(everything.includes("rotation_failed") && everything.includes("rotation_not_ended"));
  assert.ok(canaries.size > 10);
  for (const secret of [...canaries, "CANARY"]) assert.ok(!everything.includes(secret), secret);
});
