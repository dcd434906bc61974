import { createRemoteJWKSet, jwtVerify } from "jose";
import type { AuditVerdict } from "../../api/audit.ts";
import type { Chain } from "../../api/chains.ts";
import type { KillReceipt } from "../../api/kill.ts";
import type { TaskCompleted } from "../../api/tasks.ts";
import { JWT_TYP } from "../../core/oauth/vocabulary.ts";
import { createApiClient } from "../../sdk/client/api.ts";
import { chainTree } from "../chain-tree.ts";
import { forItself, onBehalf } from "./cast.ts";
import { borrowRole, seeThrownOut, type OrdersSession } from "./orders.ts";
import { actorsOf, ask, refusal, type Granted, type Scene } from "./scene.ts";
import { callForLong, callTools, seeCut, type DemoTools, type ToolSession } from "./tools.ts";
import { NAMES } from "./trust-file.ts";

/** Tells the whole story. Every claim in it is checked; the first that is not so ends it. */
export async function tell(scene: Scene, tools: DemoTools): Promise<void> {
  const { stage } = scene;
  const release = await selfExchange(scene);
  const carried = await humansRequest(scene);
  const redeemed = await handOver(scene, carried);
  await toolServerChecks(scene, redeemed);
  stage.step(
    "Wider than what was handed over: refused",
    "summary-bot holds a grant to label messages, but was handed only reading.",
  );
  await refusal(scene, "summary-bot", {
    parameters: {
      ...onBehalf(String(redeemed.claims["txn"]), "task", await scene.cast.podToken("summary")),
      resource: NAMES.inbox,
      scope: "inbox:label_message",
    },
    error: "invalid_scope",
    reason: "scope_above_ceiling",
  });
  stage.step(
    "A token from the wrong branch: refused",
    "The same repository, the same issuer, but not the branch that the trust rule names.",
  );
  await refusal(scene, "release-bot", {
    parameters: {
      ...forItself(await scene.cast.ciToken("refs/heads/experiment")),
      resource: NAMES.registry,
      scope: "registry:publish",
    },
    error: "invalid_request",
    reason: "no_rule_matches",
  });
  const session = await borrowRole(scene, carried);
  await drawChain(scene, redeemed, session);
  await endTask(scene, redeemed, session);
  const toolSession = await callTools(scene, tools);
  await killAgent(scene, release, toolSession);
  await verifyRecord(scene);
}

async function selfExchange({ stage, cast }: Scene): Promise<Granted> {
  stage.step(
    "A CI job exchanges the token of its platform",
    "release-bot keeps no secret: its job proves itself by the OIDC token that the CI system signs for it.",
  );
  const answer = await ask({ stage, cast }, "release-bot", {
    ...forItself(await cast.ciToken("refs/heads/main")),
    resource: NAMES.registry,
    scope: "registry:publish",
  });
  stage.claim(
    "the token says agent|release-bot, acting for itself",
    answer.claims.sub === "agent|release-bot" && answer.claims["act"] === undefined,
  );
  stage.claim(`it is good at ${NAMES.registry} alone`, answer.claims.aud === NAMES.registry);
  stage.claim(
    "it lives less than a minute",
    answer.seconds < 60 && (answer.claims.exp ?? 0) - (answer.claims.iat ?? 0) < 60,
  );
  return answer;
}

async function humansRequest({ stage, cast }: Scene): Promise<Granted & { subject: string }> {
  stage.step(
    "Ada asks, an agent carries her request",
    "triage-bot presents Ada's ID token as the subject and its pod's token as the actor. Ada's token never reaches the tool.",
  );
  const subject = await cast.adaToken();
  const answer = await ask({ stage, cast }, "triage-bot", {
    ...onBehalf(subject, "idToken", await cast.podToken("triage")),
    resource: NAMES.inbox,
    scope: "inbox:read_message inbox:label_message",
    purpose: "sort the inbox",
  });
  stage.claim(
    "the token says people|ada, with triage-bot as the actor",
    answer.claims.sub === "people|ada" && actorsOf(answer) === "agent|triage-bot",
  );
  stage.claim("a task was opened for it", typeof answer.claims["txn"] === "string");
  return { ...answer, subject };
}

async function handOver({ stage, cast }: Scene, carried: Granted & { subject: string }): Promise<Granted> {
  stage.step(
    "The agent hands part of the work to a sub-agent",
    "A hand-over token is addressed to summary-bot and is of use to nobody else. triage-bot hands over reading only.",
  );
  const handed = await ask({ stage, cast }, "triage-bot", {
    ...onBehalf(carried.subject, "idToken", await cast.podToken("triage")),
    resource: `${cast.issuer}/agents/summary-bot`,
    scope: "inbox:read_message",
  });
  const redeemed = await ask({ stage, cast }, "summary-bot", {
    ...onBehalf(handed.token, "accessToken", await cast.podToken("summary")),
    resource: NAMES.inbox,
    scope: "inbox:read_message",
  });
  stage.claim("still on behalf of people|ada", redeemed.claims.sub === "people|ada");
  stage.claim(
    "everyone is named: summary-bot, for triage-bot",
    actorsOf(redeemed) === "agent|summary-bot < agent|triage-bot",
  );
  stage.claim("the same task", redeemed.claims["txn"] === carried.claims["txn"]);
  return redeemed;
}

