import { ask, ledgerWorld, START } from "../audit/ledger-world.ts";
import type { Cleanup } from "../support/database.ts";
import { ulid } from "../../src/system/random.ts";

export const id = (): string => ulid(START * 1000);
export const HUMAN = "okta|00u1ab";

/**
 * A human's task: triage-bot opens it and hands work to summary-bot, which hands on to writer-bot. Each of the three has a
 * token at a resource.
 */
export async function taskWorld(t: Cleanup) {
  const world = await ledgerWorld(t);
  const gate = world.gate("r1");
  const recorder = world.recorder("r1");
  const [txn, toSummary, toWriter] = [id(), id(), id()];
  const subject = {
    type: "human" as const,
    issuer: "okta",
    sub: HUMAN,
    claims: { email: "ana@acme.example", groups: ["support"], phone: "+1 555 0100" },
  };
  const kill = (agent: string, jti: string) => {
    const keys = [`agent:${agent}`, `txn:${txn}`, `subject:${HUMAN}`, `jti:${jti}`];
    return { keys, epochs: keys.map(() => null) };
  };
  /** A token within the task, at a node. */
  const token = async (at: {
    agent: string;
    node: string;
    path: string[];
    jti?: string;
    resource?: string;
    parent?: string;
    scopes?: string[];
  }) => {
    const { agent, node, path, jti = id(), resource = "billing", parent, scopes = ["billing:read_invoice"] } = at;
    const isHandOver = resource.startsWith("agents/");
    const aud = isHandOver ? `https://sts.acme.example/${resource}` : "https://billing.acme.example";
    const base = ask({
      agent,
      txn,
      jti,
      sub: HUMAN,
      facts: {
        aud,
        node,
        path,
        scope: scopes.join(" "),
        node_parent: parent,
        exp: world.clock.now() + 45,
        opened: undefined,
        handed_over_to: isHandOver ? resource.slice("agents/".length) : undefined,
      },
    });
    const { newTask: _task, newNode, newHop, ...rest } = base;
    const keys = [...new Set([...path.map((name) => `agent:${name}`), `txn:${txn}`, ...kill(agent, jti).keys])];
    return await gate.submit({
      ...rest,
      kill: { keys, epochs: keys.map(() => null) },
      event: { ...rest.event, resource },
      task: { txn, nodes: parent === undefined ? [node] : [parent, node] },
      ...(parent !== undefined &&
        newNode && {
          newNode: {
            ...newNode,
            id: node,
            parent,
            agent,
            path,
            ceiling: scopes,
            kill_keys: keys,
            kill_epochs: keys.map(() => null),
          },
        }),
      newHop: {
        ...newHop!,
        node,
        kind: isHandOver ? "hand_over" : "access",
        aud,
        scopes,
        iat: world.clock.now(),
        exp: world.clock.now() + 45,
      },
    });
  };
  const opening = ask({
    agent: "triage-bot",
    txn,
    sub: HUMAN,
    facts: { path: ["triage-bot"], purpose: "triage inbox" },
  });
  await gate.submit({
    ...opening,
    kill: kill("triage-bot", opening.newHop?.jti ?? ""),
    newTask: { ...opening.newTask!, subject, purpose: "triage inbox" },
    newNode: {
      ...opening.newNode!,
      kill_keys: kill("triage-bot", "").keys,
      kill_epochs: kill("triage-bot", "").epochs,
    },
  });
  await token({ agent: "triage-bot", node: txn, path: ["triage-bot"], jti: toSummary, resource: "agents/summary-bot" });
  const summary = { agent: "summary-bot", node: toSummary, path: ["triage-bot", "summary-bot"] };
  await token({ ...summary, parent: txn });
  await token({ ...summary, jti: toWriter, resource: "agents/writer-bot" });
  const writer = { agent: "writer-bot", node: toWriter, path: ["triage-bot", "summary-bot", "writer-bot"] };
  await token({ ...writer, parent: toSummary });
  return {
    ...world,
    gateOne: gate,
    recorderOne: recorder,
    deps: { db: world.db, clock: world.clock, recorder },
    txn,
    toSummary,
    toWriter,
    token,
    summary,
    writer,
    opened: opening.newHop?.jti ?? "",
  };
}

export type TaskWorld = Awaited<ReturnType<typeof taskWorld>>;
