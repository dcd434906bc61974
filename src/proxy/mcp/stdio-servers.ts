import { killKey } from "../../core/kill/keys.ts";
import type { TrustIndex } from "../../core/trust/compiled.ts";
import type { CutSignal } from "../../system/cutting.ts";
import { randomToken } from "../../system/random.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { isRecord, RPC, RpcError, type McpMessage, type RpcId, type RpcParams } from "./message.ts";
import { declaredBy, mayBeAsked } from "./questions.ts";
import { LEGACY, MODERN } from "./revision.ts";
import type { SessionOwner } from "./sessions.ts";
import { createBackOff, type BackOff } from "./stdio-back-off.ts";
import { LocalServerError, type LocalServerProblem } from "./stdio-error.ts";
import { startProcess, type LocalProcess, type ProcessDeps } from "./stdio-process.ts";
import { localServerOf, type LocalServer } from "./stdio-server.ts";

/** Ceilings of local servers, in one Ephor process. */
export const LOCAL_LIMITS = {
  processes: 64,
  perResource: 32,
  /** Of one agent for one person at one resource: sessions, and the one without. */
  perOwner: 4,
  /** Without a call, in milliseconds: the next call starts another. */
  idleMs: 60_000,
  /** Without a call, of a session of the older revisions: its client would have to begin anew. */
  idleSessionMs: 15 * 60_000,
  /** Until a server must have said whether it speaks the revision without sessions. */
  discoverMs: 5_000,
} as const;

/** How often idle processes and changed resources are looked for, in milliseconds. */
const LOOK_MS = 500;

/** A message for a local server, decided and released. */
export interface LocalOrder {
  readonly local: LocalServer;
  readonly owner: SessionOwner;
  readonly message: McpMessage;
  readonly era: "modern" | "legacy";
  /** Of a legacy message; none: it must be `initialize`. */
  readonly session: string | undefined;
  /** Whether the caller takes an event stream. */
  readonly events: boolean;
  readonly injected: string | undefined;
  readonly hides: (text: string) => boolean;
  readonly keys: readonly string[];
  readonly epoch: number;
  readonly signal: CutSignal;
}

/** MCP servers that Ephor starts, one process for each agent and person at each resource. */
export interface LocalServers {
  /** Whether a session's process runs here. A session lives where its process does. */
  hasSession(session: string): boolean;
  /** @throws {LocalServerError} */
  send(order: LocalOrder): Promise<UpstreamAnswer>;
  /** Hands a session's server the answer to its question. @returns false where it does not wait for one */
  answer(session: string, id: RpcId, said: RpcParams): boolean;
  endSession(session: string): void;
  close(): Promise<void>;
}

type Deps = ProcessDeps & { readonly trust: () => TrustIndex };

/** What the functions below share. */
interface House {
  readonly deps: Deps;
  readonly running: Set<LocalProcess>;
  readonly sessions: Map<string, LocalProcess>;
  /** By owner: the process without a session, from the moment at which it is started. */
  readonly modern: Map<string, { readonly process: LocalProcess; readonly speaks: Promise<boolean> }>;
  /** Servers that were seen to speak only older revisions, and until when that is believed. */
  readonly onlyLegacy: Map<string, number>;
  readonly backOff: BackOff;
  isClosed: boolean;
  timer: ReturnType<typeof setInterval> | undefined;
}

/** @param deps.trust by which changed and removed resources are seen */
export function createLocalServers(deps: Deps): LocalServers {
  const house: House = {
    deps,
    running: new Set(),
    sessions: new Map(),
    modern: new Map(),
    onlyLegacy: new Map(),
    backOff: createBackOff(),
    isClosed: false,
    timer: undefined,
  };
  const { sessions, modern, running } = house;
  return {
    hasSession: (session) => sessions.has(session),
    async send(order) {
      const { message, era, session } = order;
      if (message.kind === "notification") {
        const process = era === "modern" ? modern.get(ownerKey(order.owner))?.process : sessions.get(session ?? "");
        process?.peer.tell(message);
        return { status: 202, rawHeaders: [], body: NOTHING };
      }
      if (era === "legacy" && session === undefined) return await begun(house, order, message);
      const process = era === "modern" ? await withoutSession(house, order) : sessions.get(session ?? "");
      if (process === undefined || (era === "legacy" && !isFit(process, order))) {
        if (process) retire(house, process);
        throw new LocalServerError("session", { rpc: noSession(message) });
      }
      process.usedMs = deps.clock.monotonicMs();
      return await process.peer.ask({ ...order, message });
    },
    answer(session, id, said) {
      const process = sessions.get(session);
      if (process) process.usedMs = deps.clock.monotonicMs();
      return process?.peer.answer(id, said) ?? false;
    },
    endSession(session) {
      const process = sessions.get(session);
      if (process) retire(house, process);
    },
    async close() {
      house.isClosed = true;
      clearInterval(house.timer);
      await Promise.all([...running].map((process) => process.stop("end")));
    },
  };
}

