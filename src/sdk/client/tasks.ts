import { TOKEN_TYPE } from "../../core/oauth/vocabulary.ts";
import { ConnectionError } from "./errors.ts";
import type { Proof, TypedToken } from "./exchange.ts";
import { callJson, isRecord } from "./wire.ts";

/** A task to be opened. */
export interface TaskOrder {
  readonly purpose: string;
  /** Epoch seconds; the server's default where it is not said. */
  readonly deadline?: number | undefined;
  /** Its ceiling; whatever is granted where it is not said. */
  readonly scopes?: readonly string[] | undefined;
  /** On whose behalf; absent: the agent for itself. */
  readonly subject?: TypedToken | undefined;
}

/** A task that is open. */
export interface OpenTask {
  /** The handle that `/token` takes as `subject_token` of type task. */
  readonly txn: string;
  /** Epoch seconds. */
  readonly deadline: number;
}

/**
 * Opens a task (`POST /v1/tasks`, CONTRACT §5).
 *
 * @throws {ApiError}, {ConnectionError}
 */
export async function openTask(url: string, proof: Proof, order: TaskOrder): Promise<OpenTask> {
  const { purpose, deadline, scopes, subject } = order;
  const { json } = await callJson(url, {
    method: "POST",
    path: "/v1/tasks",
    headers: bearerOf(proof),
    json: {
      purpose,
      ...(deadline !== undefined && { deadline }),
      ...(scopes !== undefined && { scopes }),
      ...(subject && { subject_token: subject.token, subject_token_type: TOKEN_TYPE[subject.type] }),
    },
  });
  if (!isRecord(json) || typeof json["txn"] !== "string" || typeof json["deadline"] !== "number")
    throw new ConnectionError("not_ephor");
  return { txn: json["txn"], deadline: json["deadline"] };
}

/**
 * Ends a task with everything made under it; ending twice is no error.
 *
 * @param timeoutMs longest wait for the answer
 * @throws {ApiError}, {ConnectionError}
 */
export async function completeTask(url: string, proof: Proof, txn: string, timeoutMs?: number): Promise<void> {
  await callJson(url, {
    method: "POST",
    path: `/v1/tasks/${encodeURIComponent(txn)}/complete`,
    headers: bearerOf(proof),
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}

/**
 * How it stands with the asking agent's place in a task: `open`, `ended`, `expired` or `killed`.
 *
 * @param node its place; the opener's is the `txn` itself
 * @throws {ApiError}, {ConnectionError}
 */
export async function readPlaceStatus(url: string, proof: Proof, at: { txn: string; node: string }): Promise<string> {
  const { json } = await callJson(url, {
    method: "GET",
    path: `/v1/tasks/${encodeURIComponent(at.txn)}`,
    headers: bearerOf(proof),
  });
  if (!isRecord(json) || typeof json["status"] !== "string") throw new ConnectionError("not_ephor");
  const nodes = Array.isArray(json["nodes"]) ? json["nodes"].filter(isRecord) : [];
  const own = nodes.find((node) => node["node"] === at.node)?.["status"];
  return json["status"] === "open" && typeof own === "string" ? own : json["status"];
}

function bearerOf(proof: Proof): { authorization: string } {
  return { authorization: `Bearer ${"workloadToken" in proof ? proof.workloadToken : proof.clientAssertion}` };
}
