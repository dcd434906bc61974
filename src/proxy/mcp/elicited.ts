import { TemporarilyUnavailableError } from "../../core/oauth/errors.ts";
import { sha256Base64url } from "../../system/hash.ts";
import { checkLives } from "../check-lives.ts";
import type { ProxiedCall } from "../decided.ts";
import { ApprovalRequiredError, BadGatewayError, CutError, type Flowing, type ProxiedAnswer } from "../exchange.ts";
import { RELAYED } from "../forwarded-headers.ts";
import { pendingOf, waited, type Patience } from "../patience.ts";
import { STREAM_LINES, STREAM_TYPE } from "./answering.ts";
import { rpcOf } from "./denials.ts";
import { isRecord, RPC, RpcError, type McpMessage, type McpResponse } from "./message.ts";
import type { Session, SessionOwner } from "./sessions.ts";
import { writeEvent } from "./sse.ts";
import { blankCall, type McpDeps, type Turn } from "./turn.ts";

/** Times that one call asks its client about another approval. */
const ROUNDS = 8;

/** A call in a session whose client opens addresses for its human. */
interface Elicited {
  readonly turn: Turn;
  readonly message: McpMessage;
  readonly opened: Session;
  readonly patience: Patience;
  /** Makes the call, anew each time. */
  readonly attempt: (call: ProxiedCall) => Promise<ProxiedAnswer>;
  readonly pending: ApprovalRequiredError;
}

/**
 * An event stream that asks the client to have its human see to the approval, waits, and goes on with the answer to the call
 * (MCP 2025-11-25, URL mode elicitation).
 */
export function elicited(deps: McpDeps, of: Elicited): ProxiedAnswer {
  let inner: Flowing | undefined;
  const cuts: (() => void)[] = [];
  const chunks = told(deps, of, (begun) => {
    inner = begun;
    cuts.forEach((call) => begun.whenCut(call));
  });
  return {
    status: 200,
    headers: [...RELAYED, ...STREAM_LINES],
    body: {
      chunks,
      // While it waits nothing of an upstream's can flow; a kill ends the wait.
      mayFlow: () => inner?.mayFlow() ?? true,
      whenCut: (call) => (inner === undefined ? void cuts.push(call) : inner.whenCut(call)),
      ended: (how) => inner?.ended(how),
    },
  };
}

async function* told(deps: McpDeps, of: Elicited, begin: (inner: Flowing) => void): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const event = (value: object | string): Uint8Array =>
    encoder.encode(writeEvent(typeof value === "string" ? value : JSON.stringify(value)));
  const { message, attempt } = of;
  let { pending } = of;
  try {
    for (let round = 0; ; round++) {
      yield event(questionOf(deps, of, pending));
      const call = await waited(deps, withName(of, pending), pending);
      yield event({
        jsonrpc: "2.0",
        method: "notifications/elicitation/complete",
        params: { elicitationId: pending.approval.id },
      });
      const answer = await attempt(call).catch((error: unknown) => pendingOf(error));
      if (!(answer instanceof ApprovalRequiredError)) return yield* relayedAs(answer, event, begin);
      pending = answer;
      if (round >= ROUNDS) throw pending;
    }
  } catch (thrown) {
    const error = rpcOf(thrown, message);
    yield event(errorOf(deps, of, error));
  }
}

/** What the call was answered, as events of a stream that has begun. */
async function* relayedAs(
  { headers, body }: ProxiedAnswer,
  event: (text: string) => Uint8Array,
  begin: (inner: Flowing) => void,
): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) return yield event(Buffer.from(body).toString("utf8"));
  begin(body);
  if ("text" in body) return yield event(body.text);
  const type = headers.find(([name]) => name.toLowerCase() === "content-type")?.[1];
  if (type === STREAM_TYPE) return yield* body.chunks;
  // One message, of a length that was looked at where it was read.
  const parts: Uint8Array[] = [];
  for await (const chunk of body.chunks) parts.push(chunk);
  yield event(Buffer.concat(parts).toString("utf8"));
}