/** Nobody finds it any more. */
function hide({ sessions, modern }: House, process: LocalProcess): void {
  for (const [id, other] of sessions) if (other === process) sessions.delete(id);
  for (const [key, other] of modern) if (other.process === process) modern.delete(key);
}

function forget(house: House, process: LocalProcess): void {
  hide(house, process);
  house.running.delete(process);
  if (house.running.size > 0) return;
  clearInterval(house.timer);
  house.timer = undefined;
}

/** It gets no further call, and ends with those that it has. */
function retire(house: House, process: LocalProcess): void {
  process.retiring = true;
  hide(house, process);
  if (process.peer.inFlight === 0) void process.stop("end");
}

function look(house: House): void {
  const { deps, running, sessions, onlyLegacy } = house;
  const nowMs = deps.clock.monotonicMs();
  const inSession = new Set(sessions.values());
  for (const process of running) {
    if (process.isStopping) continue;
    const idleMs = inSession.has(process) ? LOCAL_LIMITS.idleSessionMs : LOCAL_LIMITS.idleMs;
    if (process.peer.inFlight > 0) process.usedMs = nowMs;
    const isIdle = nowMs - process.usedMs > idleMs;
    if (process.retiring || isIdle || !isWanted(deps, process)) retire(house, process);
  }
  for (const [print, untilMs] of onlyLegacy) if (untilMs < nowMs) onlyLegacy.delete(print);
}

/** Whether trust still says what it was started by. */
function isWanted({ trust }: Deps, { owner, print }: LocalProcess): boolean {
  const resource = trust().resourceByName(owner.resource);
  const agent = trust().agent(owner.agent);
  return resource?.kind === "mcp" && localServerOf(resource)?.print === print && agent?.status === "active";
}

function start(house: House, order: LocalOrder): LocalProcess {
  const { deps, backOff, running } = house;
  const { owner, local } = order;
  const key = ownerKey(owner);
  const found = deps.programs.find(local.command[0]);
  if (!("path" in found)) {
    deps.log.error("local_server_not_allowed", { resource: owner.resource, note: `${found.what}; ${found.mend}` });
    throw failure("not_allowed", order, "This server's settings do not allow its program.");
  }
  const nowMs = deps.clock.monotonicMs();
  backOff.sweep(nowMs);
  const waitMs = backOff.waitMs(key, nowMs);
  if (waitMs > 0)
    throw failure("back_off", order, `The server ended again and again; try again in ${Math.ceil(waitMs / 1000)} s.`);
  makeRoom(house, order, key);
  const declared = declaredBy(order.message);
  const process = startProcess(deps, {
    ...order,
    program: found.path,
    // A process without a session has no client that said what it answers.
    mayAsk: (method) => mayBeAsked(method, declared),
    // A chain or a token that is killed ends its calls; the process may have those of others.
    keys: order.keys.filter((text) => !text.startsWith(killKey("txn", "")) && !text.startsWith(killKey("jti", ""))),
    onEnd: (ended, { hasFailed }) => {
      forget(house, ended);
      if (hasFailed) backOff.failed(key, { startedMs: ended.startedMs, nowMs: deps.clock.monotonicMs() });
    },
  });
  running.add(process);
  house.timer ??= setInterval(look, LOOK_MS, house).unref();
  return process;
}

/** @throws {LocalServerError} `busy`, where not even an idle one of the same owner can make room */
function makeRoom(house: House, order: LocalOrder, key: string): void {
  const all = [...house.running];
  const own = all.filter(({ owner }) => ownerKey(owner) === key);
  const isFull =
    house.isClosed ||
    all.length >= LOCAL_LIMITS.processes ||
    all.filter(({ owner }) => owner.resource === order.owner.resource).length >= LOCAL_LIMITS.perResource ||
    own.length >= LOCAL_LIMITS.perOwner;
  if (!isFull) return;
  const [oldest] = own
    .filter(({ peer, isStopping }) => peer.inFlight === 0 && !isStopping)
    .toSorted((a, b) => a.usedMs - b.usedMs);
  if (oldest === undefined || house.isClosed)
    throw failure("busy", order, "Too many local servers run; try again later.");
  retire(house, oldest);
}

