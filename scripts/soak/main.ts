/**
 * `npm run soak`: replicas as processes on one PostgreSQL, agents that ask for tokens on all of them without a pause, kills and
 * restores at random, and faults among them: replicas paused and shot, database sessions cut, the database stopped fast and
 * immediately and started again on its folder, a replica's network cut. Each comes in turn, so that a minute sees nearly all.
 * Afterwards what everybody saw is checked: nothing that a kill covers was released after its answer (INV-07 to 10).
 *
 *   npm run soak                          ten minutes
 *   npm run soak -- --seconds 60 --replicas 3 --seed 7
 */
import { parseArgs } from "node:util";
import { replicas, type Replica, type Replicas } from "../../test/support/replicas.ts";
import { checkHistory, type History } from "./history.ts";
import { createChance, type Chance } from "./chance.ts";
import { harm } from "./faults.ts";
import { layWire } from "./wire.ts";

const AGENTS = ["bot-1", "bot-2", "bot-3", "bot-4"];
const ATTACKERS_EACH = 2;
/** A paused replica answers nobody; its clients give up, milliseconds. */
const PATIENCE_MS = 4_000;
/** A kill waits for replicas that may be paused, milliseconds. */
const KILL_PATIENCE_MS = 10_000;
const BILLING_SECRET = "billing-secret-0123456789abcdefghijklmnopqrstuv";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    replicas: { type: "string", default: "3" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
  },
});

interface Soak {
  readonly r: Replicas;
  readonly chance: Chance;
  readonly history: History;
  readonly until: number;
  /** By place: a replica that was killed is replaced by its successor on the same port. */
  readonly serving: Replica[];
}

process.exitCode = await main();

async function main(): Promise<number> {
  const cleanups: (() => unknown)[] = [];
  try {
    const chance = createChance(Number(values.seed));
    say(`seed ${values.seed}, ${values.seconds} s, ${values.replicas} replicas`);
    const cleanup = { after: (fn: () => unknown) => void cleanups.push(fn) };
    const r = await replicas(cleanup, { count: Number(values.replicas) - 1 });
    const wire = await layWire(cleanup, r.database.url);
    say(`the network is cut by ${wire.words}`);
    await r.start({ env: wire.env, ...(wire.place && { place: wire.place }) });
    const { keys } = (await (await fetch(r.workloads.jwksUri)).json()) as { keys: unknown[] };
    await r.apply((usual) => withBots(usual, r.workloads.url, keys));
    const history: History = { tokens: [], refused: 0, failed: 0, kills: [], looks: [] };
    const until = performance.now() + Number(values.seconds) * 1_000;
    const soak: Soak = { r, chance, history, until, serving: [...r.all] };
    const [faults] = await Promise.all([
      harm({ ...soak, wire }, until, say),
      ...AGENTS.flatMap((agent) => Array.from({ length: ATTACKERS_EACH }, () => attack(soak, agent))),
      look(soak),
      strike(soak),
    ]);
    say(`faults: ${[...faults].map(([name, count]) => `${count} × ${name}`).join(", ")}`);
    return report(history);
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp();
  }
}

/** @param keys of the workloads' issuer: a replica in a network of its own does not reach it */
function withBots(usual: string, issuerUrl: string, keys: unknown): string {
  const bots = AGENTS.map(
    (name) => `
  ${name}:
    owner: dana@acme.example
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }]`,
  ).join("");
  const grants = AGENTS.map((name) => `  - { agent: ${name}, resource: billing, actions: [read_invoice] }\n`).join("");
  const pinned = usual.replace(`"${issuerUrl}", `, `"${issuerUrl}", jwks: ${JSON.stringify({ keys })}, `);
  return `${pinned.replace("agents:", `agents:${bots}`)}${grants}`;
}

/** Asks for tokens without a pause, each time with a workload token that nobody saw. */
async function attack({ r, chance, history, until, serving }: Soak, agent: string): Promise<void> {
  while (performance.now() < until) {
    const sentAt = performance.now();
    const answer = await within(PATIENCE_MS, r.self(chance.of(serving), agent));
    const receivedAt = performance.now();
    if (answer?.status === 200) {
      const token = String(answer.body["access_token"]);
      history.tokens.push({ agent, sentAt, receivedAt, token });
    } else if (answer?.status === 400) history.refused += 1;
    else {
      history.failed += 1;
      await pause(20);
    }
  }
}

/** Introspects tokens that were seen, old and new, anywhere. */
async function look({ r, chance, history, until, serving }: Soak): Promise<void> {
  while (performance.now() < until) {
    const seen = history.tokens.length === 0 ? undefined : chance.of(history.tokens.slice(-200));
    if (seen === undefined) {
      await pause(5);
      continue;
    }
    const sentAt = performance.now();
    const form = { token: seen.token, client_id: "billing", client_secret: BILLING_SECRET };
    const answer = await within(PATIENCE_MS, r.post(chance.of(serving), "/introspect", form));
    if (answer?.status === 200) history.looks.push({ of: seen, sentAt, isActive: answer.body["active"] === true });
  }
}

/** Kills an agent, lets it be dead for a while, and restores it; at the replica that nobody harms. */
async function strike({ r, chance, history, until, serving }: Soak): Promise<void> {
  const unharmed = serving[0] as Replica;
  while (performance.now() < until) {
    await pause(200 + chance.below(600));
    const agent = chance.of(AGENTS);
    const calledAt = performance.now();
    const order = { agent, reason: "soak" };
    const killed = await within(KILL_PATIENCE_MS, r.operator(unharmed, "POST", "/v1/kill", order));
    const answeredAt = performance.now();
    const isAnswered = killed?.status === 200;
    await pause(100 + chance.below(400));
    const restoredFrom = performance.now();
    if (isAnswered) history.kills.push({ agent, calledAt, answeredAt, deadUntil: restoredFrom });
    // Whatever came of it: the agent lives again before the next one.
    while ((await within(KILL_PATIENCE_MS, r.operator(unharmed, "POST", "/v1/restore", order)))?.status !== 200)
      await pause(100);
  }
}

function report(history: History): number {
  const faults = checkHistory(history);
  const { tokens, refused, failed, kills, looks } = history;
  const answers = kills.map(({ calledAt, answeredAt }) => answeredAt - calledAt).toSorted((a, b) => a - b);
  const at = (share: number): string => (answers[Math.floor(answers.length * share)] ?? 0).toFixed(0);
  say(
    `${tokens.length} tokens, ${refused} refusals, ${failed} failures, ${looks.length} introspections, ${kills.length} kills ` +
      `answered in ${at(0.5)} ms (p50), ${at(0.99)} ms (p99)`,
  );
  for (const fault of faults.slice(0, 20)) say(`✖ ${fault}`);
  const isEnough = tokens.length > 0 && kills.length > 0 && refused > 0;
  if (!isEnough) say("✖ too little happened to say anything");
  say(
    faults.length === 0 && isEnough
      ? "✔ nothing that a kill covers was released after its answer"
      : `✖ ${faults.length} faults`,
  );
  return faults.length === 0 && isEnough ? 0 : 1;
}

function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  return Promise.race([work.catch(() => undefined), pause(ms).then(() => undefined)]);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function say(text: string): void {
  console.log(text);
}