/** The error that ends a stream which has begun. @throws {CutError} where its reader must see that it was cut */
function errorOf({ log }: McpDeps, { turn, message }: Elicited, error: unknown): object {
  const id = message.kind === "request" ? message.id : null;
  if (error instanceof RpcError) {
    const { code, message: text, data } = error;
    return { jsonrpc: "2.0", id, error: { code, message: text, ...(data !== undefined && { data }) } };
  }
  const isAway = error instanceof BadGatewayError || error instanceof TemporarilyUnavailableError;
  if (!isAway) throw error instanceof CutError ? error : new CutError("cut", { cause: error });
  const { requestId } = turn.request.presented;
  log.warn("proxy_upstream", { requestId, resource: turn.resource.name, reason: error.message, err: error.cause });
  const text = error instanceof BadGatewayError ? "The server did not answer." : "Not now; try again.";
  return { jsonrpc: "2.0", id, error: { code: RPC.internal, message: text } };
}

function questionOf(deps: McpDeps, { turn, opened, patience }: Elicited, { approval }: ApprovalRequiredError): object {
  const { id: elicitationId, uri: url } = approval;
  const params = { mode: "url", elicitationId, url, message: askingText(patience.call, elicitationId) };
  const id = deps.sessions.sealKeepsake("approval", elicitationId, { owner: turn.owner, session: opened.id });
  return { jsonrpc: "2.0", id, method: "elicitation/create", params };
}

function withName({ turn, opened, patience }: Elicited, { approval }: ApprovalRequiredError): Patience {
  const name = waitNameOf(turn.owner, opened, { approval: approval.id });
  return { ...patience, names: [...(patience.names ?? []), name] };
}

/** What a client's human reads. The names are the trust file's and the scope's, nobody's own words. */
export function askingText({ resource, actions, holder }: ProxiedCall, approval: string): string {
  return `${holder.agent.name} asks to do ${resource.name}:${actions[0] ?? ""}. It needs an approval: ${approval}.`;
}

/**
 * Takes a client's answer to what we asked of its human. It decides nothing: who says no ends the wait, and the approval
 * stands as it stood.
 *
 * @returns whether it was ours that was answered
 * @throws {InvalidTokenError} recorded: whose token has ended says neither yes nor no
 */
export async function elicitationAnswered(deps: McpDeps, turn: Turn, response: McpResponse): Promise<boolean> {
  const { owner, request } = turn;
  const [given, ...more] = request.headers.filter(([name]) => name.toLowerCase() === "mcp-session-id");
  const opened = given && more.length === 0 ? deps.sessions.open(given[1], owner) : undefined;
  if (opened === undefined || typeof response.id !== "string") return false;
  const approval = deps.sessions.openKeepsake("approval", response.id, { owner, session: opened.id });
  if (approval === undefined) return false;
  const { result } = response.said;
  const isLooking = isRecord(result) && result["action"] === "accept";
  const call = blankCall(turn);
  if (isLooking) await checkLives(deps, call);
  else await callOff(deps, call, waitNameOf(owner, opened, { approval }));
  return true;
}

/** By which the waits of a session are called off, from any replica. */
export function waitNameOf(owner: SessionOwner, { id }: Session, what: object): string {
  return sha256Base64url(JSON.stringify([owner.resource, owner.agent, owner.sub, id, what]));
}

/**
 * Ends a wait. Where that cannot be told, it ends by its time.
 *
 * @param call that calls it off; a session has other tokens, whose waits a dead one must not end
 * @throws {InvalidTokenError} recorded
 */
export async function callOff(deps: McpDeps, call: ProxiedCall, name: string): Promise<void> {
  const { waiting, log } = deps;
  const { requestId } = call;
  await checkLives(deps, call);
  await waiting.callOff(name).catch((err: unknown) => log.warn("wait_not_called_off", { requestId, err }));
}
