/**
 * `npm run soak`: replicas as processes on one PostgreSQL, agents that ask for tokens on all of them without a pause, kills and
 * restores at random, and faults among them. Afterwards what everybody saw is checked: nothing that a kill covers was released
 * after its answer (INV-07 to 10).
 *
 *   npm run soak                          ten minutes
 *   npm run soak -- --seconds 60 --replicas 3 --seed 7
 */
import { parseArgs } from "node:util";
import { replicas, type Replica, type Replicas } from "../../test/support/replicas.ts";
import { checkHistory, type History } from "./history.ts";
import { createChance, type Chance } from "./chance.ts";

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
    const r = await replicas({ after: (fn) => void cleanups.push(fn) }, { count: Number(values.replicas) });
    await r.apply(withBots);
    const history: History = { tokens: [], refused: 0, failed: 0, kills: [], looks: [] };
    const until = performance.now() + Number(values.seconds) * 1_000;
    const soak: Soak = { r, chance, history, until, serving: [...r.all] };
    await Promise.all([
      ...AGENTS.flatMap((agent) => Array.from({ length: ATTACKERS_EACH }, () => attack(soak, agent))),
      look(soak),
      strike(soak),
      harm(soak),
    ]);
    return report(history);
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp();
  }
}

function withBots(usual: string): string {
  const bots = AGENTS.map(
    (name) => `
  ${name}:
    owner: dana@acme.example
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }]`,
  ).join("");
  const grants = AGENTS.map((name) => `  - { agent: ${name}, resource: billing, actions: [read_invoice] }\n`).join("");
  return `${usual.replace("agents:", `agents:${bots}`)}${grants}`;
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

/** Pauses, kills and cuts. One replica at least is left alone, so that kills can be asked for. */
async function harm(soak: Soak): Promise<void> {
  const { r, chance, until, serving } = soak;
  while (performance.now() + 15_000 < until) {
    await pause(2_000 + chance.below(3_000));
    const place = 1 + chance.below(serving.length - 1);
    const replica = serving[place] as Replica;
    switch (chance.below(3)) {
      case 0: {
        const ms = 3_000 + chance.below(7_000);
        say(`paused for ${ms} ms`);
        replica.child.kill("SIGSTOP");
        await pause(ms);
        replica.child.kill("SIGCONT");
        break;
      }
      case 1:
        say("kill -9");
        replica.child.kill("SIGKILL");
        await replica.ended;
        serving[place] = await r.start({ port: Number(new URL(replica.url).port) });
        break;
      default:
        say("database sessions cut");
        await r.database.admin(
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and application_name like 'ephor%'",
        );
    }
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