async function toolServerChecks({ stage, cast }: Scene, token: Granted): Promise<void> {
  stage.step(
    "The tool server checks the token",
    "By itself with the published keys (RFC 9068), or by asking (RFC 7662), which also sees ends and kills.",
  );
  stage.does("inbox", `verifies the signature with the keys of ${cast.jwksUri}`);
  const { payload, protectedHeader } = await jwtVerify(token.token, createRemoteJWKSet(new URL(cast.jwksUri)), {
    issuer: cast.issuer,
    audience: NAMES.inbox,
    typ: JWT_TYP.accessToken,
    algorithms: ["ES256"],
  });
  stage.claim(`good, signed with ${protectedHeader.alg}`, payload.jti === token.claims.jti);
  const elsewhere = await jwtVerify(token.token, createRemoteJWKSet(new URL(cast.jwksUri)), {
    issuer: cast.issuer,
    audience: NAMES.registry,
  }).then(
    () => false,
    () => true,
  );
  stage.claim("the registry would refuse it: another audience", elsewhere);
  stage.does("inbox", "POST /introspect");
  const seen = await cast.introspect("inbox", token.token);
  stage.claim(
    "active, with the same chain",
    seen["active"] === true && JSON.stringify(seen["act"]) === JSON.stringify(token.claims["act"]),
  );
  const asked = await cast.introspect("registry", token.token);
  stage.claim("to the registry it is just inactive", asked["active"] === false && Object.keys(asked).length === 1);
}

async function drawChain({ stage, api }: Scene, token: Granted, session: OrdersSession): Promise<void> {
  const txn = String(token.claims["txn"]);
  stage.step("The chain, as the operator sees it", `ephor chain ${txn}`);
  const chain = await api.get<Chain>(`/v1/chains/${txn}`);
  stage.shows(...chainTree(chain));
  stage.claim(
    "triage-bot at the root, summary-bot below it",
    chain.root.agent === "triage-bot" && chain.root.children[0]?.agent === "summary-bot",
  );
  stage.claim("on behalf of people|ada", chain.sub === "people|ada");
  stage.claim(
    "with the database role among what triage-bot holds",
    chain.root.leases.some(({ lease, status }) => lease === session.lease && status === "live"),
  );
}

async function endTask(scene: Scene, token: Granted, session: OrdersSession): Promise<void> {
  const { stage, cast, url } = scene;
  const txn = String(token.claims["txn"]);
  stage.step(
    "The task is over, and everything with it",
    "triage-bot opened the task, so it can end all of it; nobody waits for tokens to expire.",
  );
  const last = await ask(scene, "summary-bot", {
    ...onBehalf(txn, "task", await cast.podToken("summary")),
    resource: NAMES.inbox,
    scope: "inbox:read_message",
  });
  stage.claim(
    "a moment before, summary-bot still gets a token",
    (await cast.introspect("inbox", last.token))["active"] === true,
  );
  stage.does("triage-bot", `POST /v1/tasks/${txn}/complete`);
  const pod = await cast.podToken("triage");
  const ended = await createApiClient({ url, bearer: () => pod }).post<TaskCompleted>(`/v1/tasks/${txn}/complete`, {});
  stage.claim("the whole task has ended", ended.ended === "task");
  stage.claim("summary-bot's token is dead already", (await cast.introspect("inbox", last.token))["active"] === false);
  await seeThrownOut(scene, session);
  await refusal(scene, "summary-bot", {
    parameters: {
      ...onBehalf(txn, "task", await cast.podToken("summary")),
      resource: NAMES.inbox,
      scope: "inbox:read_message",
    },
    error: "invalid_request",
    reason: "task_ended",
  });
}

async function killAgent(scene: Scene, before: Granted, toolSession: ToolSession): Promise<void> {
  const { stage, cast, api } = scene;
  stage.step("An agent misbehaves: kill it", 'ephor kill agent release-bot --reason "runs a strange build"');
  const seen = await cast.introspect("registry", before.token);
  stage.claim("until now its token lives", seen["active"] === true);
  const long = await callForLong(scene, toolSession);
  const receipt = await api.post<KillReceipt>("/v1/kill", { agent: "release-bot", reason: "runs a strange build" });
  stage.shows(
    `receipt ${receipt.id}: ${receipt.lines.map((line) => `${line.kind} ${line.id} ${line.outcome}`).join(", ")}`,
  );
  stage.claim(
    "the receipt says dead",
    receipt.lines.length > 0 && receipt.lines.every((line) => line.outcome === "dead"),
  );
  stage.claim("its token is dead at once", (await cast.introspect("registry", before.token))["active"] === false);
  await seeCut(scene, toolSession, long);
  await refusal(scene, "release-bot", {
    parameters: {
      ...forItself(await cast.ciToken("refs/heads/main")),
      resource: NAMES.registry,
      scope: "registry:publish",
    },
    error: "invalid_request",
    reason: "killed",
  });
}

async function verifyRecord({ stage, api }: Scene): Promise<void> {
  stage.step(
    "The record of all this holds",
    "ephor audit verify: every decision, granted or refused, in a hash chain with signed heads.",
  );
  const verdict = await api.get<AuditVerdict>("/v1/audit/verify");
  stage.claim(`${verdict.events} events, none missing, none changed`, verdict.ok && verdict.events > 0);
}
