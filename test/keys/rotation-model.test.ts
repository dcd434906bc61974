import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TemporarilyUnavailableError } from "../../src/core/oauth/errors.ts";
import type { Keys } from "../../src/keys/keys.ts";
import { RETIRED_VERIFIES_SECONDS } from "../../src/keys/key-ring.ts";
import { keysWorld, type KeysWorld, read, signAt } from "./keys-world.ts";

/** Clocks of the replicas are this far off, in opposite directions (A-SEC-06). */
const SKEW_SECONDS = 5;
const LIFE_SECONDS = 59;

/** The replicas, and what must be remembered to judge them; times by the true clock. */
interface Model {
  readonly replicas: readonly [Keys, Keys];
  tokens: { token: string; kid: string; exp: number }[];
  retiredAt: Map<string, number>;
}

/** One thing that happens. Replicas hear of nothing unless they ask: no notification ever arrives. */
type Step =
  | { kind: "advance"; seconds: number }
  | { kind: "sign" | "sign_unprepared" | "rotate" | "tick" | "verify"; replica: 0 | 1 };

const replica = fc.constantFrom(0 as const, 1 as const);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("advance" as const), seconds: fc.constantFrom(1, 9, 19, 29, 39, 600) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("sign" as const, "sign_unprepared" as const), replica }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("rotate" as const, "tick" as const), replica }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("verify" as const), replica }) },
);

/** Each story begins with a rotation that the other replica has not heard of. */
function beginning(rotator: 0 | 1): Step[] {
  return [
    { kind: "advance", seconds: 620 },
    { kind: "tick", replica: rotator === 0 ? 1 : 0 },
    { kind: "rotate", replica: rotator },
  ];
}

async function take(world: KeysWorld, model: Model, next: Step): Promise<void> {
  if (next.kind === "advance") {
    world.clock.advance(next.seconds);
    return;
  }
  const keys = model.replicas[next.replica];
  if (next.kind === "tick") await keys.tick();
  if (next.kind === "rotate") {
    const outcome = await keys.rotate();
    if (outcome.rotated) model.retiredAt.set(outcome.retired, world.clock.seconds());
  }
  if (next.kind === "sign") await keys.fresh();
  if (next.kind === "sign" || next.kind === "sign_unprepared") sign(world, keys, model);
  if (next.kind === "verify") await judge(world, keys, model);
}

function sign(world: KeysWorld, keys: Keys, model: Model): void {
  try {
    const token = signAt(keys, world.clock);
    model.tokens.push({ token, kid: read(token).header.kid as string, exp: world.clock.seconds() + LIFE_SECONDS });
  } catch (error) {
    assert.ok(error instanceof TemporarilyUnavailableError && error.reason === "keys_stale");
  }
}

/** The two promises of INV-23, for every token there ever was. */
async function judge(world: KeysWorld, keys: Keys, model: Model): Promise<void> {
  for (const { token, kid, exp } of model.tokens) {
    const now = world.clock.seconds();
    const retiredAt = model.retiredAt.get(kid);
    const isAccepted = await keys.verifier.prove(read(token));
    if (now < exp) assert.equal(isAccepted, true, "a valid token was refused");
    if (retiredAt !== undefined && now >= retiredAt + RETIRED_VERIFIES_SECONDS + 2 * SKEW_SECONDS) {
      assert.equal(isAccepted, false, "a retired key was accepted");
    }
  }
}

async function twoReplicas(world: KeysWorld): Promise<readonly [Keys, Keys]> {
  return [await world.replica({ skewSeconds: SKEW_SECONDS }), await world.replica({ skewSeconds: -SKEW_SECONDS })];
}

test("A-SEC-06 INV-23 whatever two replicas 10 s apart do, no valid token is refused and no retired key accepted", async (t) => {
  const world = await keysWorld(t);
  const replicas = await twoReplicas(world);
  let rotations = 0;
  await fc.assert(
    fc.asyncProperty(replica, fc.array(step, { minLength: 4, maxLength: 16 }), async (rotator, steps) => {
      const model: Model = { replicas, tokens: [], retiredAt: new Map() };
      for (const next of [...beginning(rotator), ...steps]) await take(world, model, next);
      for (const keys of replicas) await judge(world, keys, model);
      rotations += model.retiredAt.size;
    }),
    { numRuns: 100 },
  );
  assert.ok(rotations > 0);
});

test("A-SEC-06 the last token of a replica that had not heard of the rotation is good until it expires, by every clock", async (t) => {
  const world = await keysWorld(t);
  const [ahead, behind] = await twoReplicas(world);
  world.clock.advance(620);
  await ahead.reload();
  // Retired five seconds ago by its own account, so the window ends early.
  assert.equal((await behind.rotate()).rotated, true);
  world.clock.advance(20);
  const token = read(signAt(ahead, world.clock));
  world.clock.advance(LIFE_SECONDS - 0.001);
  assert.equal(await ahead.verifier.prove(token), true);
  assert.equal(await behind.verifier.prove(token), true);
});