/** The process without a session, asked first which revisions it speaks. */
async function withoutSession(house: House, order: LocalOrder): Promise<LocalProcess> {
  const { deps, modern, onlyLegacy } = house;
  const { local, owner } = order;
  const key = ownerKey(owner);
  if ((onlyLegacy.get(local.print) ?? 0) > deps.clock.monotonicMs()) throw unsupported(order);
  let kept = modern.get(key);
  if (kept && !isFit(kept.process, order)) {
    // Its program or its credential is another one now.
    retire(house, kept.process);
    kept = undefined;
  }
  if (kept === undefined) {
    const process = start(house, order);
    kept = { process, speaks: speaksModern(process) };
    modern.set(key, kept);
  }
  const { process } = kept;
  if (await kept.speaks) return process;
  onlyLegacy.set(local.print, deps.clock.monotonicMs() + LOCAL_LIMITS.idleMs);
  retire(house, process);
  throw unsupported(order);
}

/** A session of the older revisions: the process that answers its `initialize`. */
async function begun(
  house: House,
  order: LocalOrder,
  message: Extract<McpMessage, { kind: "request" }>,
): Promise<UpstreamAnswer> {
  const process = start(house, order);
  const session = randomToken(24);
  house.sessions.set(session, process);
  try {
    const answer = await process.peer.ask({
      ...order,
      message,
      onAnswer: ({ result }) => {
        if (!isRecord(result)) retire(house, process);
      },
    });
    return { ...answer, rawHeaders: [...answer.rawHeaders, "mcp-session-id", session] };
  } catch (error) {
    retire(house, process);
    throw error;
  }
}

/** A session whose process is not here: the client is to begin anew (MCP 2025-11-25, session management). */
export function noSession(message: McpMessage): RpcError {
  const id = message.kind === "request" ? message.id : undefined;
  return new RpcError(RPC.invalidRequest, "There is no such session.", { status: 404, id });
}

/** Whether a process has what an order wants: the same program, the same credential. */
function isFit({ print, injected, isStopping, retiring }: LocalProcess, order: LocalOrder): boolean {
  return print === order.local.print && injected === order.injected && !isStopping && !retiring;
}

function ownerKey({ resource, agent, sub }: SessionOwner): string {
  return JSON.stringify([resource, agent, sub]);
}

const DISCOVER = {
  kind: "request",
  id: "ephor",
  method: "server/discover",
  params: {
    _meta: {
      "io.modelcontextprotocol/protocolVersion": MODERN[0],
      "io.modelcontextprotocol/clientInfo": { name: "ephor", version: "1" },
      "io.modelcontextprotocol/clientCapabilities": {},
    },
  },
} as const satisfies McpMessage;

/** Whether a server that was just started speaks the revision without sessions. @throws {LocalServerError} it ended */
async function speaksModern({ peer }: LocalProcess): Promise<boolean> {
  const found: unknown[] = [];
  const signal = AbortSignal.timeout(LOCAL_LIMITS.discoverMs);
  try {
    await peer.ask({
      message: DISCOVER,
      events: false,
      signal,
      onAnswer: ({ result }) => {
        if (isRecord(result) && Array.isArray(result["supportedVersions"])) found.push(...result["supportedVersions"]);
      },
    });
  } catch (error) {
    // Silence says that it does not know the method.
    if (!signal.aborted) throw error;
  }
  return MODERN.some((version) => found.includes(version));
}

function unsupported(order: LocalOrder): LocalServerError {
  const id = order.message.kind === "request" ? order.message.id : undefined;
  const data = { supported: [...LEGACY], requested: MODERN[0] };
  const text = "This server speaks older protocol versions.";
  return new LocalServerError("revision", {
    rpc: new RpcError(RPC.unsupportedVersion, text, { status: 400, id, data }),
  });
}

function failure(problem: LocalServerProblem, { message }: LocalOrder, text: string): LocalServerError {
  const id = message.kind === "request" ? message.id : undefined;
  return new LocalServerError(problem, { rpc: new RpcError(RPC.internal, text, { status: 503, id }) });
}

const NOTHING: UpstreamAnswer["body"] = {
  async *[Symbol.asyncIterator]() {},
  destroy() {},
};
